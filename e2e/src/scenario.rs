//! One test's place on the cluster: a namespace of its own, what is in it when the test fails, and its removal.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
    config::KubeConfigOptions,
};

use crate::{
    command,
    wait::{Seen, until},
};

/// Environment variable that names the kubeconfig context to test on.
const CONTEXT: &str = "KVNODE_E2E_CONTEXT";

/// How long a namespace may take to disappear: pods get their termination grace.
const NAMESPACE_GONE_LIMIT: Duration = Duration::from_secs(120);

static TURN: Mutex<()> = Mutex::new(());

/// A namespace on the cluster under test.
pub struct Scenario {
    /// Talks to the cluster under test.
    pub client: Client,
    /// The kubeconfig context, for tools.
    pub context: String,
    /// This scenario's namespace.
    pub namespace: String,
}

impl Scenario {
    /// Runs one promise in a fresh namespace. Afterwards the namespace goes, volumes included; on failure it is described
    /// on standard error first.
    pub fn run<F>(name: &str, body: F)
    where
        F: AsyncFnOnce(&Scenario) -> Result<()>,
    {
        // One at a time: a scenario may take the operator away, and timings are taken on an otherwise quiet cluster.
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("start a runtime");
        let outcome = runtime.block_on(async {
            let scenario = Scenario::open(name).await?;
            let outcome = body(&scenario).await;
            if outcome.is_err() {
                scenario.describe().await;
            }
            scenario.close().await?;
            outcome
        });
        if let Err(error) = outcome {
            panic!("{name}: {error:#}");
        }
    }

    async fn open(name: &str) -> Result<Self> {
        // A second call finds the provider installed, which is what was wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let context = std::env::var(CONTEXT)
            .with_context(|| format!("{CONTEXT} names no kubeconfig context: run `make test`, or set it"))?;
        let options = KubeConfigOptions { context: Some(context.clone()), ..Default::default() };
        let config = Config::from_kubeconfig(&options)
            .await
            .with_context(|| format!("read kubeconfig context {context}"))?;
        let client = Client::try_from(config).context("make a Kubernetes client")?;
        let namespace = format!("e2e-{}", name.replace('_', "-"));
        let scenario = Self { client, context, namespace };
        scenario.close().await.context("remove what an earlier run left")?;
        let metadata = ObjectMeta { name: Some(scenario.namespace.clone()), ..Default::default() };
        let object = Namespace { metadata, ..Default::default() };
        scenario
            .namespaces()
            .create(&PostParams::default(), &object)
            .await
            .context("create the namespace")?;
        Ok(scenario)
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }

    /// An API for objects of one kind in this scenario's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs `kubectl` in this scenario's namespace.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "").await
    }

    /// Applies a manifest as a user would.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with_input(&["apply", "-f", "-"], manifest).await
    }

    /// Applies a manifest that must be refused, and gives the refusal's text.
    pub async fn refused(&self, manifest: &str) -> Result<String> {
        match self.apply(manifest).await {
            Ok(output) => anyhow::bail!("accepted what must be refused: {output}\n{manifest}"),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let global = ["--context", &self.context, "--namespace", &self.namespace];
        command::run_with_input("kubectl", global.iter().chain(args), input).await
    }

    /// Prints what a person would look at first.
    async fn describe(&self) {
        let looks: [&[&str]; 5] = [
            &[
                "get",
                "etcdclusters,etcdbackups,etcdbackupschedules,pods,persistentvolumeclaims,jobs",
                "-o",
                "wide",
            ],
            &["get", "etcdclusters,etcdbackups", "-o", "yaml"],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "--selector=kvnode.io/cluster", "--all-containers", "--prefix", "--tail=60"],
            &["logs", "--namespace=kvnode-system", "deployment/kvnode-operator", "--tail=150"],
        ];
        for look in looks {
            match self.kubectl(look).await {
                Ok(output) => eprintln!("--- kubectl {}\n{output}", look.join(" ")),
                Err(error) => eprintln!("--- {error:#}"),
            }
        }
    }

    async fn close(&self) -> Result<()> {
        if self.namespaces().get_opt(&self.namespace).await?.is_none() {
            return Ok(());
        }
        // Volumes outlive clusters by design; a test's volumes go with its namespace.
        let claims: Api<PersistentVolumeClaim> = self.api();
        claims.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        self.namespaces().delete(&self.namespace, &DeleteParams::default()).await?;
        until("the namespace to go", NAMESPACE_GONE_LIMIT, async || {
            Ok(match self.namespaces().get_opt(&self.namespace).await? {
                None => Seen::Done(()),
                Some(_) => Seen::NotYet("it is still there".to_owned()),
            })
        })
        .await
    }
}
