//! Files that are being written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs;

use super::{holes, meta_of, mode_of, times};
use crate::disk::{Meta, Stage};

/// A file in `.mesh/tmp`.
pub(super) struct Staged {
    pub(super) file: File,
    /// Up to here the system was told to begin writing.
    pub(super) told: u64,
    /// Where what was written ends.
    pub(super) end: u64,
    pub(super) modes: bool,
}

/// Bytes after which the system is told to write back (32 MiB): else it waits with gigabytes for the flush at the end.
const WRITE_BACK: u64 = 32 << 20;

impl Staged {
    /// Drops what is written already from memory and starts writing what is not. A hint: the flush decides.
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        allow(clippy::unused_self, reason = "other systems have no such hint")
    )]
    fn write_back(&mut self, end: u64) {
        if end < self.told + WRITE_BACK {
            return;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = fs::fadvise(
            &self.file,
            self.told,
            std::num::NonZeroU64::new(end - self.told),
            fs::Advice::DontNeed,
        );
        self.told = end;
    }
}

impl Stage for Staged {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        // Below the end something else may stand there, from a try before.
        if offset < self.end {
            self.file.write_all_at(bytes, offset)?;
        } else {
            for (at, piece) in holes::pieces(bytes) {
                self.file.write_all_at(piece, offset + at as u64)?;
            }
        }
        self.write_back(offset + bytes.len() as u64);
        self.skip_to(offset + bytes.len() as u64)
    }

    fn skip_to(&mut self, end: u64) -> io::Result<()> {
        self.end = self.end.max(end);
        // Who reads the file before it is finished finds the zeros at its end.
        if fs::fstat(&self.file)?.st_size.cast_unsigned() < self.end {
            self.file.set_len(self.end)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, mode: u32, mtime_ns: i64) -> io::Result<Meta> {
        if self.modes {
            fs::fchmod(&self.file, mode_of(mode))?;
        }
        fs::futimens(&self.file, &times(mtime_ns))?;
        Ok(meta_of(&fs::fstat(&self.file)?))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
