//! Ignore rules that change at random, on any device, at any moment.

use rand::Rng;

use crate::mem_disk::Entry;
use crate::transition::{below, one_in};
use crate::world::World;

/// Patterns that fit the names users choose; some are no patterns, some fit everything.
const PATTERNS: [&str; 16] = [
    "a",
    "docs/",
    "*.txt",
    "/log",
    "!x.txt",
    "many/",
    "old/b",
    "*",
    "[",
    "log*",
    "b/*",
    "**/Z",
    "/docs/*",
    "!/docs/a",
    "n?",
    "*conflict*",
];

impl World {
    /// A user changes the rules of the space, or of a device.
    pub fn change_rules(&mut self, d: usize) {
        let mut text = String::new();
        for _ in 0..below(&mut self.rng, 4) {
            text.push_str(PATTERNS[below(&mut self.rng, PATTERNS.len())]);
            text.push('\n');
        }
        let shared = one_in(&mut self.rng, 2);
        let disk = self.devices[d].disk.clone();
        if !shared && self.devices[d].space.is_some() {
            disk.user_write(".mesh/ignore", &text);
            self.note(d, &format!("ignores for itself {text:?}"));
            self.reference().count("own rules");
            self.look_at_root(d);
            return;
        }
        let before = disk.entries();
        let file = matches!(before.get(".meshignore"), None | Some(Entry::File(_)));
        if !file {
            return;
        }
        // Never the same bytes twice: the reference tells contents by them.
        text.push_str(&format!("# {}\n", self.rng.next_u64()));
        disk.user_write(".meshignore", &text);
        self.note(d, &format!("has all ignore {text:?}"));
        let after = disk.entries();
        let mut r = self.reference();
        r.step("rules", &before, &after, false, false);
        r.count("shared rules");
        drop(r);
        self.look_at_root(d);
    }

    fn look_at_root(&mut self, d: usize) {
        self.reference().disturbed.push((d, String::new()));
    }

    /// What was ignored is compared before anything is judged: all disks show the same again.
    pub(crate) fn end_rules(&mut self) -> Result<(), String> {
        for _ in 0..20 {
            if !self.ignore_nothing() {
                return Ok(());
            }
            self.scan_all();
            self.rest()?;
        }
        Err("rules come back again and again".to_owned())
    }

    /// Nothing is ignored any more, anywhere. Returns whether something was.
    fn ignore_nothing(&mut self) -> bool {
        let mut any = false;
        for d in 0..self.devices.len() {
            let disk = self.devices[d].disk.clone();
            let before = disk.entries();
            // What is no file changes nothing either.
            if before.contains_key(".meshignore") {
                disk.user_rm(".meshignore");
                let after = disk.entries();
                self.reference()
                    .step("no rules", &before, &after, false, false);
                self.note(d, "has nothing ignored by all");
                any = true;
            }
            if disk.entries_below(".mesh").contains_key("ignore") {
                disk.user_rm(".mesh/ignore");
                any = true;
            }
        }
        any
    }
}
