//! Next segments, made ready before they are needed: space reserved, content zero, synced.
//!
//! A released segment is used again if there is one: its blocks are already written, so a sync of the log need not
//! record that they became valid. The zeroing is what makes the decoder see an end.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{
    limits::ZERO_STEP_BYTES,
    vfs::{File, OpenMode, Vfs},
};

/// Who makes the next segment ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preparation {
    /// A thread of its own, started when the current segment is half full.
    #[default]
    Background,
    /// The caller, when it is needed: for simulation, where everything happens in one thread.
    Inline,
}

/// How much a log has got done on its disk. It moves with every sync: whoever watches a write that takes long sees whether
/// the disk is slow or hangs.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Steps done since the log was opened.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The disk did something.
    pub(super) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes segments ready. A ready one lies under [`Preparer::next_path`] until its owner renames it.
#[derive(Debug)]
pub struct Preparer {
    job: Job,
    worker: Option<Worker>,
    preparation: Preparation,
}

#[derive(Clone, Debug)]
struct Job {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    segment_bytes: u64,
    progress: Progress,
}

#[derive(Debug)]
struct Worker {
    result: Receiver<io::Result<Box<dyn File>>>,
    thread: JoinHandle<()>,
}

impl Preparer {
    pub fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, segment_bytes: u64, preparation: Preparation) -> Self {
        let job = Job { vfs, dir, segment_bytes, progress: Progress::default() };
        Self { job, worker: None, preparation }
    }

    /// Of everything that is done for the log, by whichever thread.
    pub fn progress(&self) -> &Progress {
        &self.job.progress
    }

    /// Where a ready segment lies. Not one of etcd's names: etcd takes its own up again without zeroing them.
    pub fn next_path(&self) -> PathBuf {
        self.job.next_path()
    }

    /// Where a released segment waits to be used again. Only one is kept.
    pub fn recycled_path(&self) -> PathBuf {
        self.job.recycled_path()
    }

    /// Begins to make a segment ready, unless one already is or the caller will do it.
    pub fn begin(&mut self) -> io::Result<()> {
        if self.preparation == Preparation::Inline || self.worker.is_some() {
            return Ok(());
        }
        let (sender, result): (SyncSender<_>, _) = sync_channel(1);
        let job = self.job.clone();
        let thread = std::thread::Builder::new().name("wal-prepare".into()).spawn(move || {
            // Nobody listens any more when the log was closed meanwhile; the file is removed at the next start.
            let _ = sender.send(job.run());
        })?;
        self.worker = Some(Worker { result, thread });
        Ok(())
    }

    /// A ready segment, waiting for it if need be.
    pub fn take(&mut self) -> io::Result<Box<dyn File>> {
        match self.worker.take() {
            None => self.job.run(),
            Some(worker) => {
                let result = worker.result.recv();
                let joined = worker.thread.join();
                match (result, joined) {
                    (Ok(result), Ok(())) => result,
                    _ => Err(io::Error::other("the thread that prepares log segments died")),
                }
            }
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        // Else it might still rename files below the log's next user.
        if let Some(worker) = self.worker.take() {
            let _ = worker.thread.join();
        }
    }
}

impl Job {
    fn next_path(&self) -> PathBuf {
        self.dir.join("next.tmp")
    }

    fn recycled_path(&self) -> PathBuf {
        self.dir.join("recycled.tmp")
    }

    fn run(&self) -> io::Result<Box<dyn File>> {
        let next = self.next_path();
        if self.vfs.exists(&self.recycled_path())? {
            self.vfs.rename(&self.recycled_path(), &next)?;
            // The old name is gone for good before the content is; whoever released it may not have come to that yet.
            self.vfs.sync_dir(&self.dir)?;
            self.progress.step();
            let file = self.vfs.open(&next, OpenMode::ReadWrite)?;
            zero(&*file, 0, file.length()?, &self.progress)?;
            return self.reserve(file);
        }
        self.reserve(self.vfs.open(&next, OpenMode::CreateOrTruncate)?)
    }

    fn reserve(&self, file: Box<dyn File>) -> io::Result<Box<dyn File>> {
        file.allocate(self.segment_bytes)?;
        file.sync_data()?;
        self.progress.step();
        Ok(file)
    }
}

/// Overwrites `start..end` with zeros and syncs.
pub fn zero(file: &dyn File, start: u64, end: u64, progress: &Progress) -> io::Result<()> {
    let zeros = vec![0; ZERO_STEP_BYTES];
    let mut at = start;
    while at < end {
        let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(&zeros[..step], at)?;
        file.sync_data()?;
        progress.step();
        at += step as u64;
    }
    Ok(())
}

/// Removes what an earlier run left half made, etcd's own preparations included.
pub fn remove_leftovers(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    for name in vfs.list(dir)? {
        if name.ends_with(".tmp") {
            vfs.remove_file(&dir.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{SimDisk, read_file};

    /// The log thread has renamed it and goes on to sync the directory when the preparing thread finds it.
    #[test]
    fn a_segment_is_not_zeroed_while_it_may_come_back_under_its_old_name() {
        let (dir, content) = (PathBuf::from("/wal"), [7; 2048]);
        let old = dir.join("0000000000000000-0000000000000000.wal");
        for image in 0..20 {
            let disk = SimDisk::new();
            disk.create_dir_all(&dir).expect("power");
            disk.sync_dir(Path::new("/")).expect("power");
            let file = disk.open(&old, OpenMode::CreateNew).expect("power");
            file.write_all_at(&content, 0).expect("power");
            file.sync_data().expect("power");
            disk.sync_dir(&dir).expect("power");
            let mut preparer = Preparer::new(Arc::new(disk.clone()), dir.clone(), 4096, Preparation::Inline);
            disk.rename(&old, &preparer.recycled_path()).expect("power");
            preparer.take().expect("power");
            let after = disk.crash(image);
            if after.exists(&old).expect("power") {
                assert_eq!(read_file(&after, &old).expect("power"), content, "image {image}");
            }
        }
    }
}
