//! Where a lake lies: a local folder, or a prefix in a bucket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lode_core::{ErrorKind, nearest};
use url::Url;

use super::StorePath;
use crate::LakeError;

/// A parsed location: `/data/lake`, `s3://bucket/prefix`, `abfss://container@account.dfs.core.windows.net/prefix`,
/// `az://container/prefix`, `gs://bucket/prefix` or `oci://bucket@namespace/prefix`. Displays as it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLocation {
    pub(crate) place: Place,
    /// Below the bucket.
    pub(crate) prefix: StorePath,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Local(PathBuf),
    S3 {
        bucket: String,
    },
    /// Without an account it comes from the options or the environment.
    Azure {
        account: Option<Account>,
        container: String,
    },
    Gcs {
        bucket: String,
    },
    Oci {
        bucket: String,
        namespace: String,
    },
}

/// An Azure storage account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    /// `core.windows.net`, or that of a sovereign cloud.
    pub(crate) domain: String,
}

/// What kind of store it is; its options depend on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Local,
    S3,
    Azure,
    Gcs,
    Oci,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "a local folder",
            Self::S3 => "S3 storage",
            Self::Azure => "Azure storage",
            Self::Gcs => "Google Cloud storage",
            Self::Oci => "OCI Object Storage",
        }
    }
}

/// Scheme, kind, and the form that the rest must have.
const SCHEMES: [(&str, Kind, &str); 7] = [
    ("s3", Kind::S3, "s3://bucket/prefix"),
    ("s3a", Kind::S3, "s3://bucket/prefix"),
    ("abfss", Kind::Azure, "abfss://container@account.dfs.core.windows.net/prefix"),
    ("abfs", Kind::Azure, "abfss://container@account.dfs.core.windows.net/prefix"),
    ("az", Kind::Azure, "az://container/prefix"),
    ("gs", Kind::Gcs, "gs://bucket/prefix"),
    ("oci", Kind::Oci, "oci://bucket@namespace/prefix"),
];

impl StoreLocation {
    /// The folder, if it is a local one.
    pub fn local(&self) -> Option<&Path> {
        match &self.place {
            Place::Local(path) => Some(path),
            _ => None,
        }
    }

    /// The folder of a bucket in which the last part of this prefix lies, and that part.
    pub fn split_last(&self) -> Option<(Self, String)> {
        let mut parts: Vec<_> = self.prefix.parts().collect();
        let last = parts.pop().filter(|_| self.local().is_none())?;
        let folder = Self { place: self.place.clone(), prefix: parts.into_iter().collect() };
        Some((folder, last.as_ref().to_owned()))
    }

    /// The path below this prefix that a location, not URL-encoded, means; `None` for one outside.
    pub(crate) fn below(&self, absolute: &str) -> Option<StorePath> {
        let (scheme, rest) = absolute.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let bucket: Self = format!("{scheme}://{authority}").parse().ok()?;
        // One without an account may mean any: it is not the same as one with.
        let is_same = bucket.place == self.place;
        let path = is_same.then(|| StorePath::parse(path).ok())??;
        Some(path.prefix_match(&self.prefix)?.collect())
    }

    /// Encoded, with a slash at its end; `None` for a folder.
    pub(crate) fn url(&self) -> Option<Url> {
        let bucket = Self { place: self.place.clone(), prefix: StorePath::default() };
        let mut url = Url::parse(&bucket.to_string()).ok()?;
        let parts: Vec<String> = self.prefix.parts().map(|part| part.as_ref().to_owned()).collect();
        url.path_segments_mut().ok()?.pop_if_empty().extend(parts).push("");
        Some(url)
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.place {
            Place::Local(_) => Kind::Local,
            Place::S3 { .. } => Kind::S3,
            Place::Azure { .. } => Kind::Azure,
            Place::Gcs { .. } => Kind::Gcs,
            Place::Oci { .. } => Kind::Oci,
        }
    }

    /// Bucket or container; empty for a folder.
    pub(crate) fn bucket(&self) -> &str {
        match &self.place {
            Place::Local(_) => "",
            Place::S3 { bucket } | Place::Gcs { bucket } | Place::Oci { bucket, .. } => bucket,
            Place::Azure { container, .. } => container,
        }
    }
}

impl From<&Path> for StoreLocation {
    fn from(path: &Path) -> Self {
        Self { place: Place::Local(path.to_owned()), prefix: StorePath::default() }
    }
}

impl FromStr for StoreLocation {
    type Err = LakeError;

