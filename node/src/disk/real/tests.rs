//! What the memory disk promises, on the filesystem the tests run on.

#![allow(clippy::unwrap_used)] // in helpers outside test functions a failure is as loud

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ownmesh_crypto::SpaceSecret;
use ownmesh_crypto::ids::{ItemId, SpaceId};
use tempfile::TempDir;

use super::RealDisk;
use crate::disk::base::{BaseError, BaseReader, BaseRow};
use crate::disk::hash::{HashError, hash_file, hash_files};
use crate::disk::perform::{Step, perform};
use crate::disk::scan::{Found, Guard, ScanError, Scope, scan};
use crate::disk::{Disk, MetaKind, RelPath, copy_by_reading, prepare};

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn folder() -> (TempDir, RealDisk) {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(dir.path()).unwrap();
    prepare(&disk, &space()).unwrap();
    (dir, disk)
}

fn space() -> SpaceId {
    SpaceId::from_bytes([1; 16])
}

fn put(dir: &TempDir, at: &str, bytes: impl AsRef<[u8]>) {
    fs::write(dir.path().join(at), bytes).unwrap();
}

#[test]
fn rename_and_exchange_never_overwrite() {
    let (dir, disk) = folder();
    put(&dir, "a", "a");
    put(&dir, "b", "b");
    assert_eq!(
        disk.rename_new(&path("a"), &path("b")).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    disk.exchange(&path("a"), &path("b")).unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"b");
    disk.rename_new(&path("a"), &path("c")).unwrap();
    assert_eq!(
        disk.exchange(&path("a"), &path("b")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        disk.rename_new(&path("no"), &path("x")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(
        disk.remove(&path("c")).is_err(),
        "only mesh's own files are unlinked"
    );
    assert!(
        prepare(&disk, &SpaceId::from_bytes([2; 16])).is_err(),
        "it is marked as another space's"
    );
}

#[test]
fn a_rename_without_help_of_the_filesystem_does_not_overwrite_either() {
    use std::sync::atomic::Ordering;
    let (dir, disk) = folder();
    disk.no_noreplace.store(true, Ordering::Relaxed);
    put(&dir, "a", "a");
    put(&dir, ".mesh/tmp/b", "b");
    fs::create_dir(dir.path().join("d")).unwrap();
    for (from, to) in [("a", "d"), (".mesh/tmp/b", "a"), ("d", "a")] {
        assert_eq!(
            disk.rename_new(&path(from), &path(to)).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
    }
    for (from, to) in [("a", "x"), (".mesh/tmp/b", "y"), ("d", "z")] {
        disk.rename_new(&path(from), &path(to)).unwrap();
        assert!(
            disk.meta(&path(from)).unwrap().is_none() && disk.meta(&path(to)).unwrap().is_some()
        );
    }
}

#[test]
fn no_symlink_is_followed() {
    use std::sync::atomic::Ordering;
    let (dir, disk) = folder();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path(), dir.path().join("out")).unwrap();
    symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
    put(&dir, ".mesh/tmp/s", "staged");
    // With the kernel's own check, and component by component.
    for step_by_step in [false, true] {
        disk.no_openat2.store(step_by_step, Ordering::Relaxed);
        for at in ["out/secret", "file"] {
            assert!(disk.open(&path(at)).is_err(), "{at}");
            assert!(disk.set_mode(&path(at), 0o777).is_err(), "{at}");
        }
        assert!(disk.meta(&path("out/secret")).unwrap().is_none());
        assert!(disk.list(&path("out")).is_err());
        assert!(disk.mkdir(&path("out/d"), 0o755).is_err());
        assert!(disk.symlink("x", &path("out/l")).is_err());
        assert!(
            disk.rename_new(&path(".mesh/tmp/s"), &path("out/s"))
                .is_err()
        );
        assert!(
            disk.exchange(&path(".mesh/tmp/s"), &path("out/secret"))
                .is_err()
        );
        assert_eq!(
            disk.meta(&path("file")).unwrap().unwrap().kind,
            MetaKind::Symlink
        );
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(
        fs::metadata(outside.path().join("secret"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o644
    );
}

#[test]
fn a_staged_file_has_the_mode_and_time_it_was_given() {
    let (dir, disk) = folder();
    put(&dir, "source", vec![7; 300_000]);
    let mut stage = disk.stage("s").unwrap();
    stage.write_at(b"old rest that is replaced", 0).unwrap();
    drop(stage);
    let mut stage = disk.stage("s").unwrap();
    stage.write_at(b"head", 0).unwrap();
    disk.copy_range(&path("source"), 10, 200_000, &mut *stage, 4)
        .unwrap();
    copy_by_reading(
        &*disk.open(&path("source")).unwrap(),
        0,
        5,
        &mut *stage,
        200_004,
    )
    .unwrap();
    let short = disk
        .copy_range(&path("source"), 299_999, 2, &mut *stage, 200_009)
        .unwrap_err();
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    let meta = stage.finish(0o444, -1_500_000_000).unwrap();
    assert_eq!(
        (meta.mode, meta.mtime_ns, meta.size),
        (0o444, -1_500_000_000, 200_010)
    );
    disk.sync_all().unwrap();
    disk.sync_file(&path(".mesh/tmp/s")).unwrap();
    assert!(disk.free_bytes().unwrap() > 0);
    // A file that nobody may open can still be made readable again.
    disk.set_mode(&path(".mesh/tmp/s"), 0).unwrap();
    disk.set_mode(&path(".mesh/tmp/s"), 0o600).unwrap();
    assert_eq!(
        disk.meta(&path(".mesh/tmp/s")).unwrap().unwrap().mode,
        0o600
    );
}

/// The disk of other systems, as far as it can run here.
#[test]
fn the_portable_disk_keeps_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let disk = super::portable::RealDisk::open(dir.path()).unwrap();
    prepare(&disk, &space()).unwrap();
    put(&dir, "a", "a");
    put(&dir, "b", "b");
    symlink(".mesh", dir.path().join("link")).unwrap();
    assert_eq!(
        disk.rename_new(&path("a"), &path("b")).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(
        disk.exchange(&path("a"), &path("b")).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert!(
        disk.open(&path("link/marker")).is_err()
            && disk.meta(&path("link/marker")).unwrap().is_none()
    );
    assert_eq!(disk.list(&RelPath::ROOT).unwrap().len(), 4);
    let mut stage = disk.stage("s").unwrap();
    stage.write_at(b"new", 0).unwrap();
    stage.finish(0o600, 1_000_000_000).unwrap();
    let over = Some(disk.meta(&path("a")).unwrap().unwrap().stat());
    let id = ItemId::from_bytes([4; 16]);
    let step = Step::Write {
        id,
        path: path("a"),
        staged: "s".to_owned(),
        over,
        mode: 0o755,
        mtime: 77_000_000_000,
    };
    let done = perform(&disk, &[step], &|_| "t".to_owned())
        .remove(0)
        .done
        .unwrap()
        .unwrap();
    assert_eq!(done.mtime_ns, 77_000_000_000);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"new");
    assert_eq!(fs::read(dir.path().join(".mesh/trash/t")).unwrap(), b"a");
}

#[test]
fn a_root_that_was_replaced_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("r");
    fs::create_dir(&root).unwrap();
    let disk = RealDisk::open(&root).unwrap();
    assert!(disk.meta(&RelPath::ROOT).unwrap().is_some());
    fs::rename(&root, dir.path().join("moved")).unwrap();
    assert!(disk.meta(&RelPath::ROOT).unwrap().is_none());
    fs::create_dir(&root).unwrap();
    assert!(disk.meta(&RelPath::ROOT).unwrap().is_none());
}

#[test]
fn large_and_small_files_are_hashed_alike_on_any_number_of_threads() {
    let (dir, disk) = folder();
    let secret = SpaceSecret::from_bytes([3; 32]);
    let mut bytes: Vec<u8> = Vec::new();
    let mut x = 1u64;
    while bytes.len() < 9 << 20 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&x.to_be_bytes());
    }
    let sizes = [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20, bytes.len()];
    let names: Vec<RelPath> = (0..sizes.len()).map(|n| path(&format!("f{n}"))).collect();
    for (name, size) in names.iter().zip(sizes) {
        put(&dir, name.as_str(), &bytes[..size]);
    }
    for ((many, name), size) in hash_files(&disk, &names, &secret)
        .into_iter()
        .zip(&names)
        .zip(sizes)
    {
        let many = many.unwrap();
        assert_eq!(hash_file(&disk, name, &secret).unwrap().chunks, many.chunks);
        let hash = secret.content_hash(&bytes[..size]);
        assert_eq!(
            many.content,
            ownmesh_crdt::item::Content::File {
                size: size as u64,
                hash
            }
        );
        assert_eq!(many.chunks.is_empty(), size <= 1 << 20);
        let mut at = 0;
        for chunk in &many.chunks {
            let end = at + chunk.len as usize;
            assert_eq!(chunk.id, secret.chunk_id(&bytes[at..end]));
            at = end;
        }
        assert!(at == size || many.chunks.is_empty());
    }
    assert!(matches!(
        hash_file(&disk, &path("no"), &secret),
        Err(HashError::Gone)
    ));
    assert!(matches!(
        hash_file(&disk, &path(".mesh"), &secret),
        Err(HashError::NotAFile)
    ));
}

/// A base without rows: everything is new.
struct Empty;

impl BaseReader for Empty {
    fn children(&self, _: &ItemId) -> Result<Vec<BaseRow>, BaseError> {
        Ok(Vec::new())
    }
    fn by_inode(&self, _: u64, _: u64) -> Result<Option<BaseRow>, BaseError> {
        Ok(None)
    }
    fn get(&self, _: &ItemId) -> Result<Option<BaseRow>, BaseError> {
        Ok(None)
    }
    fn path_of(&self, _: &ItemId) -> Result<Option<RelPath>, BaseError> {
        Ok(None)
    }
}

#[test]
fn a_scan_finds_what_is_there_and_only_that() {
    let (dir, disk) = folder();
    fs::create_dir_all(dir.path().join("d/e")).unwrap();
    put(&dir, "d/f", "f");
    put(&dir, "top", "t");
    symlink("d", dir.path().join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let bad = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"bad\xff");
    fs::write(dir.path().join(Path::new(bad)), "x").unwrap();
    let secret = SpaceSecret::from_bytes([3; 32]);
    let guard = Guard {
        space: space(),
        fs_id: disk.fs_id().unwrap(),
    };
    let mut names = Vec::new();
    let report = scan(
        &disk,
        &guard,
        &Empty,
        &secret,
        &Scope::All.into(),
        &|_, _| false,
        &mut |group| {
            names.extend(group.into_iter().map(|found| match found {
                Found::Created { name, .. } => name,
                other => panic!("{other:?}"),
            }));
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(names, ["bad\u{efff}", "d", "link", "top", "e", "f"]);
    assert_eq!(
        (
            report.dirs,
            report.files,
            report.hashed_bytes,
            report.problems.len()
        ),
        (3, 4, 3, 1)
    );
    fs::remove_file(dir.path().join(".mesh/marker")).unwrap();
    let mut emit = |_: Vec<Found>| Ok(());
    let refused = scan(
        &disk,
        &guard,
        &Empty,
        &secret,
        &Scope::All.into(),
        &|_, _| false,
        &mut emit,
    );
    assert!(matches!(refused, Err(ScanError::MarkerMissing)));
}

#[test]
fn a_write_is_swapped_in() {
    let (dir, disk) = folder();
    put(&dir, "f", "old");
    let mut stage = disk.stage("s").unwrap();
    stage.write_at(b"new", 0).unwrap();
    stage.finish(0o600, 1).unwrap();
    disk.sync_all().unwrap();
    let over = Some(disk.meta(&path("f")).unwrap().unwrap().stat());
    let id = ItemId::from_bytes([4; 16]);
    let step = Step::Write {
        id,
        path: path("f"),
        staged: "s".to_owned(),
        over,
        mode: 0o640,
        mtime: 77,
    };
    let done = perform(&disk, &[step], &|_| "t".to_owned())
        .remove(0)
        .done
        .unwrap()
        .unwrap();
    assert_eq!((done.mode, done.mtime_ns), (0o640, 77));
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new");
    assert_eq!(fs::read(dir.path().join(".mesh/trash/t")).unwrap(), b"old");
}

#[test]
fn two_threads_hash_and_cut_as_one_does() {
    let (dir, disk) = folder();
    let secret = SpaceSecret::from_bytes([3; 32]);
    let mut state = 9_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take((19 << 20) + 77)
    .collect();
    put(&dir, "a", &bytes);
    put(&dir, "b", &bytes);
    let alone = hash_files(&disk, &[path("a"), path("b")], &secret);
    let two = hash_file(&disk, &path("a"), &secret).unwrap();
    assert_eq!(two.content, alone[0].as_ref().unwrap().content);
    assert_eq!(two.chunks, alone[1].as_ref().unwrap().chunks);
    let whole: Vec<_> = two
        .chunks
        .iter()
        .scan(0, |at, chunk| {
            let from = *at;
            *at += chunk.len as usize;
            Some((secret.chunk_id(&bytes[from..*at]), chunk.len))
        })
        .collect();
    let said: Vec<_> = two.chunks.iter().map(|c| (c.id, c.len)).collect();
    assert_eq!(said, whole);
    assert!(said.len() > 10);
}
