//! Object stores: opening the one that a spec names, and saying in one sentence what is wrong with it.
//!
//! Never: a credential in an error, a log line or a result. Next: [`error`] for the sentences.

use std::path::Path as FilePath;
use std::sync::Arc;

use crds::store::{
    AZURE_CREDENTIAL_KEYS, AzureStore, BackupStore, GCS_CREDENTIAL_KEYS, GcsStore, S3_CREDENTIAL_KEYS,
    S3Store,
};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::cli::StoreArgs;
use crate::limits;

pub mod error;

pub use error::{Doing, StoreError};

/// Optional third key of an S3 credentials Secret: temporary credentials carry it.
const S3_SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// One object in one store.
#[derive(Clone)]
pub struct Target {
    /// The store it is in.
    pub store: Arc<dyn ObjectStore>,
    /// Its key.
    pub path: Path,
    /// How a human names it, for example `s3://bucket/db/core/1.db`.
    pub location: String,
    /// Where requests go, for error messages.
    pub endpoint: String,
}

impl Target {
    /// Explains an error of the store that happened while doing something to this object.
    pub fn explain(&self, doing: Doing, error: object_store::Error) -> StoreError {
        StoreError::from_store(doing, &self.location, &self.endpoint, error)
    }
}

/// Opens the store that the flags name. Nothing is sent yet.
pub fn open(args: &StoreArgs) -> Result<Target, StoreError> {
    let path =
        Path::parse(&args.object).map_err(|source| StoreError::Key { key: args.object.clone(), source })?;
    let BackupStore { s3, gcs, azure, local } = &args.store;
    match (s3, gcs, azure, local) {
        (Some(s3), None, None, None) => open_s3(s3, args, path),
        (None, Some(gcs), None, None) => open_gcs(gcs, args, path),
        (None, None, Some(azure), None) => open_azure(azure, args, path),
        (None, None, None, Some(local)) => open_local(&local.claim_name, args, path),
        _ => Err(StoreError::NotOne),
    }
}

fn open_s3(spec: &S3Store, args: &StoreArgs, path: Path) -> Result<Target, StoreError> {
    let location = format!("s3://{}/{path}", spec.bucket);
    let endpoint = spec.endpoint.clone().unwrap_or_else(|| format!("AWS region {}", spec.region));
    // Without a Secret the environment names the pod's own identity; with one it must not shine through.
    let mut builder =
        if args.credentials_dir.is_some() { AmazonS3Builder::new() } else { AmazonS3Builder::from_env() }
            .with_bucket_name(&spec.bucket)
            .with_region(&spec.region)
            .with_virtual_hosted_style_request(!spec.force_path_style)
            .with_retry(retries())
            .with_client_options(client_options(args, spec.endpoint.as_deref())?);
    if let Some(url) = &spec.endpoint {
        builder = builder.with_endpoint(url.trim_end_matches('/'));
    }
    if let Some(dir) = &args.credentials_dir {
        let [id, secret] = S3_CREDENTIAL_KEYS;
        builder =
            builder.with_access_key_id(credential(dir, id)?).with_secret_access_key(credential(dir, secret)?);
        if dir.join(S3_SESSION_TOKEN).exists() {
            builder = builder.with_token(credential(dir, S3_SESSION_TOKEN)?);
        }
    }
    let store =
        builder.build().map_err(|source| StoreError::Settings { location: location.clone(), source })?;
    Ok(Target { store: Arc::new(store), path, location, endpoint })
}

fn open_gcs(spec: &GcsStore, args: &StoreArgs, path: Path) -> Result<Target, StoreError> {
    let location = format!("gs://{}/{path}", spec.bucket);
    let endpoint = spec.endpoint.clone().unwrap_or_else(|| "Google Cloud Storage".to_owned());
    let mut builder = if args.credentials_dir.is_some() {
        GoogleCloudStorageBuilder::new()
    } else {
        GoogleCloudStorageBuilder::from_env()
    }
    .with_bucket_name(&spec.bucket)
    .with_retry(retries())
    .with_client_options(client_options(args, spec.endpoint.as_deref())?);
    if let Some(url) = &spec.endpoint {
        builder = builder.with_base_url(url.trim_end_matches('/'));
    }
    if let Some(dir) = &args.credentials_dir {
        let [key] = GCS_CREDENTIAL_KEYS;
        builder = builder.with_service_account_key(credential(dir, key)?);
    }
    let store =
        builder.build().map_err(|source| StoreError::Settings { location: location.clone(), source })?;
    Ok(Target { store: Arc::new(store), path, location, endpoint })
}

fn open_azure(spec: &AzureStore, args: &StoreArgs, path: Path) -> Result<Target, StoreError> {
    let location = format!("az://{}/{path}", spec.container);
    let endpoint = spec.endpoint.clone().unwrap_or_else(|| "Azure Blob Storage".to_owned());
    let mut builder = if args.credentials_dir.is_some() {
        MicrosoftAzureBuilder::new()
    } else {
        MicrosoftAzureBuilder::from_env()
    }
    .with_container_name(&spec.container)
    .with_retry(retries())
    .with_client_options(client_options(args, spec.endpoint.as_deref())?);
    if let Some(url) = &spec.endpoint {
        builder = builder.with_endpoint(url.trim_end_matches('/').to_owned());
    }
    if let Some(dir) = &args.credentials_dir {
        let [account, key] = AZURE_CREDENTIAL_KEYS;
        builder = builder.with_account(credential(dir, account)?).with_access_key(credential(dir, key)?);
    }
    let store =
        builder.build().map_err(|source| StoreError::Settings { location: location.clone(), source })?;
    Ok(Target { store: Arc::new(store), path, location, endpoint })
}

fn open_local(claim: &str, args: &StoreArgs, path: Path) -> Result<Target, StoreError> {
    let root = args.local_root.as_deref().ok_or(StoreError::NoLocalRoot)?;
    let location = format!("pvc://{claim}/{path}");
    let store = LocalFileSystem::new_with_prefix(root)
        .map_err(|source| StoreError::Settings { location: location.clone(), source })?
        .with_fsync(true);
    Ok(Target { store: Arc::new(store), path, location, endpoint: format!("volume claim {claim}") })
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: limits::STORE_RETRIES,
        retry_timeout: limits::STORE_RETRY_TIMEOUT,
    }
}

fn client_options(args: &StoreArgs, endpoint: Option<&str>) -> Result<ClientOptions, StoreError> {
    let mut options = ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
        .with_connect_timeout(limits::STORE_CONNECT_TIMEOUT)
        // The default of 30 s for a whole request would end the read-back of a large object.
        .with_timeout_disabled()
        .with_read_timeout(limits::STORE_READ_TIMEOUT);
    let Some(file) = &args.store_ca_file else { return Ok(options) };
    let pem = std::fs::read(file).map_err(|source| StoreError::CaFile { file: file.clone(), source })?;
    let bundle = Certificate::from_pem_bundle(&pem).ok().filter(|list| !list.is_empty());
    for certificate in bundle.ok_or_else(|| StoreError::CaBundle { file: file.clone() })? {
        options = options.with_root_certificate(certificate);
    }
    // The named authorities replace the public ones: a private store must not be impersonated with a public certificate.
    Ok(options.with_no_system_certificates(true))
}

fn credential(dir: &FilePath, key: &'static str) -> Result<String, StoreError> {
    let file = dir.join(key);
    let text = std::fs::read_to_string(&file).map_err(|source| StoreError::Credential { key, source })?;
    let text = text.trim();
    if text.is_empty() { Err(StoreError::EmptyCredential { key }) } else { Ok(text.to_owned()) }
}
