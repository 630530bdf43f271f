//! Sequential writing to a [`File`].

use std::io::{self, Write};

use super::File;
use crate::limits::CHECKPOINT_SYNC_BYTES;

/// Appends to a file from its beginning, syncing now and then so that no sync has much to do.
#[derive(Debug)]
pub struct FileWriter<'a> {
    file: &'a dyn File,
    offset: u64,
    synced: u64,
}

impl<'a> FileWriter<'a> {
    /// Begins at offset 0.
    pub fn new(file: &'a dyn File) -> Self {
        Self { file, offset: 0, synced: 0 }
    }

    /// Continues at `offset`.
    pub fn resume(file: &'a dyn File, offset: u64) -> Self {
        Self { file, offset, synced: offset }
    }

    /// Bytes in front of the next one.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Write for FileWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(data, self.offset)?;
        self.offset += data.len() as u64;
        if self.offset - self.synced >= CHECKPOINT_SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
