//! Sequential writing to a [`File`].

use std::{
    io::{self, Write},
    ops::Deref,
};

use super::File;
use crate::limits::CHECKPOINT_SYNC_BYTES;

/// Appends to a file from its beginning, syncing now and then so that no sync has much to do.
#[derive(Debug)]
pub struct FileWriter<F> {
    file: F,
    offset: u64,
    synced: u64,
}

impl<F: Deref<Target = dyn File>> FileWriter<F> {
    /// Begins at offset 0.
    pub fn new(file: F) -> Self {
        Self { file, offset: 0, synced: 0 }
    }

    /// Bytes in front of the next one.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is written to.
    pub fn file(&self) -> &dyn File {
        &*self.file
    }
}

impl<F: Deref<Target = dyn File>> Write for FileWriter<F> {
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
