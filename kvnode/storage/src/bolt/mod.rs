//! bbolt files (format version 2): a reader for any of them, and a writer that lays one out in a single pass.
//!
//! The writer makes a file from sorted buckets; it never changes one. It runs twice over the same source: once to
//! measure, so that the exact length is known before the first byte leaves, once to write. Nothing but the current
//! leaf is held in memory, and values are not copied on the way. The reader follows the whole tree in order and trusts
//! nothing it reads. Drawn pages are in FORMAT.md.

mod error;
mod meta;
mod page;
mod reader;
mod writer;

pub use error::BoltError;
pub use reader::{Items, PageSet, Reader};
pub use writer::{Layout, write_image};

use bytes::Bytes;

/// Sorted buckets of sorted items, the same at every call: what a bolt file is made from.
pub trait BucketSource {
    /// The names of the buckets, ascending.
    fn buckets(&self) -> Vec<&str>;

    /// The items of a bucket, keys strictly ascending and not empty.
    fn items(&self, bucket: &str) -> Box<dyn Iterator<Item = (Bytes, Bytes)> + '_>;
}
