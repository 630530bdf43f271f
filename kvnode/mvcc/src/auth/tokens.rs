//! Simple tokens: random letters that stand for a user on every member (etcd: `server/auth/simple_token.go`).
//!
//! Tokens come and go with applied entries, so all members know the same ones; only the time each of them was last used
//! at is a member's own. Letters and time come in as arguments.

use std::{collections::BTreeMap, time::Duration};

use super::AuthChange;

/// The tokens that are valid, and whose they are.
#[derive(Debug)]
pub struct SimpleTokens {
    ttl: Duration,
    tokens: BTreeMap<String, Holder>,
    /// Number of tokens at which those that ran out are looked for next.
    sweep_at: usize,
}

#[derive(Debug)]
struct Holder {
    user: String,
    expires: Duration,
}

/// With fewer tokens than this, those that ran out do not matter.
const SWEEP_MIN: usize = 64;

impl SimpleTokens {
    /// No tokens yet. Each will live for `ttl` after it was last used.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self { ttl, tokens: BTreeMap::new(), sweep_at: SWEEP_MIN }
    }

    /// The log index at which a token was given, by its text; `None` if it is none of these tokens. A member that has not
    /// applied that entry yet cannot know the token.
    #[must_use]
    pub fn index(token: &str) -> Option<u64> {
        let (_, index) = token.split_once('.')?;
        // As Go's parser, which takes no sign.
        index.bytes().all(|byte| byte.is_ascii_digit()).then(|| index.parse().ok()).flatten()
    }

    /// Follows what applied entries say.
    pub fn observe(&mut self, changes: &[AuthChange], now: Duration) {
        for change in changes {
            match change {
                AuthChange::Enabled => {}
                AuthChange::Disabled => self.clear(),
                AuthChange::TokenAssigned { user, token } => self.assign(user, token, now),
                AuthChange::UserInvalidated(user) => self.tokens.retain(|_, holder| holder.user != *user),
            }
        }
    }

    /// Forgets every token.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.sweep_at = SWEEP_MIN;
    }

    fn assign(&mut self, user: &str, token: &str, now: Duration) {
        let holder = Holder { user: user.to_owned(), expires: now + self.ttl };
        self.tokens.insert(token.to_owned(), holder);
        // Looking at all of them once their number has doubled costs a constant for each.
        if self.tokens.len() >= self.sweep_at {
            self.tokens.retain(|_, holder| now <= holder.expires);
            self.sweep_at = SWEEP_MIN.max(self.tokens.len() * 2);
        }
    }

    /// Whose the token is, if it is valid; using it makes it live on.
    pub fn user(&mut self, token: &str, now: Duration) -> Option<&str> {
        if self.tokens.get(token).is_some_and(|holder| now > holder.expires) {
            self.tokens.remove(token);
        }
        let holder = self.tokens.get_mut(token)?;
        holder.expires = now + self.ttl;
        Some(&holder.user)
    }

    /// Number of tokens that are held, some of which may have run out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn assigned(user: &str, token: &str) -> AuthChange {
        AuthChange::TokenAssigned { user: user.to_owned(), token: token.to_owned() }
    }

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_lives_as_long_as_it_is_used() {
        let mut tokens = SimpleTokens::new(TTL);
        tokens.observe(&[assigned("alice", "a.1"), assigned("bob", "b.2")], second(0));
        assert_eq!(tokens.user("a.1", second(299)), Some("alice"));
        assert_eq!(tokens.user("a.1", second(599)), Some("alice"), "it was used meanwhile");
        assert_eq!(tokens.user("b.2", second(301)), None, "it was not");
        assert_eq!(tokens.user("b.2", second(0)), None, "it does not come back");
        assert_eq!(tokens.user("c.3", second(0)), None);
    }

    #[test]
    fn a_users_tokens_end_with_the_password_and_all_with_authentication() {
        let mut tokens = SimpleTokens::new(TTL);
        tokens.observe(
            &[assigned("alice", "a.1"), assigned("alice", "a.2"), assigned("bob", "b.3")],
            second(0),
        );
        tokens.observe(&[AuthChange::UserInvalidated("alice".to_owned()), AuthChange::Enabled], second(1));
        assert_eq!(tokens.user("a.1", second(1)), None);
        assert_eq!(tokens.user("a.2", second(1)), None);
        assert_eq!(tokens.user("b.3", second(1)), Some("bob"));
        tokens.observe(&[AuthChange::Disabled], second(1));
        assert!(tokens.is_empty());
    }

    #[test]
    fn tokens_that_ran_out_do_not_pile_up() {
        let mut tokens = SimpleTokens::new(TTL);
        for n in 0..100_000 {
            tokens.observe(&[assigned("alice", &format!("a.{n}"))], second(n));
        }
        assert!(tokens.len() <= 700, "{} tokens are held, 301 of them valid", tokens.len());
        assert_eq!(tokens.user("a.99999", second(100_000)), Some("alice"));
    }

    #[test]
    fn a_tokens_index_is_behind_its_letters() {
        assert_eq!(SimpleTokens::index("letters.17"), Some(17));
        for text in
            ["", "letters", "letters.", "letters.x", "letters.+1", "letters.1.2", "a.18446744073709551616"]
        {
            assert_eq!(SimpleTokens::index(text), None, "{text}");
        }
    }
}
