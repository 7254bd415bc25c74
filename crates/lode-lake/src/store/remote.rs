//! Buckets: S3, Azure, Google Cloud and OCI through `object_store`, with deadlines, and their first error explained.
//!
//! Tried against test doubles only: S3 against moto, Azure against Azurite. Google Cloud and OCI are not tried beyond the
//! requests that they lead to. OCI is spoken to in its S3 form with a customer secret key.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lode_core::ErrorKind;
use lode_core::config::Environment;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{HttpError, HttpErrorKind, SpawnedReqwestConnector};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientConfigKey, CredentialProvider, Error, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use tokio::runtime::{Handle, Runtime};

use super::location::{Account, Kind, Place};
use super::{StoreLocation, StoreOptions};
use crate::LakeError;

/// One request with its answer; one part of an upload fits in at 100 KB/s.
const REQUEST: &str = "60s";
const CONNECT: &str = "5s";
/// From the first try of a request to the begin of its last.
const RETRIES_END: Duration = Duration::from_secs(30);
const CREDENTIALS_MAX: Duration = Duration::from_secs(10);
const AGENT: &str = concat!("Lode/", env!("CARGO_PKG_VERSION"));

/// All traffic runs here. Connections outlive the runtime that opened them, and a `FileSink` blocks its thread: on the
/// caller's own runtime each could wait for the other.
static IO: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("lode-store").enable_all().build()
});

/// Errors: `Store` when the machine gives no thread.
pub(super) fn io_runtime() -> Result<Handle, LakeError> {
    match &*IO {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => Err(LakeError::Store {
            action: "start",
            path: "threads of remote storage".into(),
            kind: ErrorKind::Unavailable,
            source: error.to_string().into(),
        }),
    }
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2. };
    RetryConfig { backoff, max_retries: 8, retry_timeout: RETRIES_END }
}

/// Where there are no credentials, the last place to ask is an address that only answers on a rented machine.
fn retry_credentials() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: CREDENTIALS_MAX, ..retry() }
}

/// A bucket that can be spoken to.
pub(super) struct Connected {
    /// Paths are relative to the prefix.
    pub(super) objects: Arc<dyn ObjectStore>,
    /// What messages say of it beyond its location.
    pub(super) endpoint: String,
}

/// Errors: `Open` for options that contradict each other and for missing credentials.
pub(super) async fn connect(
    location: &StoreLocation,
    options: &StoreOptions,
    env: &Environment,
) -> Result<Connected, LakeError> {
    options.check(location)?;
    let asked = Asked { location, options, env };
    match &location.place {
        Place::Local(_) => Err(asked.refuse("it is a local folder".into(), "open it as one".into())),
        Place::S3 { bucket } => asked.s3(bucket).await,
        Place::Oci { bucket, namespace } => asked.oci(bucket, namespace).await,
        Place::Azure { account, container } => asked.azure(account.as_ref(), container).await,
        Place::Gcs { bucket } => asked.gcs(bucket).await,
    }
}

struct Asked<'a> {
    location: &'a StoreLocation,
    options: &'a StoreOptions,
    env: &'a Environment,
}

