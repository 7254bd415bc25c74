//! What is said about a bucket besides its location: a closed list of keys.

use std::collections::BTreeMap;
use std::fmt;

use lode_core::config::{Environment, Secret, expand_env};
use lode_core::{ErrorKind, Problem, nearest};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::StoreLocation;
use super::location::Kind;
use crate::LakeError;

/// Key, the stores that take it, whether it is `true` or `false`.
const KEYS: [(&str, &[Kind], bool); 16] = [
    // Of test doubles, other makers' S3, private links: `https://host:9000`, without the bucket.
    ("endpoint", &[Kind::S3, Kind::Azure, Kind::Gcs, Kind::Oci], false),
    // Without it, an endpoint must be `https://`.
    ("allow_http", &[Kind::S3, Kind::Azure, Kind::Gcs, Kind::Oci], true),
    ("region", &[Kind::S3, Kind::Oci], false),
    // `https://host/bucket`, not `https://bucket.host`. Default: with an endpoint, or a dot in the bucket's name.
    ("path_style", &[Kind::S3], true),
    ("access_key_id", &[Kind::S3, Kind::Oci], false),
    ("secret_access_key", &[Kind::S3, Kind::Oci], false),
    ("session_token", &[Kind::S3], false),
    // No signature: a bucket that everybody may write, as test doubles have.
    ("anonymous", &[Kind::S3, Kind::Azure, Kind::Gcs], true),
    ("account", &[Kind::Azure], false),
    ("account_key", &[Kind::Azure], false),
    ("sas_token", &[Kind::Azure], false),
    ("tenant_id", &[Kind::Azure], false),
    ("client_id", &[Kind::Azure], false),
    ("client_secret", &[Kind::Azure], false),
    // Path of the JSON key of a service account.
    ("service_account", &[Kind::Gcs], false),
    // The same key itself.
    ("service_account_key", &[Kind::Gcs], false),
];

/// The names alone, for the messages of configuration.
const NAMES: &[&str] = &[
    "endpoint",
    "allow_http",
    "region",
    "path_style",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "anonymous",
    "account",
    "account_key",
    "sas_token",
    "tenant_id",
    "client_id",
    "client_secret",
    "service_account",
    "service_account_key",
];

/// Options of a store; they go over the environment. Reads from a map of configuration and from key and value; `Debug`
/// shows no value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    values: BTreeMap<&'static str, Secret>,
}

impl StoreOptions {
    /// All keys, whatever the store.
    pub fn keys() -> &'static [&'static str] {
        NAMES
    }

    /// This with one more value. Errors: `StoreOption` for an unknown key and for a flag that is neither
    /// `true` nor `false`.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Result<Self, LakeError> {
        let value = value.into();
        let refuse = |reason: String, fix: String| LakeError::StoreOption { reason, fix };
        let Some((name, _, is_flag)) = KEYS.iter().find(|(name, ..)| *name == key) else {
            let fix = match nearest(key, NAMES.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known keys: {}", NAMES.join(", ")),
            };
            return Err(refuse(format!("\"{key}\" is no option of a store"), fix));
        };
        if *is_flag && value.parse::<bool>().is_err() {
            return Err(refuse(format!("option \"{key}\" is not true or false"), format!("write `{key}: true`")));
        }
        self.values.insert(name, Secret::new(value));
        Ok(self)
    }

    /// Errors: `Open` with kind `Config` for a key that such a store does not have. Asks nothing of the network.
    pub fn check(&self, location: &StoreLocation) -> Result<(), LakeError> {
        let kind = location.kind();
        for key in self.values.keys() {
            let takes = |(name, kinds, _): &(&str, &[Kind], bool)| name == key && kinds.contains(&kind);
            if KEYS.iter().any(takes) {
                continue;
            }
            let known: Vec<&str> =
                KEYS.iter().filter(|(_, kinds, _)| kinds.contains(&kind)).map(|(name, ..)| *name).collect();
            return Err(LakeError::Open {
                store: location.to_string(),
                kind: ErrorKind::Config,
                reason: format!("{} has no option \"{key}\"", kind.name()),
                fix: match known.is_empty() {
                    true => format!("take \"{key}\" out"),
                    false => format!("take \"{key}\" out; its options are {}", known.join(", ")),
                },
                source: None,
            });
        }
        Ok(())
    }

    /// The keys that have a value.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }

    /// This with each `${env:NAME}` of a value replaced. Errors: `Config` for a variable that is not set.
    pub fn expanded(&self, env: &Environment) -> Result<Self, Problem> {
        let expanded = |(key, value): (&&'static str, &Secret)| {
            let value =
                expand_env(value.reveal(), env).map_err(|problem| problem.context(format!("option \"{key}\"")))?;
            Ok((*key, Secret::new(value)))
        };
        Ok(Self { values: self.values.iter().map(expanded).collect::<Result<_, Problem>>()? })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        debug_assert!(NAMES.contains(&key), "{key} is no option");
        self.values.get(key).map(Secret::reveal).filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(|value| value.parse().ok())
    }
}

