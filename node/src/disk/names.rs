//! Names: what an item is called in the mesh, and what it is called on this disk.
//!
//! In the mesh a name is text, up to [`MAX_NAME`](super::path::MAX_NAME) bytes, and means the same to
//! every device. A disk may be unable to hold it: the filesystem takes `a` and `A` for one name, refuses
//! `:`, or has no room for so many bytes. Then the item gets a *local name*, derived from the two things
//! that never change under it, its name in the mesh and its id. Base remembers which one stands there,
//! so a local name that is edited is an edit of its item, and one that is renamed is a rename.
//!
//! The dangers guarded against are a file that is written over by its twin, and a name that two devices
//! send to and fro. Against the first: nothing is ever placed on a taken name. Against the second: a
//! local name is told to nobody, and stays until the item is renamed or moved.
//!
//! A name of the disk that is not UTF-8 travels as text: each byte that is none becomes the character
//! `U+EF00` + byte (those from `U+EF80` on belong to nobody and have long been used for that), and where
//! such a character stands in a real name, its own three bytes become three of them. So [`escape`] and
//! [`unescape`] undo each other.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use ownmesh_crdt::tree::insert_before_extension;
use ownmesh_crypto::ids::ItemId;
use unicode_normalization::UnicodeNormalization;

use super::PRIVATE;

/// What the filesystem under a folder does, as far as it decides what can stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Names that differ only in case, or only in their Unicode form, are one name.
    pub folds: bool,
    /// It lists names otherwise than they were given.
    pub rewrites: bool,
    /// It refuses what Windows refuses. Then all of that is avoided, or the disk could not be used there.
    pub windows: bool,
    /// Names may be bytes that are no UTF-8.
    pub raw: bool,
    /// A name may have 255 units of UTF-16, not 255 bytes.
    pub wide: bool,
    /// It has symlinks.
    pub symlinks: bool,
    /// It keeps permission bits.
    pub modes: bool,
    /// The number of a file stays the same as long as the file stands.
    pub steady: bool,
    /// The largest file it holds, bytes.
    pub max_file: u64,
}

impl Default for Traits {
    /// What the usual filesystems of Linux do.
    fn default() -> Self {
        Self {
            folds: false,
            rewrites: false,
            windows: cfg!(windows),
            raw: cfg!(unix),
            wide: cfg!(windows),
            symlinks: true,
            modes: true,
            steady: true,
            max_file: u64::MAX,
        }
    }
}

impl Traits {
    fn flags(&mut self) -> [&mut bool; 8] {
        [
            &mut self.folds,
            &mut self.rewrites,
            &mut self.windows,
            &mut self.raw,
            &mut self.wide,
            &mut self.symlinks,
            &mut self.modes,
            &mut self.steady,
        ]
    }

    /// As the database keeps it: the largest file, big-endian, and a bit for each of the others.
    #[must_use]
    pub fn encode(mut self) -> [u8; 9] {
        let mut out = [0; 9];
        out[..8].copy_from_slice(&self.max_file.to_be_bytes());
        for (n, flag) in self.flags().into_iter().enumerate() {
            out[8] |= u8::from(*flag) << n;
        }
        out
    }

    /// Reads [`Self::encode`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 9] = bytes.try_into().ok()?;
        let mut out = Self {
            max_file: u64::from_be_bytes(*bytes.first_chunk()?),
            ..Self::default()
        };
        for (n, flag) in out.flags().into_iter().enumerate() {
            *flag = bytes[8] >> n & 1 == 1;
        }
        Some(out)
    }

    /// Whether an item of this name can stand under it, other items left aside.
    #[must_use]
    pub fn holds(&self, in_root: bool, name: &str) -> bool {
        let bytes = unescape(name);
        let ours = name == PRIVATE || self.folds && fold(name) == PRIVATE;
        if in_root && ours || escape(&bytes) != name || !self.raw && has_raw(name) {
            return false;
        }
        let fits = if self.wide {
            name.encode_utf16().count() <= MAX_UNITS
        } else {
            bytes.len() <= MAX_UNITS
        };
        fits && !(self.windows && refused_by_windows(name))
    }
}

