//! The checksum of a snapshot: etcd appends the SHA-256 of all bytes before it. Pure; fed part by part.

use sha2::{Digest, Sha256};

/// Length of the trailer.
pub const TRAILER_BYTES: usize = 32;

/// A snapshot whose bytes pass by: knows at the end whether the trailer fits.
pub struct TrailerCheck {
    body: Sha256,
    /// The last bytes seen: the trailer, if nothing follows.
    tail: Vec<u8>,
    total_bytes: u64,
}

/// What the bytes add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Bytes in all, trailer included.
    pub total_bytes: u64,
    /// SHA-256 of all bytes, trailer included: what `sha256sum` prints.
    pub sha256: String,
}

/// Why the bytes are no intact snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    /// Too short for a trailer.
    #[error("it has only {0} bytes")]
    TooShort(u64),
    /// Not a database with a trailer: a length that no complete snapshot has.
    #[error("its length of {0} bytes is not that of a complete snapshot")]
    BadLength(u64),
    /// The trailer does not fit.
    #[error("its checksum does not fit its {0} bytes")]
    Mismatch(u64),
}

impl Default for TrailerCheck {
    fn default() -> Self {
        Self { body: Sha256::new(), tail: Vec::with_capacity(2 * TRAILER_BYTES), total_bytes: 0 }
    }
}

impl TrailerCheck {
    /// More bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.total_bytes = self.total_bytes.saturating_add(bytes.len() as u64);
        // Whatever is followed by 32 more bytes belongs to the body.
        let body_of_new = bytes.len().saturating_sub(TRAILER_BYTES);
        let overflow = (self.tail.len() + bytes.len()).saturating_sub(TRAILER_BYTES).min(self.tail.len());
        self.body.update(self.tail.drain(..overflow).as_slice());
        self.body.update(&bytes[..body_of_new]);
        self.tail.extend_from_slice(&bytes[body_of_new..]);
    }

    /// Decides; etcd tells a trailer from its absence by the length modulo 512, and so does this.
    pub fn finish(self) -> Result<Checked, TrailerError> {
        let total_bytes = self.total_bytes;
        if self.tail.len() < TRAILER_BYTES {
            return Err(TrailerError::TooShort(total_bytes));
        }
        if total_bytes % 512 != TRAILER_BYTES as u64 {
            return Err(TrailerError::BadLength(total_bytes));
        }
        let whole = self.body.clone().chain_update(&self.tail).finalize();
        if self.body.finalize().as_slice() != self.tail {
            return Err(TrailerError::Mismatch(total_bytes));
        }
        Ok(Checked { total_bytes, sha256: hex(&whole) })
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(pages: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..pages * 512).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let trailer = Sha256::digest(&bytes);
        bytes.extend_from_slice(&trailer);
        bytes
    }

    fn check(bytes: &[u8], part: usize) -> Result<Checked, TrailerError> {
        let mut check = TrailerCheck::default();
        for chunk in bytes.chunks(part) {
            check.update(chunk);
        }
        check.finish()
    }

    #[test]
    fn an_intact_snapshot_passes_however_it_is_cut() {
        let bytes = snapshot(3);
        let sha256 = hex(&Sha256::digest(&bytes));
        for part in [1, 7, 31, 32, 33, 512, 1000, 1 << 20] {
            let checked = check(&bytes, part).unwrap();
            assert_eq!(
                (checked.total_bytes, checked.sha256.as_str()),
                (1568, sha256.as_str()),
                "parts of {part}"
            );
        }
    }

    #[test]
    fn truncated_or_changed_bytes_are_refused() {
        let bytes = snapshot(3);
        for flipped in [0, 700, 1535, 1536, 1567] {
            let mut changed = bytes.clone();
            changed[flipped] ^= 1;
            assert_eq!(check(&changed, 100), Err(TrailerError::Mismatch(1568)), "byte {flipped}");
        }
        for length in [0, 31, 32, 544, 1056, 1535, 1567] {
            assert!(check(&bytes[..length], 100).is_err(), "{length} bytes");
        }
    }
}
