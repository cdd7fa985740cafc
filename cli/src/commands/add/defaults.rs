//! Folders that tools make again and that are nobody's work: offered to be left out.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Names that say enough.
const NAMES: [&str; 12] = [
    "node_modules",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    ".gradle",
    ".cache",
    ".next",
    ".terraform",
    "DerivedData",
];
/// Names that people use too: only beside or around this file, and by their whole path.
const WITH_PROOF: [(&str, &str); 2] = [("target", "Cargo.toml"), ("venv", "venv/pyvenv.cfg")];

/// How deep is looked, and into how many directories: an offer must not take long.
const DEPTH: usize = 4;
const DIRS: usize = 5_000;

/// Patterns for what is found in a folder, sorted.
pub(super) fn found(root: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = vec![(root.to_owned(), String::from("/"), 0)];
    let mut seen = 0;
    while let Some((dir, prefix, depth)) = open.pop() {
        seen += 1;
        if seen > DIRS {
            break;
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // A link is not followed.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let mut proofs = WITH_PROOF.iter().filter(|(known, _)| *known == name);
            if NAMES.contains(&name.as_str()) {
                out.push(format!("{name}/"));
            } else if proofs.any(|(_, proof)| dir.join(proof).exists()) {
                out.push(format!("{}{name}/", escaped(&prefix)));
            } else if depth + 1 < DEPTH && name != ".git" && name != ".mesh" {
                open.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
            }
        }
    }
    out.sort();
    out.dedup();
    out
}

/// A path as a pattern that fits it alone.
fn escaped(path: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\');
    let escape = |c: char| if special(c) { vec!['\\', c] } else { vec![c] };
    path.chars().flat_map(escape).collect()
}

/// Makes a folder's rule file of patterns. Returns false if there is one, which stays as it is.
pub(super) fn write(root: &Path, patterns: &[String]) -> io::Result<bool> {
    let path = root.join(ownmesh_node::disk::rules::SHARED);
    let mut file = match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
    {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(e),
    };
    for pattern in patterns {
        writeln!(file, "{pattern}")?;
    }
    file.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_make_again_is_found_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for at in [
            "web/node_modules/x",
            "ru*st/target/debug",
            "sales/target",
            "py/__pycache__",
            "docs",
            ".git/node_modules",
        ] {
            fs::create_dir_all(dir.path().join(at)).unwrap();
        }
        fs::write(dir.path().join("ru*st/Cargo.toml"), "").unwrap();
        assert_eq!(
            found(dir.path()),
            ["/ru\\*st/target/", "__pycache__/", "node_modules/"]
        );
        assert!(write(dir.path(), &["one/".to_owned()]).unwrap());
        assert!(!write(dir.path(), &["other/".to_owned()]).unwrap());
        let text = fs::read_to_string(dir.path().join(".meshignore")).unwrap();
        assert_eq!(text, "one/\n");
    }
}
