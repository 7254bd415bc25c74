//! Buckets: S3, Azure, Google Cloud and OCI through `object_store`, with deadlines, and their first error explained.
//!
//! Tried against test doubles only: S3 against moto, Azure against Azurite. Google Cloud and OCI are not tried beyond the
//! requests that they lead to. OCI is spoken to in its S3 form with a customer secret key.

mod aws_profile;
mod explain;

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lode_core::config::Environment;
use lode_core::{ErrorKind, task};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::SpawnedReqwestConnector;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientConfigKey, CredentialProvider, Error, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use tokio::runtime::{Handle, Runtime};

use super::location::{Account, Kind, Place};
use super::{StoreLocation, StoreOptions};
use crate::LakeError;

pub(super) use self::explain::{explain, is_conflict, is_expired};

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
        builder = self.profile(builder).await?;
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

    /// Fills in from `~/.aws` what no variable says. Errors: `Open` for a profile that is named and cannot be used.
    async fn profile(&self, mut builder: AmazonS3Builder) -> Result<AmazonS3Builder, LakeError> {
        let env = self.env.clone();
        let read = task::blocking("read the AWS profile", move || aws_profile::read(&env)).await;
        let profile = read.map_err(|problem| self.wrong_settings("its settings are not usable", problem))?;
        if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none()
            && let Some(region) = profile.region
        {
            builder = builder.with_region(region);
        }
        // Of these, each says who one is.
        let said = [
            AmazonS3ConfigKey::AccessKeyId,
            AmazonS3ConfigKey::SecretAccessKey,
            AmazonS3ConfigKey::WebIdentityTokenFile,
            AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
            AmazonS3ConfigKey::ContainerCredentialsFullUri,
        ];
        let is_said = said.iter().any(|key| builder.get_config_value(key).is_some());
        if is_said || self.options.get("access_key_id").is_some() || self.options.flag("anonymous") == Some(true) {
            return Ok(builder);
        }
        if let Some((id, secret, token)) = profile.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            return Ok(match token {
                Some(token) => builder.with_token(token),
                None => builder,
            });
        }
        let is_named = self.variable("AWS_PROFILE").is_some();
        let name = profile.name;
        match (is_named, profile.is_found, profile.is_indirect) {
            (true, false, _) => Err(self.refuse(
                format!("there is no AWS profile \"{name}\""),
                "correct AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".into(),
            )),
            (true, true, true) => Err(self.refuse(
                format!("the AWS profile \"{name}\" gets its keys from a role or a sign-on, which is not supported"),
                format!("run `eval \"$(aws configure export-credentials --profile {name} --format env)\"` before"),
            )),
            _ => Ok(builder),
        }
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
        let is_signed = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_none_or(|skip| !is_on(&skip));
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
        if let Some(endpoint) = self.variable("IDENTITY_ENDPOINT") {
            builder = builder.with_msi_endpoint(endpoint);
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
        let is_signed = builder.get_config_value(&AzureConfigKey::SkipSignature).is_none_or(|skip| !is_on(&skip));
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
        let by_variable = self.variable("GOOGLE_SKIP_SIGNATURE").is_some_and(is_on);
        if self.options.flag("anonymous").unwrap_or(by_variable) {
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
        let allowed = self.options.flag("allow_http").unwrap_or(by_variable.is_some_and(is_on));
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
            Kind::S3 => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
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
        let reason = if half { "one half of the access key is missing" } else { "its settings are not usable" };
        self.wrong_settings(reason, error)
    }

    fn wrong_settings(&self, reason: &str, error: impl std::error::Error + Send + Sync + 'static) -> LakeError {
        LakeError::Open {
            store: self.location.to_string(),
            kind: ErrorKind::Config,
            reason: reason.into(),
            fix: "correct the options of the store, or its environment variables".into(),
            source: Some(Box::new(error)),
        }
    }
}

/// As the library reads flags of the environment.
fn is_on(text: &str) -> bool {
    ["1", "true", "on", "yes", "y"].contains(&text.to_ascii_lowercase().as_str())
}

const CLIENT: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::Timeout, REQUEST),
    (ClientConfigKey::ConnectTimeout, CONNECT),
    (ClientConfigKey::UserAgent, AGENT),
];

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
    async fn a_profile_fills_in_what_no_variable_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(
            &file,
            "[work]\naws_access_key_id=w\naws_secret_access_key=s\nregion=eu-west-3\n[far]\nrole_arn=x\n",
        )
        .unwrap();
        let file = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
        let work = [&file[..], &[("AWS_PROFILE", "work")]].concat();
        let by_profile = connected("s3://lake", &[], &work).await;
        assert!(asks(&by_profile, "key_id: \"w\"") && asks(&by_profile, "eu-west-3"), "{:?}", by_profile.objects);
        let by_variable = connected("s3://lake", &[], &[&work[..], &KEY].concat()).await;
        assert!(asks(&by_variable, "key_id: \"key\""), "{:?}", by_variable.objects);
        for (name, reason) in [
            ("nobody", "there is no AWS profile \"nobody\""),
            ("far", "the AWS profile \"far\" gets its keys from a role or a sign-on, which is not supported"),
        ] {
            let env = [&file[..], &[("AWS_PROFILE", name)]].concat();
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let refused = connect(&"s3://lake".parse().unwrap(), &StoreOptions::default(), &env).await;
            let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(error, format!("could not open store \"s3://lake\": {reason}"));
        }
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
}
