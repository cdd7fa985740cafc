//! What docs/security-tests.md says is so: each number leads to test functions that exist and say the number.
//! And the rules among those tests that are about the code itself.

use super::*;

/// The table of `docs/security-tests.md`: number, tests, state.
fn rows(text: &str) -> Vec<(String, Vec<(String, String)>, String)> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, _, tests, state] = cells[..] else {
            continue;
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let tests = tests.split('`').skip(1).step_by(2);
        let tests = tests.map(|test| {
            let (file, name) = test.split_once("::").unwrap_or((test, ""));
            (file.to_owned(), name.to_owned())
        });
        rows.push((number.to_owned(), tests.collect(), state.to_owned()));
    }
    rows
}

/// The comment and attributes right above a function, or nothing if there is no such function.
fn head<'t>(text: &'t str, name: &str) -> Option<Vec<&'t str>> {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| {
        let line = line.trim_start().trim_start_matches("async ");
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    })?;
    let above = lines[..at].iter().rev();
    let above = above.take_while(|line| line.trim_start().starts_with(['/', '#']));
    Some(above.copied().collect())
}

/// Whether a comment says `Security test 4` or `Security tests 4, 17 and 66`.
fn says(comment: &[&str], number: &str) -> bool {
    comment.iter().any(|line| {
        let Some((_, said)) = line.split_once("Security test") else {
            return false;
        };
        let said = said.split(['.', ':', ';']).next().unwrap_or_default();
        said.split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| word == number)
    })
}

#[test]
fn security_tests_are_where_the_table_says() {
    let files = files();
    let rows = rows(&files["docs/security-tests.md"]);
    assert!(rows.len() > 40, "the table was not found");
    let mut found = Vec::new();
    let mut numbers = BTreeSet::new();
    for (number, tests, state) in rows {
        if !numbers.insert(number.clone()) {
            found.push(format!("{number} stands twice"));
        }
        if tests.is_empty() && !state.starts_with("waits") {
            found.push(format!("{number} has no test and waits for nothing"));
        }
        for (file, name) in tests {
            match files.get(&file).map(|text| head(text, &name)) {
                Some(Some(comment)) if says(&comment, &number) => {}
                Some(Some(_)) => found.push(format!("{file}::{name} does not say {number}")),
                _ => found.push(format!("{number} names {file}::{name}, which is not there")),
            }
        }
    }
    none("the table of security tests", &found);
}

#[test]
fn the_table_is_read_as_it_is_meant() {
    let text = "| 4 | a | `x.rs::one`, `y.rs::two` | there |\n| n | a | `z.rs::no` | |\n|---|---|---|---|\n";
    let [(number, tests, state)] = &rows(text)[..] else {
        panic!("one row")
    };
    assert_eq!((&**number, tests.len(), &**state), ("4", 2, "there"));
    let code = "/// Security tests 4 and 15b: so.\n#[test]\nfn one() {}\n\nfn other() {}\n";
    assert!(says(&head(code, "one").expect("there"), "15b"));
    assert!(!says(&head(code, "one").expect("there"), "15"));
    assert!(!says(&head(code, "other").expect("there"), "4"));
    assert!(head(code, "on").is_none());
}

/// Security tests 8 and 66: no wall clock comes near a window's time, its guesses, a ban, or a proof.
#[test]
fn what_lets_in_knows_no_wall_clock() {
    let places = [
        "crypto/src/",
        "node/src/pair.rs",
        "node/src/pair/",
        "node/src/net/gate.rs",
        "node/src/net/hello.rs",
        "node/src/net/pairing.rs",
        "node/src/net/strangers.rs",
        "node/src/net/driver/",
        "node/src/engine/pairing.rs",
    ];
    let mut found = Vec::new();
    let mut looked = 0;
    for (path, text) in sources() {
        if !within(&path, &places) {
            continue;
        }
        looked += 1;
        for (n, line) in code(&text) {
            if line.contains("SystemTime") || line.contains(".wall") {
                found.push(format!("{path}:{n}: {}", line.trim()));
            }
        }
    }
    assert!(looked > 40, "the sources were not found");
    none("a wall clock where somebody is let in or kept out", &found);
}

/// Security test 67: what is built in is locked and checked, and our own code has no `unsafe`.
#[test]
fn what_is_built_in_is_locked_and_checked() {
    let files = files();
    assert!(files.contains_key("Cargo.lock"));
    let ignored = files.get(".gitignore").map_or("", String::as_str);
    assert!(!ignored.contains("Cargo.lock"), "the lock is committed");
    let deny = &files["deny.toml"];
    for section in ["[advisories]", "[licenses]", "[bans]", "[sources]"] {
        assert!(deny.contains(section), "deny.toml has no {section}");
    }
    assert!(files[".ci/run"].contains("cargo deny"), "nobody asks it");
    let workspace = &files["Cargo.toml"];
    assert!(workspace.contains("unsafe_code = \"forbid\""));
    let members: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.ends_with("/Cargo.toml"))
        .collect();
    assert!(members.len() >= 6);
    for (path, text) in members {
        let (_, lints) = text.split_once("[lints]").unwrap_or_default();
        assert!(lints.trim_start().starts_with("workspace = true"), "{path}");
    }
}
