//! The Jobs against real object stores on loopback, over TLS with an authority of their own: versitygw for S3, Azurite for
//! Azure. `kind/tools.sh versitygw azurite` builds both; without them these tests fail.
//!
//! Of Google Cloud Storage only the way to its endpoint is here: its one free server, fake-gcs-server, lacks the multipart
//! uploads that a backup makes.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::HttpRequestBody;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

/// Account and secret that both servers know; Azure wants the secret in base64.
const ACCOUNT: &str = "backups";
const SECRET: &str = "c2VjcmV0LW9mLWJhY2t1cHM=";
/// Far more than a cold start of Node takes on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server, which ends with the test.
struct Server {
    child: Child,
    dir: TempDir,
    /// The store as a user writes it, with the place `backups`.
    spec: serde_json::Value,
    /// How locations begin.
    scheme: &'static str,
    /// What holds objects.
    holder: &'static str,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Server {
    fn s3() -> Self {
        let (dir, address) = prepare();
        std::fs::create_dir_all(dir.path().join("data/backups")).unwrap();
        let mut command = Command::new(program("versitygw"));
        command.args(["--access", ACCOUNT, "--secret", SECRET, "--port", &address.to_string()]);
        // It changes its directory before it reads them.
        let file = |name| dir.path().join(name);
        command.arg("--cert").arg(file("server.crt")).arg("--key").arg(file("server.key"));
        command.args(["posix", "data"]);
        let url = format!("https://{address}");
        let spec = serde_json::json!({"s3": {"bucket": "backups", "endpoint": url}});
        credentials(&dir, &crds::store::S3_CREDENTIAL_KEYS);
        Self { child: started(command, &dir, address), dir, spec, scheme: "s3", holder: "bucket", url }
    }

    async fn azure() -> Self {
        let (dir, address) = prepare();
        let mut command = Command::new(program("azurite-blob"));
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{SECRET}"));
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &address.port().to_string()]);
        command.args(["--location", "data", "--cert", "server.crt", "--key", "server.key"]);
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"]);
        let url = format!("https://{address}/{ACCOUNT}");
        let spec = serde_json::json!({"azure": {"container": "backups", "endpoint": url}});
        credentials(&dir, &crds::store::AZURE_CREDENTIAL_KEYS);
        let server = Self {
            child: started(command, &dir, address),
            dir,
            spec,
            scheme: "az",
            holder: "container",
            url,
        };
        server.make_container().await;
        server
    }

    /// The Job only uses containers that are there.
    async fn make_container(&self) {
        let url = format!("{}/backups?restype=container", self.url);
        let mut request = http::Request::put(url).body(HttpRequestBody::empty()).unwrap();
        request.headers_mut().insert("content-length", http::HeaderValue::from_static("0"));
        let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(SECRET).unwrap());
        AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).unwrap();
        let ca = std::fs::read(self.dir.path().join("ca.crt")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .build()
            .unwrap();
        let (parts, _) = request.into_parts();
        let answer = client.put(parts.uri.to_string()).headers(parts.headers).body("").send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// What a Job is told about the object `1.db` when everything is right.
    fn store(&self) -> StoreArgs {
        StoreArgs {
            store: serde_json::from_value(self.spec.clone()).unwrap(),
            object: "db/core/1.db".to_owned(),
            credentials_dir: Some(self.dir.path().join("credentials")),
            store_ca_file: Some(self.dir.path().join("ca.crt")),
            local_root: None,
        }
    }

    /// A bucket or container that is not there.
    fn elsewhere(&self) -> StoreArgs {
        let text = self.spec.to_string().replace(r#""backups""#, r#""elsewhere""#);
        StoreArgs { store: serde_json::from_str(&text).unwrap(), ..self.store() }
    }

    fn wrong_key(&self) -> StoreArgs {
        let dir = self.dir.path().join("wrong");
        std::fs::create_dir_all(&dir).unwrap();
        for file in std::fs::read_dir(self.dir.path().join("credentials")).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap().replace(SECRET, "d3Jvbmc=");
            std::fs::write(dir.join(file.file_name()), text).unwrap();
        }
        StoreArgs { credentials_dir: Some(dir), ..self.store() }
    }
}