impl Asked<'_> {
    async fn s3(&self, bucket: &str) -> Result<Connected, LakeError> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        for (key, value) in self.variables("AWS_") {
            match key.parse() {
                // The location names it.
                Ok(AmazonS3ConfigKey::Bucket) | Err(_) => {}
                Ok(key) => builder = builder.with_config(key, value),
            }
        }
        if let Some(region) = self.options.get("region") {
            builder = builder.with_region(region);
        }
        let value = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let region = value(&builder, AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".into());
        let endpoint = self.options.get("endpoint").map(str::to_owned).or_else(|| {
            value(&builder, AmazonS3ConfigKey::S3Endpoint).or_else(|| value(&builder, AmazonS3ConfigKey::Endpoint))
        });
        let by_variable = self.env.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").and_then(|value| value.parse().ok());
        let path_style = self.options.flag("path_style").or(by_variable.map(|hosted: bool| !hosted));
        let path_style = path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
        let host = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let allow_http = value(&builder, AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
        let allow_http = self.may_be_plain(&host, allow_http.as_deref())?;
        let requests_to = match path_style {
            true => host.clone(),
            false => self.bucket_host(&host, bucket)?,
        };
        builder = builder
            .with_region(region)
            .with_virtual_hosted_style_request(!path_style)
            .with_config(AmazonS3ConfigKey::S3Endpoint, requests_to)
            .with_allow_http(allow_http);
        if let Some(token) = self.options.get("session_token") {
            builder = builder.with_token(token);
        }
        if let Some(anonymous) = self.options.flag("anonymous") {
            builder = builder.with_skip_signature(anonymous);
        }
        self.finish_s3(builder, host).await
    }

    async fn oci(&self, bucket: &str, namespace: &str) -> Result<Connected, LakeError> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        // Only who one is: an endpoint or region of these variables is that of another store.
        for (key, value) in self.variables("AWS_") {
            if let Ok(key @ (AmazonS3ConfigKey::AccessKeyId | AmazonS3ConfigKey::SecretAccessKey)) = key.parse() {
                builder = builder.with_config(key, value);
            }
        }
        let region = self.options.get("region").or(self.variable("OCI_REGION")).or(self.variable("OCI_CLI_REGION"));
        let Some(region) = region else {
            return Err(self.refuse("the region is missing".into(), "set the option `region`, or OCI_REGION".into()));
        };
        let host = match self.options.get("endpoint") {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://{namespace}.compat.objectstorage.{region}.oci.customer-oci.com"),
        };
        let allow_http = self.may_be_plain(&host, None)?;
        let builder = builder.with_region(region).with_endpoint(&host).with_allow_http(allow_http);
        self.finish_s3(builder, host).await
    }

    async fn finish_s3(&self, mut builder: AmazonS3Builder, endpoint: String) -> Result<Connected, LakeError> {
        for (option, key) in [
            ("access_key_id", AmazonS3ConfigKey::AccessKeyId),
            ("secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
        ] {
            if let Some(value) = self.options.get(option) {
                builder = builder.with_config(key, value);
            }
        }
        for (key, value) in CLIENT {
            builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
        }
        builder = builder.with_http_connector(SpawnedReqwestConnector::new(io_runtime()?));
        let is_signed = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_none_or(|skip| skip != "true");
        if is_signed {
            let first = builder.clone().with_retry(retry_credentials()).build().map_err(|error| self.wrong(error))?;
            let credentials = Arc::clone(first.credentials());
            self.see(credentials.as_ref()).await?;
            builder = builder.with_credentials(credentials);
        }
        let objects = builder.with_retry(retry()).build().map_err(|error| self.wrong(error))?;
        Ok(self.connected(objects, endpoint))
    }

    async fn azure(&self, account: Option<&Account>, container: &str) -> Result<Connected, LakeError> {
        let mut builder = MicrosoftAzureBuilder::new();
        for (key, value) in self.variables("AZURE_") {
            match key.parse() {
                Ok(AzureConfigKey::ContainerName) | Err(_) => {}
                Ok(key) => builder = builder.with_config(key, value),
            }
        }
        for (option, key) in [
            ("account", AzureConfigKey::AccountName),
            ("account_key", AzureConfigKey::AccessKey),
            ("sas_token", AzureConfigKey::SasKey),
            ("tenant_id", AzureConfigKey::AuthorityId),
            ("client_id", AzureConfigKey::ClientId),
            ("client_secret", AzureConfigKey::ClientSecret),
            ("anonymous", AzureConfigKey::SkipSignature),
        ] {
            if let Some(value) = self.options.get(option) {
                builder = builder.with_config(key, value);
            }
        }
        let name = match (account, builder.get_config_value(&AzureConfigKey::AccountName)) {
            (Some(account), _) => account.name.clone(),
            (None, Some(name)) => name,
            (None, None) => {
                return Err(self.refuse(
                    "the storage account is missing".into(),
                    "set the option `account` or AZURE_STORAGE_ACCOUNT_NAME, or write abfss://container@account.dfs.core.windows.net/prefix".into(),
                ));
            }
        };
        let by_variable = builder.get_config_value(&AzureConfigKey::Endpoint);
        let endpoint = self.options.get("endpoint").map(str::to_owned).or(by_variable).unwrap_or_else(|| {
            let domain = account.map_or("core.windows.net", |account| account.domain.as_str());
            format!("https://{name}.blob.{domain}")
        });
        let allow_http = builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp));
        let allow_http = self.may_be_plain(&endpoint, allow_http.as_deref())?;
        builder = builder
            .with_account(name)
            .with_container_name(container)
            .with_endpoint(endpoint.clone())
            .with_allow_http(allow_http)
            .with_http_connector(SpawnedReqwestConnector::new(io_runtime()?));
        for (key, value) in CLIENT {
            builder = builder.with_config(AzureConfigKey::Client(key), value);
        }
        let is_signed = builder.get_config_value(&AzureConfigKey::SkipSignature).is_none_or(|skip| skip != "true");
        if is_signed {
            let first = builder.clone().with_retry(retry_credentials()).build().map_err(|error| self.wrong(error))?;
            let credentials = Arc::clone(first.credentials());
            self.see(credentials.as_ref()).await?;
            builder = builder.with_credentials(credentials);
        }
        let objects = builder.with_retry(retry()).build().map_err(|error| self.wrong(error))?;
        Ok(self.connected(objects, endpoint))
    }

    async fn gcs(&self, bucket: &str) -> Result<Connected, LakeError> {
        let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
        for (key, value) in self.variables("GOOGLE_") {
            match key.parse() {
                Ok(GoogleConfigKey::Bucket) | Err(_) => {}
                Ok(key) => builder = builder.with_config(key, value),
            }
        }
        if let Some(path) = self.options.get("service_account") {
            builder = builder.with_service_account_path(path);
        }
        if let Some(key) = self.options.get("service_account_key") {
            builder = builder.with_service_account_key(key);
        }
        let endpoint = self.options.get("endpoint").map(str::to_owned);
        let endpoint = endpoint.or_else(|| builder.get_config_value(&GoogleConfigKey::BaseUrl));
        let endpoint = endpoint.unwrap_or_else(|| "https://storage.googleapis.com".into());
        let allow_http = builder.get_config_value(&GoogleConfigKey::Client(ClientConfigKey::AllowHttp));
        let allow_http = self.may_be_plain(&endpoint, allow_http.as_deref())?;
        builder = builder
            .with_base_url(&endpoint)
            .with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), allow_http.to_string())
            .with_http_connector(SpawnedReqwestConnector::new(io_runtime()?));
        for (key, value) in CLIENT {
            builder = builder.with_config(GoogleConfigKey::Client(key), value);
        }
        if self.options.flag("anonymous") == Some(true) {
            // Told to skip signatures, the library asks for a token all the same before it writes.
            let nobody = GcpCredential { bearer: String::new() };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
        } else {
            let first = builder.clone().with_retry(retry_credentials()).build().map_err(|error| self.wrong(error))?;
            let credentials = Arc::clone(first.credentials());
            self.see(credentials.as_ref()).await?;
            builder = builder.with_credentials(credentials);
        }
        let objects = builder.with_retry(retry()).build().map_err(|error| self.wrong(error))?;
        Ok(self.connected(objects, endpoint))
    }

    /// Names in lower case, as the libraries read them.
    fn variables<'a>(&'a self, start: &'static str) -> impl Iterator<Item = (String, &'a str)> {
        let names = self.env.names().filter(move |name| name.starts_with(start));
        names
            .filter_map(|name| Some((name.to_ascii_lowercase(), self.env.get(name).filter(|value| !value.is_empty())?)))
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).filter(|value| !value.is_empty())
    }

    /// Whether requests may go unencrypted; refuses an `http://` endpoint that nobody allowed.
    fn may_be_plain(&self, endpoint: &str, by_variable: Option<&str>) -> Result<bool, LakeError> {
        let allowed = self.options.flag("allow_http").unwrap_or(by_variable == Some("true"));
        let is_url =
            url::Url::parse(endpoint).is_ok_and(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
        if !is_url {
            return Err(self.refuse(
                format!("the endpoint \"{endpoint}\" is no URL"),
                "write it as https://host or https://host:port".into(),
            ));
        }
        if endpoint.starts_with("http://") && !allowed {
            return Err(self.refuse(
                format!("the endpoint \"{endpoint}\" is not encrypted"),
                "write https://, or set `allow_http: true` if nobody can listen there".into(),
            ));
        }
        Ok(allowed)
    }

    /// `https://bucket.host`.
    fn bucket_host(&self, endpoint: &str, bucket: &str) -> Result<String, LakeError> {
        match endpoint.split_once("://") {
            Some((scheme, rest)) => Ok(format!("{scheme}://{bucket}.{rest}")),
            None => {
                Err(self.refuse(format!("the endpoint \"{endpoint}\" is no URL"), "write it as https://host".into()))
            }
        }
    }

    /// Asks for credentials once, so that their absence is not met in the middle of something else.
    async fn see<T>(&self, credentials: &dyn CredentialProvider<Credential = T>) -> Result<(), LakeError>
    where
        T: Send + Sync,
    {
        let fix = match self.location.kind() {
            Kind::S3 => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles in ~/.aws are not read), or `anonymous: true`"
            }
            Kind::Oci => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a customer secret key",
            Kind::Azure => {
                "set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID"
            }
            Kind::Gcs | Kind::Local => "set GOOGLE_APPLICATION_CREDENTIALS to the JSON key of a service account",
        };
        let source: Box<dyn std::error::Error + Send + Sync> =
            match tokio::time::timeout(CREDENTIALS_MAX, credentials.get_credential()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => Box::new(error),
                Err(late) => Box::new(late),
            };
        Err(LakeError::Open {
            store: self.location.to_string(),
            kind: ErrorKind::Denied,
            reason: "no credentials were found".into(),
            fix: fix.into(),
            source: Some(source),
        })
    }

    fn connected(&self, objects: impl ObjectStore, endpoint: String) -> Connected {
        let objects: Arc<dyn ObjectStore> = match self.location.prefix.as_ref() {
            "" => Arc::new(objects),
            _ => Arc::new(PrefixStore::new(objects, self.location.prefix.clone())),
        };
        Connected { objects, endpoint }
    }

    fn refuse(&self, reason: String, fix: String) -> LakeError {
        LakeError::Open { store: self.location.to_string(), kind: ErrorKind::Config, reason, fix, source: None }
    }

    /// What the library refuses before it asks anybody.
    fn wrong(&self, error: Error) -> LakeError {
        let text = error.to_string();
        let half = text.contains("Missing AccessKeyId") || text.contains("Missing SecretAccessKey");
        LakeError::Open {
            store: self.location.to_string(),
            kind: ErrorKind::Config,
            reason: match half {
                true => "one half of the access key is missing".into(),
                false => "its settings are not usable".into(),
            },
            fix: "correct the options of the store, or its environment variables".into(),
            source: Some(Box::new(error)),
        }
    }
}