    /// Errors: `Open` with kind `Config`.
    fn from_str(text: &str) -> Result<Self, LakeError> {
        let refuse = |reason: String, fix: String| LakeError::Open {
            store: text.to_owned(),
            kind: ErrorKind::Config,
            reason,
            fix,
            source: None,
        };
        if text.trim().is_empty() {
            return Err(refuse(
                "the location is empty".into(),
                "write a folder, or a URL such as s3://bucket/prefix".into(),
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Path::new(text).into()) };
        if scheme == "file" {
            let url = Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
            return url.map(|path| path.as_path().into()).ok_or_else(|| {
                refuse("it is not the URL of a local folder".into(), "write the path itself: /data/lake".into())
            });
        }
        let Some((_, kind, form)) = SCHEMES.iter().find(|(known, ..)| *known == scheme) else {
            let near = match scheme {
                "gcs" => Some("gs"),
                "azure" | "adl" | "wasb" | "wasbs" | "adls" => Some("abfss"),
                _ => nearest(scheme, SCHEMES.iter().map(|(known, ..)| *known)),
            };
            let fix = match near {
                Some(near) => format!("did you mean \"{near}://\"?"),
                None => "write a folder, or a URL with s3://, abfss://, az://, gs:// or oci://".into(),
            };
            return Err(refuse(format!("there is no storage with the scheme \"{scheme}://\""), fix));
        };
        let bad = |reason: &str| refuse(reason.to_owned(), format!("write {form}"));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(bad("the bucket is missing"));
        }
        let url = Url::parse(text).map_err(|error| bad(&format!("it is not a URL: {error}")))?;
        if url.password().is_some() {
            // Not repeated in the message: it may be a secret.
            return Err(LakeError::Open {
                store: format!("{scheme}://…"),
                kind: ErrorKind::Config,
                reason: "a location holds no credentials".into(),
                fix: "give them as options or as environment variables".into(),
                source: None,
            });
        }
        if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
            return Err(bad("a location has no port, `?` or `#`"));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let user = url.username().to_owned();
        let place = match (kind, user.is_empty()) {
            (Kind::S3, true) => Place::S3 { bucket: host },
            (Kind::Gcs, true) => Place::Gcs { bucket: host },
            (Kind::Azure, true) if !host.contains('.') => Place::Azure { account: None, container: host },
            (Kind::Azure, true) => return Err(bad("the container is missing")),
            (Kind::Azure, false) => {
                let account = account(&host).ok_or_else(|| bad("the host is not that of a storage account"))?;
                Place::Azure { account: Some(account), container: user }
            }
            (Kind::Oci, false) => Place::Oci { bucket: user, namespace: host },
            (Kind::Oci, true) => return Err(bad("the namespace is missing")),
            (_, _) => return Err(bad("there is no `@` in such a location")),
        };
        let prefix =
            StorePath::from_url_path(url.path()).map_err(|error| bad(&format!("the prefix is not usable: {error}")))?;
        let location = Self { place, prefix };
        let is_name =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$'));
        if !is_name(location.bucket()) {
            return Err(bad("the name of the bucket holds a character that none may have"));
        }
        Ok(location)
    }
}