impl<'de> Deserialize<'de> for StoreOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Options;

        impl<'de> Visitor<'de> for Options {
            type Value = StoreOptions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of options of a store")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StoreOptions, A::Error> {
                let mut options = StoreOptions::default();
                while let Some(key) = map.next_key::<String>()? {
                    let Some((_, _, is_flag)) = KEYS.iter().find(|(name, ..)| *name == key) else {
                        return Err(A::Error::unknown_field(&key, NAMES));
                    };
                    let value = match is_flag {
                        true => map.next_value::<bool>()?.to_string(),
                        false => map.next_value::<String>()?,
                    };
                    options = options.with(&key, value).map_err(A::Error::custom)?;
                }
                Ok(options)
            }
        }

        deserializer.deserialize_map(Options)
    }
}

#[cfg(test)]
mod tests {
    use lode_core::{Explain, config};

    use super::*;

    #[test]
    fn both_lists_of_keys_are_one() {
        assert_eq!(KEYS.map(|(name, ..)| name), NAMES);
    }

    #[test]
    fn every_key_is_explained() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/stores.md")).unwrap();
        let missing: Vec<&&str> = NAMES.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "docs/reference/stores.md does not name {missing:?}");
    }

    #[test]
    fn an_unknown_key_is_named_with_the_near_one() {
        let error = StoreOptions::default().with("endpont", "x").unwrap_err();
        assert_eq!(error.to_string(), "\"endpont\" is no option of a store");
        assert_eq!(error.remedy().unwrap(), "did you mean \"endpoint\"?");
        let error = StoreOptions::default().with("colour", "x").unwrap_err();
        assert!(error.remedy().unwrap().starts_with("known keys: endpoint, allow_http, "));
        let error = StoreOptions::default().with("allow_http", "yes").unwrap_err();
        assert_eq!(error.remedy().unwrap(), "write `allow_http: true`");
    }

    #[test]
    fn a_key_of_another_store_is_refused() {
        let options = StoreOptions::default().with("account_key", "x").unwrap();
        options.check(&"az://box".parse().unwrap()).unwrap();
        let error = options.check(&"gs://bucket/lake".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not open store \"gs://bucket/lake\": Google Cloud storage has no option \"account_key\""
        );
        assert_eq!(
            error.remedy().unwrap(),
            "take \"account_key\" out; its options are endpoint, allow_http, anonymous, service_account, service_account_key"
        );
        let error = options.check(&"/data/lake".parse().unwrap()).unwrap_err();
        assert_eq!(error.remedy().unwrap(), "take \"account_key\" out");
    }

    #[test]
    fn options_are_read_from_configuration() {
        let options: StoreOptions = config::parse("region: eu-west-1\nallow_http: true\n", "lode.yml").unwrap();
        assert_eq!((options.get("region"), options.flag("allow_http")), (Some("eu-west-1"), Some(true)));
        let problem = config::parse::<StoreOptions>("regoin: x\n", "lode.yml").unwrap_err();
        assert_eq!(problem.remedy(), Some("did you mean \"region\"?"));
        assert!(config::parse::<StoreOptions>("allow_http: often\n", "lode.yml").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let options = StoreOptions::default().with("secret_access_key", "hush").unwrap();
        assert_eq!(format!("{options:?}"), "StoreOptions { values: {\"secret_access_key\": Secret(***)} }");
    }
}