const CLIENT: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::Timeout, REQUEST),
    (ClientConfigKey::ConnectTimeout, CONNECT),
    (ClientConfigKey::UserAgent, AGENT),
];

/// In answers that refuse whoever asks, not what is asked. The last is Azurite's, whose code is that of a firewall.
const WRONG_KEY: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "ExpiredToken",
    "InvalidToken",
    "Server failed to authenticate the request",
];

/// The first answer of a store, when it is an error, in words: what it means and what to do.
pub(super) fn explain(location: &StoreLocation, endpoint: &str, error: LakeError) -> LakeError {
    let (kind, source) = match error {
        LakeError::Store { kind, source, .. } => (kind, Some(source)),
        LakeError::NotFound { .. } => (ErrorKind::NotFound, None),
        other => return other,
    };
    let text = chain(source.as_deref());
    let bucket = location.bucket();
    let (kind, reason, fix) = if kind == ErrorKind::NotFound {
        (
            ErrorKind::NotFound,
            format!("there is no bucket \"{bucket}\" at {endpoint}"),
            "make the bucket, or correct its name, the region or the endpoint".to_owned(),
        )
    } else if source.as_deref().is_some_and(nobody_there) {
        (
            ErrorKind::Unavailable,
            format!("nothing answers at {endpoint}"),
            "correct the endpoint or the region, or see whether this machine can reach it".to_owned(),
        )
    } else if text.contains("Received redirect") || text.contains("PermanentRedirect") {
        (
            ErrorKind::Config,
            format!("the bucket \"{bucket}\" lies in another region than {endpoint}"),
            "set the option `region` (or AWS_REGION) to that of the bucket".to_owned(),
        )
    } else if kind == ErrorKind::Denied || ["ExpiredToken", "InvalidToken"].iter().any(|code| text.contains(code)) {
        let wrong_key = WRONG_KEY.into_iter().find(|code| text.contains(code));
        match wrong_key {
            Some(code) => {
                (ErrorKind::Denied, format!("its credentials are refused ({code})"), "renew or correct them".to_owned())
            }
            None => (
                ErrorKind::Denied,
                format!("access to the bucket \"{bucket}\" is denied"),
                "give these credentials the right to read, write, list and delete below that prefix".to_owned(),
            ),
        }
    } else if kind == ErrorKind::Unsupported || text.contains("501 Not Implemented") {
        (
            ErrorKind::Unsupported,
            "it does not know a put that must not replace anything (If-None-Match: *)".to_owned(),
            "take a store that does: two writers would overwrite each other's commits here".to_owned(),
        )
    } else {
        (
            kind,
            format!("it answered with an error at {endpoint}"),
            "see the cause; if it passes by itself, run the command again".to_owned(),
        )
    };
    LakeError::Open { store: location.to_string(), kind, reason, fix, source }
}

