//! Who calls, and whether he may: the questions that methods ask before they act.
//!
//! What is allowed to whom is decided by [`kvnode_mvcc::auth`]. While authentication is off, every question here is
//! answered by one look at a flag.

use kvnode_mvcc::{View, auth::Authorizer};
use tonic::{Status, metadata::MetadataMap};
use tracing::warn;

use super::{Services, call::Call};
use crate::{
    auth::{Credentials, Identity},
    client::{dispatch::Remote, error::status},
};

/// Metadata that carries a token, the first of them that is there (etcd: `rpctypes/metadatafields.go`).
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];

/// Metadata of requests that came in as JSON. The certificate of such a connection is the gateway's in etcd, so that it
/// must not count for the client.
const GATEWAY_KEY: &str = "grpcgateway-accept";

impl Services {
    /// What a client shows of itself, if anybody asks.
    pub(super) fn credentials(&self, metadata: &MetadataMap, remote: &Remote) -> Credentials {
        if self.node.auth_enabled() { self.shown(metadata, remote) } else { Credentials::default() }
    }

    /// What a client shows of itself.
    pub(super) fn shown(&self, metadata: &MetadataMap, remote: &Remote) -> Credentials {
        let value = TOKEN_KEYS.iter().find_map(|key| metadata.get(*key));
        let token = value.map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.strip_prefix("Bearer ").unwrap_or(&text).to_owned()
        });
        let mut common_name = None;
        if token.is_none() && self.config.client_tls.client_cert_auth {
            common_name.clone_from(&remote.common_name);
        }
        if let Some(name) = &common_name
            && metadata.contains_key(GATEWAY_KEY)
        {
            warn!("common-name" = name, "ignoring common name in gRPC-gateway proxy request");
            common_name = None;
        }
        Credentials { token, common_name }
    }
}

impl Call {
    /// Who calls; nobody while authentication is off.
    ///
    /// # Errors
    /// The token stands for nobody.
    pub(super) async fn identity(&self) -> Result<Identity, Status> {
        self.services.node.identify(&self.credentials).await.map_err(status)
    }

    /// The current state, after it was asked whether the caller may do something.
    ///
    /// # Errors
    /// He may not.
    pub(super) async fn permit(
        &self,
        may: impl FnOnce(&Authorizer<'_>, &Identity) -> Result<(), kvnode_mvcc::auth::AuthError>,
    ) -> Result<Permit, Status> {
        let who = self.identity().await?;
        let view = self.services.node.reader().view();
        may(&view.authorizer(), &who).map_err(status)?;
        Ok(Permit { view, who })
    }

    /// Only root may.
    ///
    /// # Errors
    /// The caller is not root.
    pub(super) async fn admin(&self) -> Result<(), Status> {
        self.permit(|authorizer, who| authorizer.admin(who.requester())).await.map(drop)
    }

    /// Anybody may who is somebody.
    ///
    /// # Errors
    /// The caller is nobody.
    pub(super) async fn authenticated(&self) -> Result<(), Status> {
        self.permit(|authorizer, who| authorizer.authenticated(who.requester())).await.map(drop)
    }

    /// Whether what allowed the caller to read still holds; asked before the answer goes out.
    ///
    /// # Errors
    /// Users or roles have changed.
    pub(super) fn still(&self, who: &Identity) -> Result<(), Status> {
        if *who == Identity::default() {
            return Ok(());
        }
        self.services.node.reader().view().authorizer().still(who.requester()).map_err(status)
    }
}

/// Something that was allowed.
pub(super) struct Permit {
    /// The state in which it was.
    pub(super) view: View,
    /// To whom.
    pub(super) who: Identity,
}
