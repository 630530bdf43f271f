//! Where backups are kept: exactly one of S3, GCS, Azure or a volume claim.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Keys a credentials Secret for S3 must hold.
pub const S3_CREDENTIAL_KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
/// Key a credentials Secret for GCS must hold: a service account's JSON.
pub const GCS_CREDENTIAL_KEYS: [&str; 1] = ["serviceAccount.json"];
/// Keys a credentials Secret for Azure must hold.
pub const AZURE_CREDENTIAL_KEYS: [&str; 2] = ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"];
/// Key under which a CA Secret holds its PEM bundle.
pub const CA_KEY: &str = "ca.crt";

/// An object of the same namespace, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl NameRef {
    /// A reference to `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// Where backups are kept. Set exactly one of `s3`, `gcs`, `azure`, `local`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.s3) ? 1 : 0) + (has(self.gcs) ? 1 : 0) + (has(self.azure) ? 1 : 0) + (has(self.local) ? 1 : 0) == 1").message("set exactly one of s3, gcs, azure and local"))]
pub struct BackupStore {
    /// A bucket that speaks the S3 protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Store>,
    /// A Google Cloud Storage bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsStore>,
    /// An Azure Blob Storage container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureStore>,
    /// A volume claim of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalStore>,
}

impl BackupStore {
    /// Secret with the credentials, where the store takes any.
    pub fn credentials_secret(&self) -> Option<&NameRef> {
        let s3 = self.s3.as_ref().map(|s| &s.credentials_secret_ref);
        let gcs = self.gcs.as_ref().map(|s| &s.credentials_secret_ref);
        let azure = self.azure.as_ref().map(|s| &s.credentials_secret_ref);
        s3.or(gcs).or(azure)?.as_ref()
    }

    /// Keys that [`Self::credentials_secret`] must hold.
    pub fn credential_keys(&self) -> &'static [&'static str] {
        match self {
            Self { s3: Some(_), .. } => &S3_CREDENTIAL_KEYS,
            Self { gcs: Some(_), .. } => &GCS_CREDENTIAL_KEYS,
            Self { azure: Some(_), .. } => &AZURE_CREDENTIAL_KEYS,
            _ => &[],
        }
    }

    /// Secret with the authorities that sign the server's certificate, where they are not public ones.
    pub fn ca_secret(&self) -> Option<&NameRef> {
        let s3 = self.s3.as_ref().map(|s| &s.ca_secret_ref);
        let gcs = self.gcs.as_ref().map(|s| &s.ca_secret_ref);
        let azure = self.azure.as_ref().map(|s| &s.ca_secret_ref);
        s3.or(gcs).or(azure)?.as_ref()
    }
}

/// A bucket that speaks the S3 protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Store {
    /// Bucket name. The bucket must exist.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Path inside the bucket, without slashes at its ends. Default: the namespace and the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[^/].*[^/]$|^[^/]?$"))]
    pub prefix: Option<String>,
    /// Region of the bucket.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// URL of a server other than AWS, for example `https://s3.storage.svc:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/]+/?$"))]
    pub endpoint: Option<String>,
    /// Secret with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN` if needed).
    /// Without it the Job uses the identity of its service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,
    /// Secret whose `ca.crt` signs the server's certificate, when a public authority does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<NameRef>,
    /// Address the bucket as a path instead of a host name; most servers other than AWS want this.
    #[serde(default = "default_true")]
    pub force_path_style: bool,
}

/// A Google Cloud Storage bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcsStore {
    /// Bucket name. The bucket must exist.
    #[schemars(length(min = 3, max = 222))]
    pub bucket: String,
    /// Path inside the bucket, without slashes at its ends. Default: the namespace and the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[^/].*[^/]$|^[^/]?$"))]
    pub prefix: Option<String>,
    /// URL of a server other than Google's, or of a private endpoint, for example `https://gcs.storage.svc:4443`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/]+/?$"))]
    pub endpoint: Option<String>,
    /// Secret with `serviceAccount.json`. Without it the Job uses the identity of its service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,
    /// Secret whose `ca.crt` signs the server's certificate, when a public authority does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<NameRef>,
}

/// An Azure Blob Storage container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureStore {
    /// Container name. The container must exist.
    #[schemars(length(min = 3, max = 63))]
    pub container: String,
    /// Path inside the container, without slashes at its ends. Default: the namespace and the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[^/].*[^/]$|^[^/]?$"))]
    pub prefix: Option<String>,
    /// URL of the storage account's blob service, when it is not `https://ACCOUNT.blob.core.windows.net`: what a
    /// connection string calls `BlobEndpoint`, for example `https://backups.blob.core.chinacloudapi.cn`, or
    /// `http://azurite.storage.svc:10000/devstoreaccount1` for a server that names the account in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/]+(/[^/]+)?/?$"))]
    pub endpoint: Option<String>,
    /// Secret with `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY`. Without it the Job uses the
    /// identity of its service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,
    /// Secret whose `ca.crt` signs the server's certificate, when a public authority does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<NameRef>,
}

/// A volume claim of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalStore {
    /// Claim to write into. It must exist and allow the Job's pod to mount it.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Directory inside the volume, without slashes at its ends. Default: the namespace and the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[^/].*[^/]$|^[^/]?$"))]
    pub prefix: Option<String>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_true() -> bool {
    true
}
