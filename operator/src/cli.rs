//! The command line: what the operator's Deployment and its Jobs may say. No behaviour here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use crds::store::BackupStore;

use crate::jobs::Compression;
use crate::logging::LogArgs;

/// Where a Job leaves its result for the operator to read from the pod's status.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "operator", version, about = "Runs kvnode clusters on Kubernetes", propagate_version = true)]
pub struct Cli {
    /// Log flags.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator until it is told to stop or loses its lease.
    Run(RunArgs),
    /// Take one snapshot of a cluster and store it. Runs as a Job.
    Backup(BackupArgs),
    /// Download and verify a stored snapshot. Runs as a Job before a restore.
    FetchBackup(FetchArgs),
    /// Delete a stored snapshot. Runs as a Job when its `EtcdBackup` goes.
    DeleteBackup(DeleteArgs),
}

/// Flags of `operator run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Namespaces to serve, separated by commas. Empty: all of them.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Image of kvnode for clusters that name none.
    #[arg(long, env = "KVNODE_IMAGE")]
    pub kvnode_image: String,
    /// Pull policy of that image.
    #[arg(long, env = "KVNODE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub kvnode_image_pull_policy: String,
    /// This operator's own image, which the backup Jobs run.
    #[arg(long, env = "OPERATOR_IMAGE")]
    pub operator_image: String,
    /// Pull policy of that image.
    #[arg(long, env = "OPERATOR_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub operator_image_pull_policy: String,
    /// Namespace the operator runs in; its lease lives there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name that tells replicas of the operator apart.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub identity: String,
    /// Name of the Lease that replicas compete for.
    #[arg(long, default_value = "kvnode-operator")]
    pub lease_name: String,
    /// Seconds after which another replica may take over from a silent one.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(5..=300))]
    pub lease_duration_seconds: u32,
    /// Address for `/livez`, `/readyz` and `/metrics`.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: std::net::SocketAddr,
    /// DNS suffix of the Kubernetes cluster, for the names in certificates.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// Where an object is, the same for all commands that touch a store.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// The store, as JSON of an `EtcdBackup`'s `spec.store`.
    #[arg(long, value_parser = parse_store)]
    pub store: BackupStore,
    /// Key of the object inside the store, prefix included.
    #[arg(long)]
    pub object: String,
    /// Directory with the credentials Secret, one file a key. Without it the pod's own identity is used.
    #[arg(long)]
    pub credentials_dir: Option<PathBuf>,
    /// PEM file with authorities that sign the store's certificate.
    #[arg(long)]
    pub store_ca_file: Option<PathBuf>,
    /// Where the volume of a `local` store is mounted.
    #[arg(long)]
    pub local_root: Option<PathBuf>,
}

/// Flags of `operator backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// Where to put it.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Client URLs of the cluster's members, separated by commas.
    #[arg(long, required = true, value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// PEM file with the authority of the members' certificates.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate shown to members.
    #[arg(long, requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(long, requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// How the stored object is compressed.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Directory with room for one copy of the database.
    #[arg(long)]
    pub scratch_dir: PathBuf,
    /// File that receives the result or the reason of failure.
    #[arg(long, default_value = TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

/// Flags of `operator fetch-backup`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// Where it is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// File to write. Whatever is there is replaced.
    #[arg(long)]
    pub output: PathBuf,
    /// SHA-256 the object must have, in hexadecimal, when a backup recorded it.
    #[arg(long)]
    pub sha256: Option<String>,
    /// Size the object must have in bytes, when a backup recorded it.
    #[arg(long)]
    pub size: Option<u64>,
    /// Fetch nothing if this exists: it was made of the file before.
    #[arg(long)]
    pub unless_exists: Option<PathBuf>,
    /// File that receives the result or the reason of failure.
    #[arg(long, default_value = TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

/// Flags of `operator delete-backup`.
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// What to delete. An object that is gone already is a success.
    #[command(flatten)]
    pub store: StoreArgs,
    /// File that receives the result or the reason of failure.
    #[arg(long, default_value = TERMINATION_LOG)]
    pub termination_log: PathBuf,
}

fn parse_store(text: &str) -> Result<BackupStore, serde_json::Error> {
    serde_json::from_str(text)
}
