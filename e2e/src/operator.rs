//! Installing and removing the operator the way its users do: by Helm.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use crate::command;

/// Helm release and namespace of the operator under test.
pub const RELEASE: &str = "kvnode-operator";
/// Where the operator lives.
pub const NAMESPACE: &str = "kvnode-system";

/// Environment variables that name the images under test, as `repository:tag`.
const OPERATOR_IMAGE: &str = "KVNODE_OPERATOR_IMAGE";
const NODE_IMAGE: &str = "KVNODE_IMAGE";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/kvnode-operator")
}

fn image(variable: &str) -> Result<(String, String)> {
    let image = std::env::var(variable)
        .with_context(|| format!("{variable} names no image: run `make test`, or set it"))?;
    let (repository, tag) =
        image.rsplit_once(':').with_context(|| format!("{variable}={image} has no tag"))?;
    Ok((repository.to_owned(), tag.to_owned()))
}

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Makes sure, once in this run, that the operator under test is installed and runs.
pub async fn install(context: &str) -> Result<()> {
    INSTALLED.get_or_try_init(|| install_again(context)).await?;
    Ok(())
}

/// Installs the operator, or upgrades it to the images under test, and waits until it runs.
pub async fn install_again(context: &str) -> Result<()> {
    let (operator, operator_tag) = image(OPERATOR_IMAGE)?;
    let (node, node_tag) = image(NODE_IMAGE)?;
    let chart = chart();
    let chart = chart.to_str().context("the chart's path is UTF-8")?;
    let mut args: Vec<String> =
        ["upgrade", "--install", RELEASE, chart, "--kube-context", context, "--namespace", NAMESPACE]
            .map(str::to_owned)
            .into();
    args.extend(["--create-namespace", "--wait", "--timeout", "180s"].map(str::to_owned));
    for (value, setting) in [
        ("image.repository", &operator),
        ("image.tag", &operator_tag),
        ("nodeImage.repository", &node),
        ("nodeImage.tag", &node_tag),
    ] {
        args.extend(["--set-string".to_owned(), format!("{value}={setting}")]);
    }
    args.extend(
        ["--set-string", "image.registry=", "--set-string", "nodeImage.registry="].map(str::to_owned),
    );
    command::run("helm", args).await.context("install the operator")?;
    Ok(())
}

/// Uninstalls the operator.
pub async fn uninstall(context: &str) -> Result<()> {
    let args = ["uninstall", RELEASE, "--kube-context", context, "--namespace", NAMESPACE, "--wait"];
    command::run("helm", args).await.context("uninstall the operator")?;
    Ok(())
}
