//! A temporary place for homes and folders, and `mesh` run in it with nothing of the tester's environment.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test calls it stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything a test makes, gone when it ends, nodes included.
pub(crate) struct World {
    dir: TempDir,
    homes: std::cell::RefCell<Vec<PathBuf>>,
}

/// One home in a world.
pub(crate) struct Device<'w> {
    world: &'w World,
    pub(crate) home: PathBuf,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            dir: TempDir::new().unwrap(),
            homes: Default::default(),
        };
        fs::create_dir(world.path("run")).unwrap();
        fs::create_dir(world.path("user")).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn device(&self, name: &str) -> Device<'_> {
        let home = self.path(name);
        self.homes.borrow_mut().push(home.clone());
        Device { world: self, home }
    }

    /// `mesh` without a home of its own.
    pub(crate) fn mesh(&self, args: &[&str]) -> Ended {
        self.command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
        command.env_clear().current_dir(self.dir.path()).args(args);
        command
            .env("HOME", self.path("user"))
            .env("TMPDIR", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.path("run"));
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for home in self.homes.borrow().iter().filter(|home| home.exists()) {
            let _ = self
                .command(&["--home"])
                .arg(home)
                .arg("down")
                .stdin(Stdio::null())
                .output();
        }
    }
}

impl Device<'_> {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(&["--home"]);
        command.arg(&self.home).args(args);
        command
    }

    pub(crate) fn mesh(&self, args: &[&str]) -> Ended {
        self.command(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    /// The answer of a command that must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ended = self.mesh(&[&["--json"], args].concat());
        assert_eq!(ended.code, 0, "{args:?}: {} {}", ended.stdout, ended.stderr);
        ended.json()
    }

    /// A mesh of its own.
    pub(crate) fn init(self) -> Self {
        self.json(&["init", "--name", "laptop", "--no-password", "--yes"]);
        self
    }

    /// One HTTP exchange on the socket, as text.
    pub(crate) fn http(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.home.join("api.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr));
        assert_eq!(value["v"], 1, "{value}");
        value
    }

    /// The error object, of the promised shape.
    pub(crate) fn error(&self) -> Value {
        let error = self.json()["error"].clone();
        for (field, fits) in [
            ("kind", error["kind"].is_string()),
            ("message", error["message"].is_string()),
            ("hint", error["hint"].is_string()),
            ("retry", error["retry"].is_boolean()),
        ] {
            assert!(fits, "{field}: {error}");
        }
        error
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The permission bits of a file or directory.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}