/// What filesystems give a name: bytes, or units of UTF-16.
const MAX_UNITS: usize = 255;

/// What stands for a byte that is no UTF-8.
fn is_raw(c: char) -> bool {
    ('\u{ef80}'..='\u{efff}').contains(&c)
}

/// Whether a text stands for bytes that are no UTF-8.
#[must_use]
pub fn has_raw(text: &str) -> bool {
    text.chars().any(is_raw)
}

fn raw(byte: u8) -> char {
    char::from_u32(0xef00 + u32::from(byte)).unwrap_or('_')
}

/// The text of a name of the disk.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_raw(c) {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes().map(raw));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(|byte| raw(*byte)));
    }
    out
}

/// The bytes of a name, or of a path, on the disk.
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, [u8]> {
    // All of these characters begin so; hardly any name does.
    if !text.as_bytes().contains(&0xee) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(u32::from(c).wrapping_sub(0xef00)) {
            Ok(byte) if is_raw(c) => out.push(byte),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// [`escape`] of a name as the system gives it; none where systems have names that are no bytes.
#[must_use]
pub fn from_os(name: &OsStr) -> Option<String> {
    #[cfg(unix)]
    return Some(escape(std::os::unix::ffi::OsStrExt::as_bytes(name)));
    #[cfg(not(unix))]
    name.to_str().map(str::to_owned)
}

/// [`unescape`] of a name, for the system.
#[must_use]
pub fn to_os(name: &str) -> OsString {
    #[cfg(unix)]
    return std::os::unix::ffi::OsStringExt::from_vec(unescape(name).into_owned());
    #[cfg(not(unix))]
    name.into()
}

/// What names have in common that some filesystem takes for one. Rather too much than too little: who
/// has a twin only in here gets a local name without need.
#[must_use]
pub fn fold(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    let upper: String = name.nfd().collect::<String>().to_uppercase();
    upper.to_lowercase().nfd().collect()
}

/// How often a local name is derived anew if the disk refuses it.
pub const LEVELS: u8 = 3;

/// A local name: nothing in it that any known system refuses, and digits of the item's id. On the first
/// level eight of them, then all, and on the last nothing but plain letters is left of the name.
#[must_use]
pub fn derive(name: &str, id: &ItemId, level: u8) -> String {
    /// Even where names are encrypted there is room for so much.
    const SHORT: usize = 60;
    let plain = |c: char| c.is_ascii_alphanumeric() || " ._-".contains(c);
    let mut clean: String = name
        .chars()
        .map(|c| {
            let keep = if level < LEVELS {
                !(c.is_control() || is_raw(c) || "\"*:<>?\\|/".contains(c))
            } else {
                plain(c)
            };
            if keep { c } else { '_' }
        })
        .collect();
    if level >= LEVELS {
        clean = clean.chars().take(SHORT).collect();
    }
    let end = clean.trim_end_matches(['.', ' ']).len();
    let cut = clean.len() - end;
    clean.truncate(end);
    clean.extend(std::iter::repeat_n('_', cut));
    if is_device(&clean) {
        clean.insert(0, '_');
    }
    let id = id.to_string();
    let digits = if level > 1 { id.len() } else { TAG };
    insert_before_extension(&clean, &format!("{MARK}{})", &id[..digits]))
}

/// What a local name is known by. The suffix of a name that two items claim in the mesh is another one:
/// that is the same on every disk, and goes when the other item does.
const MARK: &str = " (local ";

/// Whether an item of this name in the mesh may stand under `local` on a disk.
#[must_use]
pub fn fits(name: &str, id: &ItemId, local: &str) -> bool {
    name == local
        || tag(local).is_some_and(|tag| id.as_bytes().starts_with(&tag))
            && (1..=LEVELS).any(|level| derive(name, id, level) == local)
}

/// Digits of an id that every local name derived from it has.
const TAG: usize = 8;

/// The first digits of the id of the item that a local name may be derived from.
#[must_use]
pub fn tag(local: &str) -> Option<[u8; TAG / 2]> {
    let (_, rest) = local.rsplit_once(MARK)?;
    let digits = rest.get(..TAG)?;
    let mut out = [0; TAG / 2];
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(out)
}

/// Names that Windows refuses, or takes for something else.
fn refused_by_windows(name: &str) -> bool {
    let bad = |c: char| c < ' ' || "\"*:<>?\\|".contains(c);
    name.contains(bad) || name.ends_with(['.', ' ']) || is_device(name) || is_short(name)
}

/// `CON`, `aux.txt` and their like.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let stem = stem.to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    let number = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    number.is_some_and(|n| {
        let mut chars = n.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_digit() || "¹²³".contains(c))
            && chars.next().is_none()
    })
}

