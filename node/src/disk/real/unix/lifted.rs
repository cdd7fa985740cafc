//! Steps in directories that forbid their owner to write, or to look.
//!
//! Package caches are such. The right is given for the time of a call, and only where it was missing:
//! the mode came with the tree and is no lock on the mesh. The folder itself is never touched. A crash
//! leaves the right given; what heals the steps takes it back ([`lift`]).

use std::io;

use rustix::fs::{self, OFlags};

use super::{RealDisk, meta_of, mode_of};
use crate::disk::{Disk, MetaKind, PRIVATE, RelPath, lift};

impl RealDisk {
    /// Does something to names, and gives the right to do so where it is refused.
    pub(super) fn lifted<T>(
        &self,
        paths: &[&RelPath],
        act: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        let refused = match act() {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => e,
            done => return done,
        };
        let mut given = Vec::new();
        for path in paths {
            self.lift_above(path, &mut given);
        }
        if given.is_empty() {
            return Err(refused);
        }
        let done = act();
        for (dir, mode) in given.into_iter().rev() {
            if let Err(error) = self.change_mode(&dir, mode) {
                tracing::warn!(%dir, %error, "the directory stays writable");
            }
        }
        done
    }

    /// From above, since what is below a closed directory cannot be seen before it is opened.
    fn lift_above(&self, path: &RelPath, given: &mut Vec<(RelPath, u32)>) {
        let Some(parent) = path.parent() else { return };
        if path.components().next() == Some(PRIVATE) {
            return;
        }
        let mut dir = RelPath::ROOT;
        for name in parent.components() {
            dir = dir.with(name);
            if let Ok(Some(meta)) = self.meta(&dir)
                && meta.kind == MetaKind::Dir
                && lift(meta.mode) != meta.mode
                && (dir == parent || meta.mode & 0o100 == 0)
                && self.change_mode(&dir, lift(meta.mode)).is_ok()
            {
                given.push((dir.clone(), meta.mode));
            }
        }
    }

    pub(super) fn change_mode(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        // Through a handle, as chmod by name would follow a symlink. A file without the right to
        // read is opened by nobody: there the kernel's way of naming the handle's file is used.
        match self.walk(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(fd) => Ok(fs::fchmod(&fd, mode_of(mode))?),
            #[cfg(target_os = "linux")]
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                use std::os::fd::AsRawFd;
                let fd = self.walk(path, OFlags::PATH)?;
                if meta_of(&fs::fstat(&fd)?).kind == MetaKind::Symlink {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(fs::chmod(
                    format!("/proc/self/fd/{}", fd.as_raw_fd()),
                    mode_of(mode),
                )?)
            }
            Err(e) => Err(e),
        }
    }
}
