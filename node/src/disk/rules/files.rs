//! The rule files as they stand on the disk now, and what holds if one of them cannot be read.

use std::io;

use super::{BadRule, RuleFile, Rules, Texts, patterns};
use crate::disk::{Disk, MetaKind, RelPath, read_up_to};

/// A longer rule file is refused, bytes: every path is held against every line.
pub const LIMIT: u64 = 256 << 10;

/// Why a file's former rules go on to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which file.
    pub file: RuleFile,
    /// What is wrong with it, and what holds instead.
    pub reason: String,
}

/// The rules that hold from now on: what both files say, and of a file that cannot be understood what
/// `former` has of it. If that is nothing, its lines without a mistake hold: better than to send all
/// that they name.
pub fn current(disk: &dyn Disk, former: &Rules) -> (Rules, Vec<Trouble>) {
    let mut texts = Texts::default();
    let mut troubles = Vec::new();
    for file in RuleFile::ALL {
        let kept = former.texts().of(file);
        let (said, trouble) = match text(disk, file) {
            Ok(found) => match Rules::parse(only(file, found.clone())) {
                Ok(_) => (found, None),
                Err(bad) if kept.is_empty() => {
                    let good = without_mistakes(file, found);
                    (good, Some(format!("{bad}; the other lines hold")))
                }
                Err(bad) => (
                    kept.to_owned(),
                    Some(format!("{bad}; the rules from before the change hold")),
                ),
            },
            Err(reason) => (
                kept.to_owned(),
                Some(format!(
                    "{}: {reason}; the rules from before hold",
                    file.path()
                )),
            ),
        };
        *texts.of_mut(file) = said;
        troubles.extend(trouble.map(|reason| Trouble { file, reason }));
    }
    match Rules::parse(texts) {
        Ok(rules) => (rules, troubles),
        // Each alone could be compiled, both together are too much.
        Err(BadRule { file, reason, .. }) => {
            troubles.push(Trouble { file, reason });
            (former.clone(), troubles)
        }
    }
}

fn only(file: RuleFile, text: String) -> Texts {
    let mut texts = Texts::default();
    *texts.of_mut(file) = text;
    texts
}

fn without_mistakes(file: RuleFile, text: String) -> String {
    let good = |line: &&str| {
        patterns(line).next().is_none() || Rules::parse(only(file, (*line).to_owned())).is_ok()
    };
    let lines: Vec<&str> = text
        .lines()
        .map(|l| if good(&l) { l } else { "" })
        .collect();
    let text = lines.join("\n");
    match Rules::parse(only(file, text.clone())) {
        Ok(_) => text,
        Err(_) => String::new(),
    }
}

/// The text of a rule file; empty if there is none.
pub(super) fn text(disk: &dyn Disk, file: RuleFile) -> Result<String, String> {
    let path = file
        .path()
        .split('/')
        .fold(RelPath::ROOT, |dir, name| dir.with(name));
    let gone = |e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    let size = match disk.meta(&path) {
        Ok(Some(meta)) if meta.kind == MetaKind::File => meta.size,
        Ok(Some(_)) => return Err("it is not a file".to_owned()),
        Ok(None) => return Ok(String::new()),
        Err(e) if gone(&e) => return Ok(String::new()),
        Err(e) => return Err(e.to_string()),
    };
    if size > LIMIT {
        return Err(format!(
            "it has {size} bytes, more than {LIMIT}; name directories instead of files"
        ));
    }
    match read_up_to(disk, &path, LIMIT) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()),
        // Replaced in this moment: the next look reads the new one.
        Err(e) => Err(e.to_string()),
    }
}