/// `LETTER~1.TXT`: such names are the second names of others.
fn is_short(name: &str) -> bool {
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let Some((letters, number)) = stem.rsplit_once('~') else {
        return false;
    };
    stem.len() <= 8
        && extension.len() <= 3
        && !letters.contains('.')
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ItemId = ItemId::from_bytes([0xab; 16]);

    #[test]
    fn any_bytes_come_back_as_they_were() {
        let names: [&[u8]; 7] = [
            b"plain",
            "ä日😀".as_bytes(),
            b"\xff\xfe",
            b"caf\xe9.txt",
            b"\xc3",
            "\u{ef80}\u{efff}".as_bytes(),
            b"a\xee\xbe\x80\xee",
        ];
        for name in names {
            let text = escape(name);
            assert_eq!(&*unescape(&text), name, "{text:?}");
            assert_eq!(escape(&unescape(&text)), text);
        }
        // All of 255 bytes still have room in the mesh.
        assert_eq!(escape(&[0xff; 255]).len(), 765);
        // What would not come back as it is cannot stand here.
        assert!(!Traits::default().holds(false, "\u{efc3}\u{efa4}"));
        assert!(Traits::default().holds(false, &escape(b"\xff")));
    }

    #[test]
    fn twins_fold_alike() {
        for (a, b) in [
            ("README", "readme"),
            ("é", "e\u{301}"),
            ("É", "e\u{301}"),
            ("straße", "STRASSE"),
            ("Σ", "ς"),
        ] {
            assert_eq!(fold(a), fold(b), "{a} {b}");
        }
        assert_ne!(fold("a"), fold("b"));
    }

    #[test]
    fn local_names_hold_everywhere_and_are_known_again() {
        let windows = Traits {
            folds: true,
            windows: true,
            raw: false,
            ..Traits::default()
        };
        let long = "日".repeat(200);
        let raw = escape(b"caf\xe9.txt");
        for name in [
            "a:b.txt",
            "CON",
            "aux.txt",
            "con.tar.gz",
            "dot.",
            "space ",
            "...",
            "\u{1}x",
            "A~1.TXT",
            "LPT9.x",
            "COM¹",
            ".MESH",
            ".mesh",
            &long,
            &raw,
        ] {
            assert!(!windows.holds(true, name), "{name:?}");
            for level in 1..=LEVELS {
                let local = derive(name, &ID, level);
                assert!(windows.holds(true, &local), "{name:?} {local:?}");
                assert!(fits(name, &ID, &local));
                assert_eq!(tag(&local), Some([0xab; 4]));
                assert!(!fits(name, &ItemId::from_bytes([1; 16]), &local));
            }
        }
        assert_eq!(derive("a:b.txt", &ID, 1), "a_b (local abababab).txt");
        assert_eq!(derive("aux.txt", &ID, 1), "_aux (local abababab).txt");
        assert!(derive(&long, &ID, LEVELS).is_ascii());
        for name in ["console", "a.con", "x~y", "a b", ".hidden", "com", "com10"] {
            assert!(windows.holds(true, name), "{name:?}");
        }
    }

    #[test]
    fn traits_come_back_as_they_were() {
        let other = Traits {
            folds: true,
            modes: false,
            max_file: 7,
            ..Traits::default()
        };
        for traits in [Traits::default(), other] {
            assert_eq!(Traits::decode(&traits.encode()), Some(traits));
        }
        assert_eq!(Traits::decode(&[0; 8]), None);
    }
}
