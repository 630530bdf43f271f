//! An S3 server in a scenario's namespace, for backups to go to.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    scenario::Scenario,
    wait::{Seen, until},
};

/// Environment variable that names the S3 server's image.
const IMAGE: &str = "KVNODE_S3_IMAGE";

/// The bucket that exists from the start.
pub const BUCKET: &str = "backups";

/// The Secret with the right credentials.
pub const CREDENTIALS: &str = "store-credentials";

/// How long the server may take to answer.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Starts the server and waits until it takes connections. The bucket is a directory that stands ready.
pub async fn start(scenario: &Scenario) -> Result<()> {
    let image = std::env::var(IMAGE)
        .with_context(|| format!("{IMAGE} names no image: run `make test`, or set it"))?;
    scenario.apply(&credentials(CREDENTIALS, "test-access", "test-secret")).await?;
    scenario.apply(&server(&image)).await?;
    until("the S3 server to be ready", READY_LIMIT, async || {
        let ready =
            scenario.kubectl(&["get", "deployment", "s3", "-o", "jsonpath={.status.readyReplicas}"]).await?;
        Ok(if ready == "1" { Seen::Done(()) } else { Seen::NotYet(format!("{ready:?} ready replicas")) })
    })
    .await
}

/// A Secret as users write it for an S3 store.
pub fn credentials(name: &str, access: &str, secret: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: {name}
stringData:
  AWS_ACCESS_KEY_ID: {access}
  AWS_SECRET_ACCESS_KEY: {secret}
"
    )
}

/// The lines under `store:` that lead to this server, at an indentation.
pub fn reference(indent: usize, credentials: &str) -> String {
    let pad = " ".repeat(indent);
    format!(
        "{pad}s3:
{pad}  bucket: {BUCKET}
{pad}  endpoint: http://s3:7070
{pad}  credentialsSecretRef:
{pad}    name: {credentials}
"
    )
}

fn server(image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: s3
spec:
  selector: {{app: s3}}
  ports:
    - port: 7070
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: s3
spec:
  selector:
    matchLabels: {{app: s3}}
  template:
    metadata:
      labels: {{app: s3}}
    spec:
      containers:
        - name: s3
          image: {image}
          imagePullPolicy: IfNotPresent
          args: [--port, ':7070', posix, /data]
          env:
            - {{name: ROOT_ACCESS_KEY, valueFrom: {{secretKeyRef: {{name: {CREDENTIALS}, key: AWS_ACCESS_KEY_ID}}}}}}
            - {{name: ROOT_SECRET_KEY, valueFrom: {{secretKeyRef: {{name: {CREDENTIALS}, key: AWS_SECRET_ACCESS_KEY}}}}}}
          readinessProbe:
            tcpSocket: {{port: 7070}}
            periodSeconds: 1
          volumeMounts:
            - {{name: data, mountPath: /data}}
            - {{name: data, mountPath: /data/{BUCKET}, subPath: {BUCKET}}}
      volumes:
        - name: data
          emptyDir: {{}}
"
    )
}
