//! Patterns, and who has the last word.

use super::*;

fn rules(shared: &str, device: &str) -> Rules {
    Rules::parse(Texts {
        shared: shared.to_owned(),
        device: device.to_owned(),
    })
    .unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

/// Paths that end in a slash are directories.
fn ignored(rules: &Rules, text: &str) -> bool {
    let is_dir = text.ends_with('/');
    let path = path(text.trim_end_matches('/'));
    let yes = rules.ignores(&path, is_dir);
    assert_eq!(looker(rules)(&path, is_dir), yes, "{text}");
    yes
}

#[test]
fn patterns_mean_what_they_mean_to_git() {
    let r = rules(
        "# comment\n\ntarget/\n*.log\n!keep.log\n/anchored\ndocs/*.tmp\n**/deep/x\n\\#hash\n\\!bang\na?c\n[xy].txt\n",
        "",
    );
    for yes in [
        "target/",
        "a/target/",
        "a/target/b/c",
        "x.log",
        "a/b/x.log",
        "anchored",
        "anchored/below",
        "docs/a.tmp",
        "deep/x",
        "a/b/deep/x",
        "#hash",
        "!bang",
        "abc",
        "x.txt",
    ] {
        assert!(ignored(&r, yes), "{yes}");
    }
    for no in [
        "target",
        "keep.log",
        "a/keep.log",
        "a/anchored",
        "docs/sub/a.tmp",
        "hash",
        "abbc",
        "z.txt",
        "# comment",
    ] {
        assert!(!ignored(&r, no), "{no}");
    }
}

#[test]
fn no_exception_reaches_into_an_ignored_directory() {
    let r = rules("build/\n!build/keep\n", "");
    assert!(ignored(&r, "build/keep"));
    let r = rules("build/*\n!build/keep\n", "");
    assert!(!ignored(&r, "build/keep"));
    assert!(ignored(&r, "build/other"));
}

#[test]
fn the_device_has_the_last_word() {
    let r = rules("*.log\nbig/\n", "!mine.log\nlocal/\n");
    assert!(!ignored(&r, "mine.log"));
    assert!(ignored(&r, "other.log"));
    assert!(ignored(&r, "local/"));
    assert!(!r.shared_ignores(&path("local"), true));
    assert!(r.shared_ignores(&path("big/x"), false));
}

#[test]
fn the_rule_file_and_what_is_set_aside_are_never_ignored() {
    let r = rules("*\n.*\n", "*");
    assert!(!ignored(&r, ".meshignore"));
    assert!(!ignored(&r, ".mesh-00ff"));
    assert!(ignored(&r, ".other"));
}

#[test]
fn a_mistake_is_named_with_its_line() {
    let texts = Texts {
        shared: "fine\n\na[\n".to_owned(),
        device: String::new(),
    };
    let bad = Rules::parse(texts).unwrap_err();
    assert_eq!((bad.line, bad.pattern.as_str()), (3, "a["));
    assert!(
        bad.to_string().starts_with("line 3 of .meshignore"),
        "{bad}"
    );
}

#[test]
fn the_rule_that_decides_is_named() {
    let r = rules("*.log\n\n/out/\n", "!a.log\n");
    let d = r.decide(&path("out/x/y"), false).unwrap();
    assert_eq!(
        (d.ignored, d.file, d.line, d.pattern.as_str(), d.at.as_str()),
        (true, RuleFile::Shared, 3, "/out/", "out")
    );
    let d = r.decide(&path("a.log"), false).unwrap();
    assert_eq!((d.ignored, d.file, d.line), (false, RuleFile::Device, 1));
    assert_eq!(r.decide(&path("a.txt"), false), None);
}

#[test]
fn it_may_depend_on_what_stands_there() {
    let r = rules("build/\n*.o\n", "");
    assert!(r.splits(&path("build")));
    assert!(!r.splits(&path("x.o")));
    assert!(!r.splits(&path("build/x")));
}

#[test]
fn lines_of_windows_and_a_mark_at_the_start() {
    let r = rules("\u{feff}one\r\ntwo/\r\n", "");
    assert!(ignored(&r, "one"));
    assert!(ignored(&r, "two/"));
}
