//! One of each: names and files of every kind that a filesystem of Linux holds. The same each time.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};

use crate::world::Dice;

/// Puts all of it into an empty folder. Returns how many items a mesh is to make of it.
pub(crate) fn fill(root: &Path) -> usize {
    for (n, name) in names().into_iter().enumerate() {
        let path = root.join("names").join(OsStr::from_bytes(&name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("file {n}")).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    }
    for (n, name) in dirs().into_iter().enumerate() {
        let path = root.join("dirs").join(OsStr::from_bytes(&name));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("in"), format!("in {n}")).unwrap();
    }
    // Where mesh's own folder is.
    fs::write(root.join(".MESH"), "not mesh's").unwrap();
    files(&root.join("files"));
    links(&root.join("links"));
    deep(root);
    snapshot(root)
        .values()
        .filter(|e| !matches!(e, Entry::Other))
        .count()
}

/// Names of files, as bytes.
fn names() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut text = |name: &str| out.push(name.as_bytes().to_vec());
    for c in (b' '..=b'~')
        .map(char::from)
        .filter(|c| *c != '/' && !c.is_alphanumeric())
    {
        text(&format!("in{c}side"));
        text(&format!("{c}first"));
        text(&format!("last{c}"));
    }
    for c in (1..32_u8).chain([127]).map(char::from) {
        text(&format!("control{c}x"));
    }
    for stem in ["con", "prn", "aux", "nul", "com1", "com9", "lpt1", "conin$"] {
        text(stem);
        text(&format!("{stem}.txt"));
        text(&format!("{}.tar.gz", stem.to_uppercase()));
    }
    for name in [
        "...",
        "..x",
        "dots..",
        "dots. .",
        "two  spaces",
        " ",
        "  ",
        ".hidden",
        ".hidden.",
        "a.b.c.d",
        "-rf",
        "--",
        "$(x)",
        "%00",
        "%2f",
        "CON1",
        "LONGFI~1.TXT",
        "longfilename.txt",
        "~$doc.docx",
        "desktop.ini",
        "Thumbs.db",
        ".DS_Store",
        "._fork",
        "a:b:$DATA",
        "x (1a2b3c4d).txt",
        "x.txt",
        "x (conflict laptop 1a2b3c4d).txt",
        ".mesh",
        ".mesh-00",
        ".part",
        "s-0011223344556677-00~1",
        "probe-aB",
        "README",
        "readme",
        "ReadMe",
        "readme.",
        "TWIN.txt",
        "twin.txt",
        "twin.TXT",
    ] {
        text(name);
    }
    for name in [
        "\u{e9}",
        "e\u{301}",
        "\u{c9}",
        "E\u{301}",
        "\u{c5}",
        "\u{212b}",
        "A\u{30a}",
        "\u{f6}l",
        "o\u{308}l",
        "\u{d55c}",
        "\u{1112}\u{1161}\u{11ab}",
        "\u{fb01}",
        "fi",
        "stra\u{df}e",
        "STRASSE",
        "strasse",
        "\u{131}",
        "i",
        "I",
        "\u{130}",
        "\u{3a3}",
        "\u{3c3}",
        "\u{3c2}",
        "\u{212a}",
        "k",
        "\u{200b}zero",
        "zero",
        "a\u{200d}b",
        "ab",
        "\u{feff}bom",
        "bom",
        "\u{202e}rtl",
        "\u{fffd}",
        "\u{1f600}",
        "\u{1f468}\u{200d}\u{1f469}",
        "\u{e000}",
        "\u{f03a}",
        "\u{ef80}",
        "\u{efff}x",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{3000}",
        "\u{ff0f}",
        "\u{2215}",
        "\u{1d11e}",
        "\u{10ffff}",
        "\u{5e9}\u{5dc}",
        "\u{627}\u{644}",
        "\u{e33}",
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{ad}soft",
    ] {
        if !name.is_empty() {
            text(name);
        }
    }
    for len in [1, 200, 250, 254, 255] {
        text(&"l".repeat(len));
        text(&format!("{}.txt", "m".repeat(len.saturating_sub(4).max(1))));
    }
    text(&"L".repeat(255));
    text(&"\u{65e5}".repeat(85));
    text(&"\u{1f600}".repeat(63));
    text(&format!("{}\u{e9}", "n".repeat(253)));
    text(&format!("{}. ", "o".repeat(253)));
    for name in [
        &b"\xff"[..],
        b"\xff\xfe",
        b"caf\xe9",
        b"caf\xe9.txt",
        b"CAF\xe9.txt",
        b"\xc3",
        b"\xc3x",
        b"\xe2\x82",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80\x81:",
        b"ok\xffok",
        b"\xee\xbe",
        b"\xa0",
        b"\xff.",
    ] {
        out.push(name.to_vec());
    }
    out.push(vec![0xff; 255]);
    out.push([&b"r"[..], &[0x80; 200]].concat());
    out
}

/// Names of directories, each with a file in it.
fn dirs() -> Vec<Vec<u8>> {
    let names: [&[u8]; 16] = [
        b"Twin",
        b"twin",
        b"TWIN",
        b"Twin/deep",
        b"twin/DEEP",
        b"twin/Deep",
        b"aux",
        b"a:b",
        b"trail.",
        b"trail ",
        b"caf\xe9",
        b"caf\xe9/\xff",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
        b".mesh",
        b"empty: /aux",
    ];
    names.map(<[u8]>::to_vec).to_vec()
}