/// Whether no connection came about: the wrong host, or the wrong port.
fn nobody_there(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout);
        }
        cause = error.source();
    }
    false
}

fn chain(error: Option<&(dyn std::error::Error + Send + Sync + 'static)>) -> String {
    let mut text = String::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.map(|error| error as _);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        text.push('\n');
        cause = error.source();
    }
    text
}

/// Whether a create met another one under way (S3 `ConditionalRequestConflict`, OCI `ConcurrentObjectUpdate`), so that
/// nothing is said about the name: the library calls every 409 `AlreadyExists`.
/// Source: S3 API, "PutObject", `If-None-Match`; a name that is taken is a 412 there, and a 409 `BlobAlreadyExists` on Azure.
pub(super) fn is_conflict(error: &Error) -> bool {
    let Error::AlreadyExists { source, .. } = error else { return false };
    let text = chain(Some(source.as_ref()));
    text.contains("409 Conflict") && !text.contains("BlobAlreadyExists")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connected(location: &str, options: &[(&str, &str)], variables: &[(&str, &str)]) -> Connected {
        let options = options.iter().fold(StoreOptions::default(), |all, (key, value)| all.with(key, *value).unwrap());
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        connect(&location.parse().unwrap(), &options, &env).await.unwrap()
    }

    /// The library shows the address of its requests only there.
    fn asks(connected: &Connected, address: &str) -> bool {
        format!("{:?}", connected.objects).contains(address)
    }

    const KEY: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "hush")];

    #[tokio::test]
    async fn addresses_follow_region_style_and_endpoint() {
        let own = connected("s3://lake/x", &[("region", "eu-west-1")], &KEY).await;
        assert_eq!(own.endpoint, "https://s3.eu-west-1.amazonaws.com");
        assert!(asks(&own, "bucket_endpoint: \"https://lake.s3.eu-west-1.amazonaws.com\""), "{:?}", own.objects);
        let dotted = connected("s3://la.ke", &[], &[&KEY[..], &[("AWS_REGION", "eu-west-2")]].concat()).await;
        assert!(asks(&dotted, "\"https://s3.eu-west-2.amazonaws.com/la.ke\""), "{:?}", dotted.objects);
        let other =
            connected("s3://lake", &[], &[&KEY[..], &[("AWS_ENDPOINT_URL_S3", "https://minio:9000")]].concat()).await;
        assert!(asks(&other, "\"https://minio:9000/lake\""), "{:?}", other.objects);
        let hosted = [("endpoint", "https://minio:9000"), ("path_style", "false")];
        let hosted = connected("s3://lake", &hosted, &KEY).await;
        assert!(asks(&hosted, "\"https://lake.minio:9000\""), "{:?}", hosted.objects);
    }

    #[tokio::test]
    async fn options_go_over_variables() {
        let variables = [&KEY[..], &[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", "http://there")]].concat();
        let options = [
            ("region", "us-west-2"),
            ("endpoint", "https://here"),
            ("access_key_id", "mine"),
            ("secret_access_key", "x"),
        ];
        let both = connected("s3://lake", &options, &variables).await;
        assert_eq!(both.endpoint, "https://here");
        assert!(asks(&both, "region: \"us-west-2\"") && asks(&both, "key_id: \"mine\""), "{:?}", both.objects);
    }

    #[tokio::test]
    async fn oci_takes_the_key_of_the_variables_and_not_the_place() {
        let elsewhere =
            [("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL", "http://there"), ("OCI_REGION", "eu-frankfurt-1")];
        let oci = connected("oci://lake@space/x", &[], &[&KEY[..], &elsewhere].concat()).await;
        assert_eq!(oci.endpoint, "https://space.compat.objectstorage.eu-frankfurt-1.oci.customer-oci.com");
        assert!(asks(&oci, &format!("\"{}/lake\"", oci.endpoint)) && asks(&oci, "region: \"eu-frankfurt-1\""));
    }

    #[tokio::test]
    async fn azure_finds_its_account() {
        let key = [("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaA=="), ("AZURE_STORAGE_ACCOUNT_NAME", "theirs")];
        let cloud = connected("abfss://lake@mine.dfs.core.chinacloudapi.cn/x", &[], &key).await;
        assert_eq!(cloud.endpoint, "https://mine.blob.core.chinacloudapi.cn");
        assert!(asks(&cloud, "account: \"mine\""), "{:?}", cloud.objects);
        assert_eq!(connected("az://lake/x", &[], &key).await.endpoint, "https://theirs.blob.core.windows.net");
        let option = connected("az://lake/x", &[("account", "ours")], &key).await;
        assert_eq!(option.endpoint, "https://ours.blob.core.windows.net");
    }

    #[test]
    fn only_a_409_that_names_no_file_is_a_conflict() {
        let there = |source: &str| Error::AlreadyExists { path: "x".into(), source: source.into() };
        assert!(is_conflict(&there("status code: 409 Conflict: <Code>ConditionalRequestConflict</Code>")));
        assert!(is_conflict(&there("status code: 409 Conflict: <Code>ConcurrentObjectUpdate</Code>")));
        assert!(!is_conflict(&there("status code: 409 Conflict: <Code>BlobAlreadyExists</Code>")));
        assert!(!is_conflict(&there("status code: 412 Precondition Failed")));
        assert!(!is_conflict(&Error::Generic { store: "S3", source: "409 Conflict".into() }));
    }
}
