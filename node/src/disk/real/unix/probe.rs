//! What the filesystem under a folder does: found out by trying, in `.mesh/tmp`.
//!
//! What is tried there has names of its own and goes at once; what a crash left goes with the next
//! try. Nothing is read out of the name of the filesystem but what cannot be tried.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{HANDLE, RealDisk};
use crate::disk::names::{self, Traits};
use crate::disk::{Disk, TMP, private};

/// What all that is tried is called; the name of a staged file begins otherwise. A number of its own follows
/// each time: the system may still know a name of the last time, and answer for that.
const TRY: &str = "probe-";
/// Digits of that number.
const DIGITS: usize = 16;

/// Tries everything. Fails where nothing can be made, as on a full disk.
pub(super) fn probe(disk: &RealDisk) -> io::Result<Traits> {
    let mut here = Here {
        disk,
        dir: disk.walk(&private(TMP), HANDLE)?,
        number: format!("{:0DIGITS$x}-", disk.now_ns().cast_unsigned()),
        made: Vec::new(),
    };
    here.clear();
    let found = here.look();
    here.clear();
    found
}

struct Here<'a> {
    disk: &'a RealDisk,
    dir: OwnedFd,
    number: String,
    made: Vec<Vec<u8>>,
}

impl Here<'_> {
    fn look(&mut self) -> io::Result<Traits> {
        self.make(b"aB")?;
        let composed = "\u{e9}".as_bytes();
        let other_case = self.has(b"Ab");
        let accents = self.make(composed).is_ok();
        let other_form = accents && self.has("e\u{301}".as_bytes());
        // Where names are listed in another case, one case is as good as the other.
        let cased = self.lists(b"aB")?;
        let rewrites = !cased || accents && !self.lists(composed)?;
        let mut windows = false;
        for bad in ["a:", "a*", "a?", "a\"", "a<", "a>", "a|", "a\\b", "\u{1}"] {
            windows |= !self.takes(bad.as_bytes())?;
        }
        let raw = self.takes(b"\xff\xfe")?;
        let wide = self.takes("\u{65e5}".repeat(255 - TRY.len() - DIGITS - 1).as_bytes())?;
        let symlinks = fs::symlinkat("x", &self.dir, self.name(b"link")).is_ok();
        self.made.push(self.name(b"link"));
        let modes = self.keeps_mode(0o640)? && self.keeps_mode(0o600)?;
        let (steady, max_file) = self.by_type();
        Ok(Traits {
            folds: other_case || other_form || !cased,
            rewrites,
            windows,
            raw,
            wide,
            symlinks,
            modes,
            steady,
            max_file,
        })
    }

    fn name(&self, rest: &[u8]) -> Vec<u8> {
        [TRY.as_bytes(), self.number.as_bytes(), rest].concat()
    }

    fn make(&mut self, rest: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        fs::openat(&self.dir, self.name(rest), flags, Mode::RUSR | Mode::WUSR)?;
        self.made.push(self.name(rest));
        Ok(())
    }

    fn has(&self, rest: &[u8]) -> bool {
        fs::statat(&self.dir, self.name(rest), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn lists(&self, rest: &[u8]) -> io::Result<bool> {
        let name = names::escape(&self.name(rest));
        let listed = self.disk.list(&private(TMP))?;
        Ok(listed.iter().any(|l| l.name.as_ref() == Ok(&name)))
    }

    /// Whether such a file can be made, and then is there. A full disk is no answer.
    fn takes(&mut self, rest: &[u8]) -> io::Result<bool> {
        match self.make(rest) {
            Ok(()) => self.lists(rest),
            Err(e) if e.kind() == io::ErrorKind::StorageFull => Err(e),
            Err(_) => Ok(false),
        }
    }

    fn keeps_mode(&self, mode: u32) -> io::Result<bool> {
        let name = self.name(b"aB");
        let file = fs::openat(
            &self.dir,
            &name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(fs::fchmod(&file, super::mode_of(mode)).is_ok()
            && super::meta_of(&fs::fstat(&file)?).mode == mode)
    }

    /// Whether file numbers stay, and the largest file. FAT and exFAT have no such numbers on the disk,
    /// and what runs outside the kernel makes them up; a file of 4 GiB is too much to try.
    fn by_type(&self) -> (bool, u64) {
        #[cfg(target_os = "linux")]
        if let Ok(stat) = fs::fstatfs(&self.dir) {
            const FAT: u64 = 0x4d44;
            const EXFAT: u64 = 0x2011_bab0;
            const FUSE: u64 = 0x6573_5546;
            #[allow(clippy::unnecessary_cast, reason = "the type differs between systems")]
            let kind = stat.f_type as u64 & 0xffff_ffff;
            let max = if kind == FAT {
                u64::from(u32::MAX)
            } else {
                u64::MAX
            };
            return (![FAT, EXFAT, FUSE].contains(&kind), max);
        }
        (true, u64::MAX)
    }

    fn clear(&mut self) {
        let mut left = std::mem::take(&mut self.made);
        // What an earlier process left.
        if left.is_empty()
            && let Ok(listed) = self.disk.list(&private(TMP))
        {
            let tried = listed.into_iter().filter_map(|l| l.name.ok());
            left.extend(
                tried
                    .filter(|name| name.starts_with(TRY))
                    .map(|name| names::unescape(&name).into_owned()),
            );
        }
        for name in left {
            match fs::unlinkat(&self.dir, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => tracing::debug!(%error, "what was tried could not be removed"),
            }
        }
    }
}