/// `name.dfs.core.windows.net`, or the blob host of the same account.
fn account(host: &str) -> Option<Account> {
    let (name, rest) = host.split_once('.')?;
    let domain = rest.strip_prefix("dfs.").or_else(|| rest.strip_prefix("blob."))?;
    let is_whole = !name.is_empty() && !domain.is_empty();
    is_whole.then(|| Account { name: name.to_owned(), domain: domain.to_owned() })
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Local(path) => return write!(f, "{}", path.display()),
            Place::S3 { bucket } => write!(f, "s3://{bucket}")?,
            Place::Gcs { bucket } => write!(f, "gs://{bucket}")?,
            Place::Oci { bucket, namespace } => write!(f, "oci://{bucket}@{namespace}")?,
            Place::Azure { container, account: None } => write!(f, "az://{container}")?,
            Place::Azure { container, account: Some(Account { name, domain }) } => {
                write!(f, "abfss://{container}@{name}.dfs.{domain}")?;
            }
        }
        match self.prefix.as_ref() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use lode_core::Explain;

    use super::*;

    #[test]
    fn locations_are_read_and_shown() {
        for (text, shown, bucket, prefix) in [
            ("s3://bucket", "s3://bucket", "bucket", ""),
            ("s3://Old_Bucket/a/b/", "s3://Old_Bucket/a/b", "Old_Bucket", "a/b"),
            ("s3a://bucket/a%20b", "s3://bucket/a b", "bucket", "a b"),
            ("gs://bucket/lake", "gs://bucket/lake", "bucket", "lake"),
            ("az://box/lake", "az://box/lake", "box", "lake"),
            ("abfss://box/lake", "az://box/lake", "box", "lake"),
            ("abfs://box@acc.blob.core.windows.net/lake", "abfss://box@acc.dfs.core.windows.net/lake", "box", "lake"),
            ("abfss://box@acc.dfs.core.chinacloudapi.cn", "abfss://box@acc.dfs.core.chinacloudapi.cn", "box", ""),
            ("oci://bucket@space/lake", "oci://bucket@space/lake", "bucket", "lake"),
        ] {
            let location: StoreLocation = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!((location.bucket(), location.prefix.as_ref()), (bucket, prefix), "{text}");
            assert!(location.local().is_none());
        }
        for (text, path) in [("/data/lake", "/data/lake"), ("lake", "lake"), ("file:///data/la%20ke", "/data/la ke")] {
            let location: StoreLocation = text.parse().unwrap();
            assert_eq!(location.local(), Some(Path::new(path)));
        }
    }

    #[test]
    fn the_url_of_a_location_leads_back_to_it() {
        for (text, url) in [
            ("s3://bucket", "s3://bucket/"),
            ("s3://bucket/a b", "s3://bucket/a%20b/"),
            ("s3://bucket/50%25%23x/y%3F", "s3://bucket/50%25%23x/y%3F/"),
            ("abfss://box@acc.dfs.core.windows.net/x", "abfss://box@acc.dfs.core.windows.net/x/"),
        ] {
            let location: StoreLocation = text.parse().unwrap();
            assert_eq!(location.url().unwrap().as_str(), url);
            assert_eq!(url.parse::<StoreLocation>().unwrap(), location);
        }
    }

    #[test]
    fn what_other_writers_call_a_file_is_found_below() {
        let below =
            |root: &str, file: &str| root.parse::<StoreLocation>().unwrap().below(file).map(|path| path.to_string());
        let lake = "s3://bucket/a/lake";
        assert_eq!(below(lake, "s3a://bucket/a/lake/t/x%20y").as_deref(), Some("t/x%20y"));
        for outside in
            ["s3://bucket/a/lakeside/x", "s3://other/a/lake/x", "gs://bucket/a/lake/x", "/a/lake/x", "s3://bucket"]
        {
            assert_eq!(below(lake, outside), None, "{outside}");
        }
        let azure = "abfss://box@acc.dfs.core.windows.net";
        assert_eq!(below(azure, "abfss://box@acc.blob.core.windows.net/t/x").as_deref(), Some("t/x"));
        assert_eq!(below(azure, "abfss://box@other.dfs.core.windows.net/t/x"), None);
        assert_eq!(below(azure, "az://box/t/x"), None);
        assert_eq!(below("az://box", "az://box/t/x").as_deref(), Some("t/x"));
    }

    #[test]
    fn wrong_locations_say_what_is_wrong_and_the_right_form() {
        for (text, reason, fix) in [
            ("", "the location is empty", "write a folder, or a URL such as s3://bucket/prefix"),
            ("s3://", "the bucket is missing", "write s3://bucket/prefix"),
            ("s3:///lake", "the bucket is missing", "write s3://bucket/prefix"),
            ("s4://bucket", "there is no storage with the scheme \"s4://\"", "did you mean \"s3://\"?"),
            ("gcs://bucket", "there is no storage with the scheme \"gcs://\"", "did you mean \"gs://\"?"),
            (
                "wasbs://c@a.blob.core.windows.net",
                "there is no storage with the scheme \"wasbs://\"",
                "did you mean \"abfss://\"?",
            ),
            ("s3://bucket:9000/x", "a location has no port, `?` or `#`", "write s3://bucket/prefix"),
            ("s3://bucket/x?region=eu", "a location has no port, `?` or `#`", "write s3://bucket/prefix"),
            ("s3://user@bucket/x", "there is no `@` in such a location", "write s3://bucket/prefix"),
            (
                "s3://buc~ket/x",
                "the name of the bucket holds a character that none may have",
                "write s3://bucket/prefix",
            ),
            (
                "abfss://acc.dfs.core.windows.net/x",
                "the container is missing",
                "write abfss://container@account.dfs.core.windows.net/prefix",
            ),
            (
                "abfss://box@acc/x",
                "the host is not that of a storage account",
                "write abfss://container@account.dfs.core.windows.net/prefix",
            ),
            ("oci://bucket/x", "the namespace is missing", "write oci://bucket@namespace/prefix"),
        ] {
            let error = text.parse::<StoreLocation>().unwrap_err();
            assert_eq!(error.to_string(), format!("could not open store \"{text}\": {reason}"));
            assert_eq!((error.kind(), error.remedy().as_deref()), (ErrorKind::Config, Some(fix)), "{text}");
        }
    }

    #[test]
    fn a_secret_in_a_location_is_refused_and_not_repeated() {
        let error = "s3://key:hush@bucket/x".parse::<StoreLocation>().unwrap_err();
        assert_eq!(error.to_string(), "could not open store \"s3://…\": a location holds no credentials");
    }
}
