//! Access keys in `~/.aws`, which the library does not read. Profiles that name a role or a single sign-on are not followed.
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lode_core::config::Environment;

/// What a profile says, as far as it is used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) name: String,
    /// Key id, secret, session token.
    pub(super) keys: Option<(String, String, Option<String>)>,
    pub(super) region: Option<String>,
    /// Its keys come from a role or a sign-on.
    pub(super) is_indirect: bool,
    pub(super) is_found: bool,
}

/// Reads the profile of `AWS_PROFILE`, or `default` (blocking). A file that is missing or not readable says nothing.
pub(super) fn read(env: &Environment) -> Profile {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let name = set("AWS_PROFILE").unwrap_or("default").to_owned();
    let file = |variable: &str, name: &str| {
        set(variable).map(PathBuf::from).or_else(|| set("HOME").map(|home| Path::new(home).join(".aws").join(name)))
    };
    let text = |path: Option<PathBuf>| path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let credentials = section(&text(file("AWS_SHARED_CREDENTIALS_FILE", "credentials")), &[&name]);
    // There, all but the default have the word in front.
    let config = section(&text(file("AWS_CONFIG_FILE", "config")), &[&format!("profile {name}"), &name]);
    let value = |key: &str| {
        let found = credentials.as_ref().and_then(|values| values.get(key));
        found.or_else(|| config.as_ref().and_then(|values| values.get(key))).cloned()
    };
    let keys = match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some((id, secret, value("aws_session_token"))),
        _ => None,
    };
    let indirect = ["role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file"];
    Profile {
        is_indirect: keys.is_none() && indirect.iter().any(|key| value(key).is_some()),
        is_found: credentials.is_some() || config.is_some(),
        region: value("region"),
        name,
        keys,
    }
}

/// The values below `[name]`, by the first of the names that is there.
fn section(text: &str, names: &[&str]) -> Option<BTreeMap<String, String>> {
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = Some(sections.entry(name.split_whitespace().collect::<Vec<_>>().join(" ")).or_default());
        } else if let (Some(values), Some((key, value))) = (&mut current, line.split_once('='))
            // A line that is moved in belongs to the key above it.
            && !line.starts_with(char::is_whitespace)
        {
            values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    names.iter().find_map(|name| sections.remove(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(credentials: &str, config: &str) -> (tempfile::TempDir, Environment) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        std::fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
        std::fs::write(folder.path().join(".aws/config"), config).unwrap();
        let env = [("HOME".to_owned(), folder.path().display().to_string())].into_iter().collect();
        (folder, env)
    }

    fn with(env: &Environment, name: &str, value: &str) -> Environment {
        let old = env.names().map(|name| (name.to_owned(), env.get(name).unwrap().to_owned()));
        old.chain([(name.to_owned(), value.to_owned())]).collect()
    }

    #[test]
    fn a_profile_is_read_from_both_files() {
        let (_folder, env) = home(
            "# mine\n[default]\naws_access_key_id = id\naws_secret_access_key=se=cret\n[work]\naws_access_key_id=w\naws_secret_access_key=s\naws_session_token=t\n",
            "[default]\nregion = eu-west-1\ns3 =\n  region = not-this\n[profile work]\nregion=us-east-2\n[profile role]\nrole_arn = x\n",
        );
        let default = read(&env);
        assert_eq!(default.keys, Some(("id".into(), "se=cret".into(), None)));
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        let work = read(&with(&env, "AWS_PROFILE", "work"));
        assert_eq!(work.keys, Some(("w".into(), "s".into(), Some("t".into()))));
        assert_eq!(work.region.as_deref(), Some("us-east-2"));
        let role = read(&with(&env, "AWS_PROFILE", "role"));
        assert!(role.is_indirect && role.is_found && role.keys.is_none());
        let none = read(&with(&env, "AWS_PROFILE", "nobody"));
        assert_eq!(none, Profile { name: "nobody".into(), ..Profile::default() });
    }

    #[test]
    fn without_files_there_is_nothing() {
        assert_eq!(read(&Environment::default()), Profile { name: "default".into(), ..Profile::default() });
        let env = [("HOME".to_owned(), "/does/not/exist".to_owned())].into_iter().collect();
        assert!(!read(&env).is_found);
    }
}