/// A folder with certificates, and a port nobody listens on.
fn prepare() -> (TempDir, SocketAddr) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = dirs();
    let (ca, issuer) = authority();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let (other, _) = authority();
    for (name, pem) in [
        ("ca.crt", ca),
        ("other.crt", other),
        ("server.crt", leaf.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        std::fs::write(dir.path().join(name), pem).unwrap();
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (dir, address)
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

fn credentials(dir: &TempDir, [account, secret]: &[&str; 2]) {
    let dir = dir.path().join("credentials");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(account), ACCOUNT).unwrap();
    std::fs::write(dir.join(secret), SECRET).unwrap();
}

/// One of the servers, on PATH or where `kind/tools.sh` links it.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    std::env::split_paths(&path)
        .chain([home.join(".cache/kvnode/bin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not on PATH: run `kind/tools.sh versitygw azurite`"))
}

fn started(mut command: Command, dir: &TempDir, address: SocketAddr) -> Child {
    let log = std::fs::File::create(dir.path().join("server.log")).unwrap();
    command.current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let said = || std::fs::read_to_string(dir.path().join("server.log")).unwrap();
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + START_LIMIT;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "{command:?} ended before it listened: {}", said());
        assert!(Instant::now() < deadline, "{command:?} does not listen on {address}: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

async fn backup_to(server: &Server, store: StoreArgs) -> Result<BackupResult, crate::jobs::JobError> {
    let member = serve(Db::new().snapshot()).await;
    backup::run(BackupArgs { store, ..backup_args(&server.dir, member, "", Compression::None) }).await
}

/// What a store promises, whoever runs it.
async fn keeps_its_promises(server: &Server) {
    let Server { scheme, holder, url, .. } = server;
    let made = backup_to(server, server.store()).await.unwrap();
    assert_eq!(made.location, format!("{scheme}://backups/db/core/1.db"));
    let fetch = |store| FetchArgs { store, sha256: Some(made.sha256.clone()), ..fetch_args(&server.dir, "") };
    let right = fetch(server.store());
    fetch::run(right.clone()).await.unwrap();
    assert!(std::fs::read(&right.output).unwrap() == Db::new().snapshot(), "{scheme}: other bytes");

    let other = server.dir.path().join("other.crt");
    let untrusted = format!("the certificate of the object store at {url} is not trusted while ");
    let place = format!("{scheme}://elsewhere/db/core/1.db");
    let cases = [
        (
            server.wrong_key(),
            format!("the object store at {url} refused the credentials while "),
            "check the keys in the credentials Secret",
        ),
        (
            server.elsewhere(),
            format!("the {holder} of {place} does not exist at {url}"),
            "create it or correct the",
        ),
        (
            StoreArgs { store_ca_file: None, ..server.store() },
            untrusted.clone(),
            "name its authority with caSecretRef",
        ),
        (
            StoreArgs { store_ca_file: Some(other), ..server.store() },
            untrusted,
            "name its authority with caSecretRef",
        ),
    ];
    // Azure answers a deletion alike whether the object or its whole container is gone; either way nothing is left.
    let gone_with_its_container = "az://elsewhere/db/core/1.db";
    for (store, begins, next) in cases {
        let delete = DeleteArgs { store: store.clone(), termination_log: server.dir.path().join("log") };
        let errors = [
            backup_to(server, store.clone()).await.unwrap_err().to_string(),
            fetch::run(fetch(store)).await.unwrap_err().to_string(),
            delete::run(delete).await.map_or_else(|e| e.to_string(), |done| done.deleted),
        ];
        for (doing, error) in ["backup", "fetch", "delete"].into_iter().zip(errors) {
            let told = error.starts_with(&begins) && error.contains(next);
            assert!(told || error == gone_with_its_container, "{scheme} {doing}: {error}");
        }
    }

    for _ in 0..2 {
        let args = DeleteArgs { store: server.store(), termination_log: server.dir.path().join("log") };
        assert_eq!(delete::run(args).await.unwrap().deleted, made.location);
    }
    let error = fetch::run(right).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} does not exist at {url}", made.location)), "{error}");
}

#[tokio::test]
async fn s3_keeps_its_promises_over_tls() {
    keeps_its_promises(&Server::s3()).await;
}

#[tokio::test]
async fn azure_keeps_its_promises_over_tls() {
    keeps_its_promises(&Server::azure().await).await;
}

#[tokio::test]
async fn requests_for_google_go_to_the_endpoint() {
    let (dir, address) = prepare();
    let key = r#"{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true}"#;
    std::fs::write(dir.path().join(crds::store::GCS_CREDENTIAL_KEYS[0]), key).unwrap();
    let url = format!("http://{address}");
    let spec = serde_json::json!({"gcs": {"bucket": "backups", "endpoint": url}});
    let store = StoreArgs {
        store: serde_json::from_value(spec).unwrap(),
        credentials_dir: Some(dir.path().to_owned()),
        ..store(dir.path(), "1.db")
    };
    let error = fetch::run(FetchArgs { store, ..fetch_args(&dir, "") }).await.unwrap_err().to_string();
    let expected = format!("cannot reach the object store at {url} while reading gs://backups/1.db: ");
    assert!(error.starts_with(&expected), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}