/// Contents, modes and times.
fn files(root: &Path) {
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    let mut dice = Dice::new(4);
    for n in 0..60 {
        fs::write(root.join(format!("many/{n}")), format!("{n}")).unwrap();
    }
    let sizes = [
        0,
        1,
        4_095,
        4_096,
        4_097,
        65_536,
        (1 << 20) - 1,
        1 << 20,
        (1 << 20) + 1,
        3 << 20,
    ];
    for size in sizes {
        fs::write(root.join(format!("size-{size}")), dice.bytes(size)).unwrap();
    }
    for (name, size, at) in [
        ("sparse-start", 40 << 20, &[0][..]),
        ("sparse-end", 40 << 20, &[(40 << 20) - 3]),
        ("sparse-middle", 8 << 20, &[1 << 20, 3 << 20]),
        ("sparse-all", 5 << 20, &[]),
    ] {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        for at in at {
            file.write_all_at(b"abc", *at).unwrap();
        }
    }
    for mode in [
        0o400, 0o444, 0o600, 0o644, 0o700, 0o755, 0o777, 0o4755, 0o2755, 0o1644, 0o000,
    ] {
        let path = root.join(format!("mode-{mode:o}"));
        fs::write(&path, format!("{mode}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let dir = root.join(format!("dir-mode-{mode:o}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode | 0o700)).unwrap();
    }
    for (name, seconds, ns) in [
        ("time-epoch", 0, 0),
        ("time-before", -1_000_000_000, 1),
        ("time-ns", 1_600_000_001, 123_456_789),
        ("time-odd", 1_600_000_001, 999_999_999),
        ("time-far", 4_200_000_000, 5),
    ] {
        fs::write(root.join(name), name).unwrap();
        stamp(&root.join(name), seconds, ns);
    }
    fs::write(root.join("hard-1"), "one file, three names").unwrap();
    fs::hard_link(root.join("hard-1"), root.join("hard-2")).unwrap();
    fs::hard_link(root.join("hard-1"), root.join("many/hard-3")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("socket"),
        FileType::Socket,
        Mode::RUSR,
        0,
    )
    .unwrap();
}

/// Symlinks, with times of their own.
fn links(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let long = "t".repeat(3_000);
    let targets: [(&str, &[u8]); 10] = [
        ("up", b"../files/size-1"),
        ("dir", b"../files"),
        ("nowhere", b"does/not/exist"),
        ("root", b"/etc/hostname"),
        ("itself", b"itself"),
        ("Itself", b"itself"),
        ("bytes", b"caf\xe9"),
        ("dots", b"../../../.."),
        ("long", long.as_bytes()),
        ("a:b", b"a:b"),
    ];
    for (n, (name, target)) in targets.into_iter().enumerate() {
        symlink(OsStr::from_bytes(target), root.join(name)).unwrap();
        stamp(
            &root.join(name),
            1_500_000_000 + i64::try_from(n).unwrap(),
            7,
        );
    }
}

fn stamp(path: &Path, seconds: i64, ns: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: ns,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Deeper than a path can say: 30 directories of 200 bytes, and 100 with short names.
fn deep(root: &Path) {
    for (name, depth) in [("d".repeat(200), 30), ("e".to_owned(), 100)] {
        let mut at: OwnedFd = open(rustix::fs::CWD, root.as_os_str());
        for _ in 0..depth {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            at = open(&at, OsStr::new(&name));
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&at, "bottom", flags, Mode::RUSR | Mode::WUSR).unwrap();
        fs::File::from(file).write_all(b"deep").unwrap();
    }
}

fn open(at: impl AsFd, name: &OsStr) -> OwnedFd {
    rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// What a folder holds, by the bytes of the paths; without mesh's own folder.
pub(crate) type Snapshot = BTreeMap<OsString, Entry>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Dir {
        mode: u32,
    },
    File {
        size: u64,
        hash: u64,
        mode: u32,
        mtime: i128,
    },
    Link {
        target: OsString,
        mtime: i128,
    },
    Other,
}

impl Entry {
    /// Without what some filesystems do not keep.
    pub(crate) fn content(&self) -> Self {
        match self.clone() {
            Self::Dir { .. } => Self::Dir { mode: 0 },
            Self::File { size, hash, .. } => Self::File {
                size,
                hash,
                mode: 0,
                mtime: 0,
            },
            Self::Link { target, .. } => Self::Link { target, mtime: 0 },
            Self::Other => Self::Other,
        }
    }
}

pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut out = Snapshot::new();
    let mut open_dirs = vec![(OsString::new(), open(rustix::fs::CWD, root.as_os_str()))];
    while let Some((path, dir)) = open_dirs.pop() {
        // By the C library, in large pieces: some filesystems lose entries otherwise.
        for entry in fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())).unwrap() {
            let name = entry.unwrap().file_name();
            let name = name.as_os_str();
            if path.is_empty() && name == ".mesh" {
                continue;
            }
            let mut full = path.as_bytes().to_vec();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(name.as_bytes());
            let full = OsString::from_vec(full);
            let found = look(&dir, name);
            if let Some(Entry::Dir { .. }) = found {
                open_dirs.push((full.clone(), open(&dir, name)));
            }
            out.extend(found.map(|found| (full, found)));
        }
    }
    out
}

fn look(dir: &OwnedFd, name: &OsStr) -> Option<Entry> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let mode = stat.st_mode & 0o7777;
    let mtime = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Entry::Dir { mode },
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).ok()?;
            Entry::Link {
                target: OsString::from_vec(target.into_bytes()),
                mtime,
            }
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
            let file = rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?;
            let (size, hash) = digest(fs::File::from(file));
            Entry::File {
                size,
                hash,
                mode,
                mtime,
            }
        }
        _ => Entry::Other,
    })
}

fn digest(mut file: fs::File) -> (u64, u64) {
    let (mut size, mut hash) = (0, 0xcbf2_9ce4_8422_2325_u64);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            return (size, hash);
        }
        size += len as u64;
        for byte in &buffer[..len] {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
