//! Passwords: hashed with bcrypt before anybody else sees them. That takes a tenth of a second of a core each time, by
//! design, so it happens on threads that serve nobody, and not on all cores at once.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::limits;

/// Longest password in bytes; bcrypt would ignore the rest.
const PASSWORD_BYTES_MAX: usize = 72;

/// What bcrypt knows, and what etcd takes instead of anything else.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
const COST_DEFAULT: u32 = 10;

/// Why a password was not hashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The text is that of Go's bcrypt.
    #[error("bcrypt: password length exceeds 72 bytes")]
    TooLong,
    #[error("hashing a password failed: {0}; try again")]
    Hashing(String),
}

/// Hashes and compares, a few at a time.
pub struct Passwords {
    cost: u32,
    turns: Semaphore,
}

impl Passwords {
    /// With `--bcrypt-cost`.
    pub fn new(cost: u32) -> Self {
        let cost = if COSTS.contains(&cost) {
            cost
        } else {
            warn!(
                "min-cost" = COSTS.start(),
                "max-cost" = COSTS.end(),
                "default-cost" = COST_DEFAULT,
                "given-cost" = cost,
                "use default bcrypt cost instead of the invalid given cost"
            );
            COST_DEFAULT
        };
        Self { cost, turns: Semaphore::new(limits::PASSWORDS_AT_ONCE) }
    }

    /// The hash of a password, as it travels in the log: base64.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        let cost = self.cost;
        let hash = self.work(move || bcrypt::hash_with_result(password, cost)).await?;
        let hash = hash.map_err(|error| PasswordError::Hashing(error.to_string()))?;
        // The version that Go writes.
        Ok(BASE64_STANDARD.encode(hash.format_for_version(bcrypt::Version::TwoA)))
    }

    /// Whether a password has this hash.
    ///
    /// # Errors
    /// [`PasswordError::Hashing`].
    pub async fn matches(&self, password: String, hash: Bytes) -> Result<bool, PasswordError> {
        let compare = move || {
            let hash = std::str::from_utf8(&hash).ok();
            hash.is_some_and(|hash| bcrypt::verify(password, hash).unwrap_or(false))
        };
        self.work(compare).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let failed = |why: String| PasswordError::Hashing(why);
        let _turn = self.turns.acquire().await.map_err(|error| failed(error.to_string()))?;
        tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_its_password_and_no_other() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        let hash = Bytes::from(BASE64_STANDARD.decode(hash).unwrap());
        assert!(hash.starts_with(b"$2a$04$"), "{hash:?}");
        assert!(passwords.matches("secret".to_owned(), hash.clone()).await.unwrap());
        for wrong in ["", "Secret", "secret\0", "secret "] {
            assert!(!passwords.matches(wrong.to_owned(), hash.clone()).await.unwrap(), "{wrong:?}");
        }
        assert!(!passwords.matches(String::new(), Bytes::new()).await.unwrap(), "no hash fits nothing");
        assert_eq!(passwords.hash("x".repeat(73)).await, Err(PasswordError::TooLong));
        assert!(passwords.hash(String::new()).await.is_ok(), "an empty one is etcd's business");
    }

    #[tokio::test]
    async fn hashes_that_go_made_are_understood() {
        // htpasswd and golang.org/x/crypto/bcrypt agree on this one: "abc".
        let hash = Bytes::from_static(b"$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i");
        assert!(Passwords::new(4).matches("abc".to_owned(), hash).await.unwrap());
    }
}
