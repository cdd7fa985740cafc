//! How nodes of one user on one machine find each other: small files in the runtime directory.
//!
//! Works without any network interface. A file says nothing but a port, a nonce and its tag, so a copy of it leads nobody anywhere.
//! Guards against files of others (the directory must be ours alone, mode 0700), against files left by a killed process (removed
//! when their process is gone) and against costs while nothing happens: the directory is read again only after it changed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::PairAdvert;

/// Ending of the files' names.
const ENDING: &str = "addr";
/// Longest file read, bytes: the longest written has about 150.
const LEN_MAX: u64 = 1024;
/// Files read at a time.
const FILES_MAX: usize = 256;
/// A directory changed less than this ago may change again without its time changing.
const RACY: Duration = Duration::from_secs(2);

/// What one node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Card {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) nonce: [u8; 16],
    pub(crate) tag: [u8; 16],
    /// While a pairing window is open: which one.
    pub(crate) pairing: Option<PairAdvert>,
}

impl Card {
    fn to_text(&self) -> String {
        let mut text = format!(
            "mesh-addr 0\npid {}\nport {}\nn {}\nt {}\n",
            self.pid,
            self.port,
            hex(&self.nonce),
            hex(&self.tag)
        );
        if let Some(pairing) = &self.pairing {
            text.push_str(&format!("s {}\n", hex(&pairing.window)));
            if let Some(nameplate) = pairing.nameplate {
                text.push_str(&format!("c {nameplate}\n"));
            }
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "mesh-addr 0" {
            return None;
        }
        let (mut pid, mut port, mut nonce, mut tag) = (None, None, None, None);
        let (mut window, mut nameplate) = (None, None);
        for line in lines {
            match line.split_once(' ')? {
                ("pid", value) => pid = Some(value.parse().ok()?),
                ("port", value) => port = Some(value.parse().ok()?),
                ("n", value) => nonce = Some(bytes(value)?),
                ("t", value) => tag = Some(bytes(value)?),
                ("s", value) => window = Some(bytes(value)?),
                ("c", value) => nameplate = Some(value.parse().ok()?),
                _ => {}
            }
        }
        Some(Self {
            pid: pid?,
            port: port?,
            nonce: nonce?,
            tag: tag?,
            pairing: window.map(|window| PairAdvert { window, nameplate }),
        })
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lower-case hex of exactly `N` bytes, read.
pub(crate) fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if hex.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// This node's own file; gone when dropped.
#[derive(Debug)]
pub(crate) struct OwnFile {
    path: PathBuf,
}

impl OwnFile {
    /// Writes a file of a random name. Its content appears all at once.
    pub(crate) fn write(dir: &Path, card: &Card) -> io::Result<Self> {
        prepare(dir)?;
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let name = hex(&name);
        let (part, path) = (
            dir.join(format!("{name}.part")),
            dir.join(format!("{name}.{ENDING}")),
        );
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)?;
        let written = file
            .write_all(card.to_text().as_bytes())
            .and_then(|()| std::fs::rename(&part, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&part);
            return Err(error);
        }
        Ok(Self { path })
    }

    /// Its name, by which its owner knows it among the others.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Looks at the directory now and then.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Option<SystemTime>,
}

impl Watch {
    /// All cards by file name, or `None` if nothing can have changed since the last look. Removes what dead processes left.
    pub(crate) fn look(&mut self, dir: &Path) -> Option<Vec<(String, Card)>> {
        let changed = std::fs::metadata(dir).and_then(|meta| meta.modified()).ok();
        if changed.is_some() && changed == self.seen {
            return None;
        }
        let settled = changed.is_some_and(|time| time.elapsed().is_ok_and(|age| age > RACY));
        self.seen = changed.filter(|_| settled);
        if !ours(dir) {
            return Some(Vec::new());
        }
        let mut cards = Vec::new();
        for entry in std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .take(FILES_MAX)
        {
            let path = entry.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            match read(&path) {
                Some(card) if alive(card.pid) => {
                    cards.push((entry.file_name().to_string_lossy().into_owned(), card));
                }
                Some(_) => {
                    let _ = std::fs::remove_file(&path);
                }
                None => {}
            }
        }
        Some(cards)
    }
}

fn read(path: &Path) -> Option<Card> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .ok()?;
    let mut text = String::new();
    file.take(LEN_MAX).read_to_string(&mut text).ok()?;
    Card::parse(&text)
}

fn alive(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    // Not allowed to signal it means that it exists.
    !matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}

/// Makes the directory, ours alone; one that is not is refused.
fn prepare(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if ours(dir) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the runtime directory is open to others",
        ))
    }
}

fn ours(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir).is_ok_and(|meta| {
        meta.is_dir()
            && meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o077 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::pairing::Nameplate;

    fn card(pid: u32) -> Card {
        Card {
            pid,
            port: 4001,
            nonce: [1; 16],
            tag: [2; 16],
            pairing: None,
        }
    }

    #[test]
    fn nodes_see_each_other_and_not_the_dead() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        let own = OwnFile::write(&dir, &card(std::process::id())).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let dead = OwnFile::write(&dir, &card(child.id())).unwrap();
        std::fs::write(dir.join("junk.addr"), b"\xff\xff").unwrap();
        let cards = Watch::default().look(&dir).unwrap();
        assert_eq!(cards, [(own.name(), card(std::process::id()))]);
        assert!(!dead.path.exists());
        let path = own.path.clone();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(own);
        assert!(!path.exists());
    }

    #[test]
    fn a_quiet_directory_is_not_read_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        let _own = OwnFile::write(&dir, &card(std::process::id())).unwrap();
        let mut watch = Watch::default();
        assert!(watch.look(&dir).is_some());
        assert!(watch.look(&dir).is_some(), "it changed a moment ago");
        let old = SystemTime::now() - 10 * RACY;
        File::open(&dir).unwrap().set_modified(old).unwrap();
        assert!(watch.look(&dir).is_some());
        assert!(watch.look(&dir).is_none());
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        DirBuilder::new().mode(0o755).create(&dir).unwrap();
        assert!(OwnFile::write(&dir, &card(1)).is_err());
    }

    #[test]
    fn cards_come_back() {
        for nameplate in [None, Nameplate::new(7)] {
            let window = [7; 8];
            let with = Card {
                pairing: Some(PairAdvert { window, nameplate }),
                ..card(9)
            };
            assert_eq!(Card::parse(&with.to_text()), Some(with));
        }
        let open = Card {
            pairing: Some(PairAdvert {
                window: [7; 8],
                nameplate: Nameplate::new(7),
            }),
            ..card(9)
        };
        let text = open.to_text();
        assert!(text.ends_with("\ns 0707070707070707\nc 007\n"), "{text}");
        assert_eq!(Card::parse("mesh-addr 1\npid 1\n"), None);
        assert_eq!(Card::parse(""), None);
    }
}
