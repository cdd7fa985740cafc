//! Files with holes: what is zero in a new file takes no room.
//!
//! A sparse file would fill the disk on arrival otherwise. Holes are no part of the content: nobody is
//! told of them, and where the filesystem has none the zeros are written by it.

#[cfg(target_os = "linux")]
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use rustix::fs::{self, SeekFrom};
#[cfg(target_os = "linux")]
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use crate::disk::Stage;

/// Runs of zeros are left out in such pieces: a block of most filesystems.
const BLOCK: usize = 4_096;

/// What of `bytes` has to be written, and where, if all around it is zeros already.
pub(super) fn pieces(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    const ZERO: [u8; BLOCK] = [0; BLOCK];
    let mut out: Vec<(usize, &[u8])> = Vec::new();
    let mut at = 0;
    let mut from = None;
    for block in bytes.chunks(BLOCK) {
        if block == &ZERO[..block.len()] {
            out.extend(from.take().map(|from| (from, &bytes[from..at])));
        } else {
            from.get_or_insert(at);
        }
        at += block.len();
    }
    out.extend(from.map(|from| (from, &bytes[from..])));
    out
}

/// Copies inside the kernel, shared on disk where possible, and keeps the holes. Returns how far it
/// came: less than `len` where the kernel cannot, or the source ends.
#[cfg(target_os = "linux")]
pub(super) fn copy(
    source: &OwnedFd,
    offset: u64,
    len: u64,
    stage: &mut dyn Stage,
    at: u64,
) -> io::Result<u64> {
    let len = len.min(
        fs::fstat(source)?
            .st_size
            .cast_unsigned()
            .saturating_sub(offset),
    );
    let mut done = 0;
    while done < len {
        let from = offset + done;
        let data = match fs::seek(source, SeekFrom::Data(from)) {
            Ok(data) => data,
            Err(Errno::NXIO) => offset + len,
            Err(_) => from,
        };
        if data > from {
            done = (data - offset).min(len);
            stage.skip_to(at + done)?;
            continue;
        }
        let until = fs::seek(source, SeekFrom::Hole(from)).map_or(offset + len, |hole| {
            if hole > from {
                hole.min(offset + len)
            } else {
                offset + len
            }
        });
        let Some(out) = stage.fd() else { break };
        let (mut off_in, mut off_out) = (from, at + done);
        let want = usize::try_from(until - from).unwrap_or(usize::MAX);
        match fs::copy_file_range(source, Some(&mut off_in), out, Some(&mut off_out), want) {
            // Nothing copied is the end of the file, or a filesystem that cannot.
            Ok(0) => break,
            Ok(got) => done += got as u64,
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC | Errno::DQUOT) => return Err(io::ErrorKind::StorageFull.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_of_zeros_are_left_out() {
        assert!(pieces(&[0; 3 * BLOCK + 5]).is_empty());
        let mut bytes = vec![0; 5 * BLOCK];
        bytes[BLOCK + 1] = 1;
        bytes[2 * BLOCK] = 1;
        let found = pieces(&bytes);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.len()), (BLOCK, 2 * BLOCK));
        bytes[5 * BLOCK - 1] = 1;
        assert_eq!(pieces(&bytes)[1].0, 4 * BLOCK);
    }
}
