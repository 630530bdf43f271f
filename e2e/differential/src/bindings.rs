//! What a `$word` in a step stands for. Revisions are written relative to the present, so that a step still means the
//! same after others before it were left out; ids that servers choose differ from one to the other.
//!
//! | word | stands for |
//! |---|---|
//! | `$now`, `$now-3`, `$now+1` | the revision of the newest answer |
//! | `$compacted` | the revision of the last compaction, 0 before |
//! | `$elected` | the revision at which somebody was elected last, 0 before |
//! | `$assigned` | the last lease whose id the server chose |
//! | `$member0` | the id of a member that the cluster began with |
//! | `$x3000` | that many letters |
//! | `$added` | the id of the member that was added last |

use anyhow::{Result, bail};

/// The words' present meaning on one side.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    pub now: i64,
    pub compacted: i64,
    pub elected: i64,
    pub assigned: i64,
    pub members: Vec<u64>,
    pub added: u64,
}

impl Bindings {
    /// Replaces every `$word` outside of quotes and inside.
    pub fn fill(&self, text: &str) -> Result<String> {
        let mut pieces = text.split('$');
        let mut filled = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len());
            let (word, rest) = piece.split_at(end);
            let (offset, rest) = offset(rest);
            filled.push_str(&self.value(word, offset)?);
            filled.push_str(rest);
        }
        Ok(filled)
    }

    fn value(&self, word: &str, offset: i64) -> Result<String> {
        let number = match word {
            "now" => self.now,
            "compacted" => self.compacted,
            "elected" => self.elected,
            "assigned" => self.assigned,
            "added" => return Ok(self.added.to_string()),
            _ if word.starts_with('x') => return Ok("x".repeat(word[1..].parse()?)),
            _ => match word.strip_prefix("member").and_then(|n| self.members.get(n.parse::<usize>().ok()?)) {
                Some(id) => return Ok(id.to_string()),
                None => bail!("${word} stands for nothing"),
            },
        };
        Ok((number + offset).to_string())
    }
}

/// `+3` or `-3` at the head of a text, and what comes after it.
fn offset(text: &str) -> (i64, &str) {
    let Some(digits) = text.strip_prefix(['+', '-']) else { return (0, text) };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, rest) = text.split_at(end + 1);
    number.parse().map_or((0, text), |number| (number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_numbers() {
        let bindings =
            Bindings { now: 10, compacted: 4, members: vec![7, 8], added: 9, ..Bindings::default() };
        let filled = |text| bindings.fill(text).unwrap();
        assert_eq!(filled("revision: $now-3 limit: 2"), "revision: 7 limit: 2");
        assert_eq!(filled("revision:$compacted+1}"), "revision:5}");
        assert_eq!(filled("ID: $member1 $added $assigned"), "ID: 8 9 0");
        assert!(bindings.fill("$member2").is_err());
    }
}
