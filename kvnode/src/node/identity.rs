//! Who asks, as this member knows it: tokens follow the log, and a token is looked up once its entry is applied.

use std::sync::atomic::Ordering;

use kvnode_mvcc::{Batch, RaftIndex, auth::AuthChange};

use super::{Node, NodeError, apply_loop::Audience, shared::SharedRef};
use crate::auth::{self, Credentials, Identity};

/// Keeps tokens in step with what is applied.
pub(crate) struct TokenListener {
    pub(crate) shared: SharedRef,
    /// The last entry of the log at the start.
    pub(crate) replayed: RaftIndex,
}

impl TokenListener {
    /// A token of an earlier life may have run out in it, and does not come back.
    fn lives(&self, change: &AuthChange) -> bool {
        match change {
            AuthChange::TokenAssigned { token, .. } => {
                self.shared.tokens.index(token).is_none_or(|index| index > self.replayed.0)
            }
            _ => true,
        }
    }
}

impl Audience for TokenListener {
    fn applied(&mut self, batch: &Batch) {
        if !batch.auth_changes.is_empty() {
            let changes = batch.auth_changes.iter().filter(|change| self.lives(change));
            self.shared.tokens.observe(&changes.cloned().collect::<Vec<_>>());
        }
    }

    fn leads(&mut self) {}

    fn replaced(&mut self, batch: &Batch) {
        self.shared.tokens.reset(&batch.view);
    }
}

impl Node {
    /// Whether clients are asked who they are. Costs next to nothing.
    #[must_use]
    pub fn auth_enabled(&self) -> bool {
        self.shared.tokens.enabled()
    }

    /// The tokens of this member.
    #[must_use]
    pub fn tokens(&self) -> &auth::Tokens {
        &self.shared.tokens
    }

    /// Who shows these credentials; nobody while authentication is off. A token counts before a certificate (etcd:
    /// `AuthInfoFromCtx`).
    ///
    /// # Errors
    /// [`NodeError::InvalidToken`].
    pub async fn identify(&self, credentials: &Credentials) -> Result<Identity, NodeError> {
        if !self.auth_enabled() {
            return Ok(Identity::default());
        }
        if let Some(token) = &credentials.token {
            return self.holder(token).await.inspect_err(|_| auth::warn_of(token));
        }
        let auth_revision = self.reader().view().authorizer().revision();
        let named = credentials.common_name.clone().map(|user| Identity { user, auth_revision });
        Ok(named.unwrap_or_default())
    }

    /// Whether whoever shows these credentials is root, or nobody asks.
    ///
    /// # Errors
    /// He is not.
    pub(crate) async fn check_admin(&self, credentials: &Credentials) -> Result<(), NodeError> {
        let who = self.identify(credentials).await?;
        self.reader().view().authorizer().admin(who.requester()).map_err(|e| NodeError::Apply(e.into()))
    }

    async fn holder(&self, token: &str) -> Result<Identity, NodeError> {
        let tokens = &self.shared.tokens;
        let index = tokens.index(token).ok_or(NodeError::InvalidToken)?;
        let applied = || self.shared.raft.applied.load(Ordering::Acquire) >= index;
        if !applied() {
            // Another member gave it a moment ago, or nobody did. etcd waits for the index, for ever in the latter case.
            self.linearize().await?;
            if !applied() {
                return Err(NodeError::InvalidToken);
            }
        }
        // Before the look-up: whoever loses his token right after it has an old revision.
        let revision = self.reader().view().authorizer().revision();
        tokens.identify(token, revision).ok_or(NodeError::InvalidToken)
    }
}
