//! Who asks: what clients show of themselves, the tokens that stand for users, and passwords.
//!
//! Users, roles and what they may do are replicated and decided in [`kvnode_mvcc::auth`]; here is what a member knows by
//! itself: keys, the time, random letters. Tokens are etcd's (`server/auth`), so that clients and etcd members in the same
//! cluster accept them. Secrets are never logged; a token appears as a [`fingerprint`].

mod jwt;
mod password;
mod signature;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use kvnode_mvcc::{
    View,
    auth::{AuthChange, Requester, SimpleTokens},
};
use parking_lot::Mutex;
use rand::Rng as _;
use tracing::{info, warn};

use crate::flags::{Config, config::AuthToken};

use jwt::SignedTokens;
pub use jwt::{IssueError, JwtError};
pub use password::{PasswordError, Passwords};

/// What a client shows of itself with a call. Holds secrets, so it cannot be printed.
#[derive(Clone, Default)]
pub struct Credentials {
    /// From the call's metadata.
    pub token: Option<String>,
    /// From its verified certificate, where that counts; empty if the certificate names nobody.
    pub common_name: Option<String>,
}

/// A user, or nobody, and the auth revision at which that was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: String,
    pub auth_revision: u64,
}

impl Identity {
    /// As the state machine asks for it.
    pub fn requester(&self) -> Requester<'_> {
        Requester { user: &self.user, auth_revision: self.auth_revision }
    }
}

/// The tokens of one member: `--auth-token`.
pub struct Tokens {
    provider: Provider,
    /// Whether anybody is asked for one; every call looks here first.
    enabled: AtomicBool,
    epoch: Instant,
}

enum Provider {
    Simple(Mutex<SimpleTokens>),
    Signed(Box<SignedTokens>),
    /// There are no tokens, and passwords are of no use.
    None,
}

/// Letters in a simple token (etcd's `defaultSimpleTokenLength`).
const LETTERS: usize = 16;

impl Tokens {
    /// As the flags say; reads keys.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub fn load(config: &Config) -> Result<Self, JwtError> {
        let provider = match &config.auth_token {
            AuthToken::Simple => Provider::Simple(Mutex::new(SimpleTokens::new(config.auth_token_ttl))),
            AuthToken::Jwt(options) => Provider::Signed(Box::new(SignedTokens::load(options)?)),
            AuthToken::None => Provider::None,
        };
        Ok(Self { provider, enabled: AtomicBool::new(false), epoch: Instant::now() })
    }

    /// Whether authentication is on.
    pub fn enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Goes on from this state.
    pub fn reset(&self, view: &View) {
        let enabled = view.authorizer().is_enabled();
        if let (Provider::Simple(tokens), false) = (&self.provider, enabled) {
            tokens.lock().clear();
        }
        self.enabled.store(enabled, Ordering::Release);
    }

    /// Follows what applied entries say about tokens.
    pub fn observe(&self, changes: &[AuthChange]) {
        if let Provider::Simple(tokens) = &self.provider {
            tokens.lock().observe(changes, self.now());
        }
        for change in changes {
            match change {
                AuthChange::Enabled => {
                    self.enabled.store(true, Ordering::Release);
                    info!("enabled authentication");
                }
                AuthChange::Disabled => {
                    self.enabled.store(false, Ordering::Release);
                    info!("disabled authentication");
                }
                AuthChange::TokenAssigned { .. } | AuthChange::UserInvalidated(_) => {}
            }
        }
    }

    /// The random part of a simple token that is about to be proposed.
    pub fn letters(&self) -> String {
        let letter = |random: &mut rand::rngs::ThreadRng| {
            let n: u8 = random.random_range(0..52);
            char::from(if n < 26 { b'a' + n } else { b'A' + n - 26 })
        };
        match &self.provider {
            Provider::Simple(_) => {
                let mut random = rand::rng();
                (0..LETTERS).map(|_| letter(&mut random)).collect()
            }
            Provider::Signed(_) | Provider::None => String::new(),
        }
    }

    /// The log index that a member must have applied to know the token; `None` if it is no token.
    pub fn index(&self, token: &str) -> Option<u64> {
        match &self.provider {
            Provider::Simple(_) => SimpleTokens::index(token),
            Provider::Signed(_) => Some(0),
            Provider::None => None,
        }
    }

    /// The token of a user whose request for one was applied at this auth revision and gave this simple one.
    ///
    /// # Errors
    /// See [`IssueError`].
    pub fn issue(&self, applied: String, user: &str, revision: u64) -> Result<String, IssueError> {
        match &self.provider {
            Provider::Simple(_) => Ok(applied),
            Provider::Signed(tokens) => tokens.issue(user, revision),
            Provider::None => Err(IssueError::NoTokens),
        }
    }

    /// Who holds the token; `revision` is the current auth revision.
    pub fn identify(&self, token: &str, revision: u64) -> Option<Identity> {
        match &self.provider {
            Provider::Simple(tokens) => {
                let user = tokens.lock().user(token, self.now())?.to_owned();
                Some(Identity { user, auth_revision: revision })
            }
            Provider::Signed(tokens) => tokens.identify(token),
            Provider::None => None,
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// What may be said of a token in a log: the beginning of its hash, as etcd does.
pub fn fingerprint(token: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Notes a token that stands for nobody.
pub fn warn_of(token: &str) {
    warn!("token-fingerprint" = fingerprint(token), "invalid auth token");
}
