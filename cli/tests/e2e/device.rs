//! One device: a home, a folder, a node that runs as a child of the test, and `mesh` as its user types it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lan::Lan;
use crate::talk::Talk;
use crate::tree::Tree;
use crate::world::PATIENCE;

/// Lines of a node's log shown when a test fails.
const LOG_LINES: usize = 40;

/// A device of the mesh under test. Its node is killed when it is dropped.
pub(crate) struct Device {
    pub(crate) name: &'static str,
    /// Holds home and folder.
    pub(crate) root: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) folder: PathBuf,
    run: PathBuf,
    user: PathBuf,
    /// The end of a wire it is at.
    pub(crate) side: Option<(Rc<Lan>, usize)>,
    /// A mount namespace: the process that holds it.
    pub(crate) mounts: Option<u32>,
    /// Without the powers of root, also where the tester is root.
    pub(crate) powerless: bool,
    /// With the powers of root over the tester's files, also where he is not root.
    pub(crate) powerful: bool,
    /// Logs everything there is to log.
    pub(crate) talkative: bool,
    node: Option<Child>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Device {
    pub(crate) fn new(name: &'static str, root: &Path, run: PathBuf, user: PathBuf) -> Self {
        let folder = root.join("docs");
        fs::create_dir_all(&folder).unwrap();
        Self {
            name,
            root: root.to_owned(),
            home: root.join("home"),
            folder,
            run,
            user,
            side: None,
            mounts: None,
            powerless: false,
            powerful: false,
            talkative: false,
            node: None,
        }
    }

    /// A program as it runs on this device: cleared environment, its network, its mounts.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut words: Vec<String> = Vec::new();
        if let Some((lan, side)) = &self.side {
            words.extend(lan.enter(*side));
        } else if let Some(pid) = self.mounts {
            words.extend(["nsenter", "-t", &pid.to_string(), "-m", "--"].map(str::to_owned));
        }
        if self.powerless && rustix::process::geteuid().is_root() {
            words.extend(
                [
                    "unshare",
                    "--user",
                    "--map-user=1000",
                    "--map-group=1000",
                    "--",
                ]
                .map(str::to_owned),
            );
        }
        if self.powerful && !rustix::process::geteuid().is_root() {
            words.extend(["unshare", "--user", "--map-root-user", "--"].map(str::to_owned));
        }
        // Nothing outlives a test that is killed.
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear();
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.user)
            .env("TMPDIR", &self.run)
            .env("XDG_RUNTIME_DIR", &self.run);
        if self.side.is_none() {
            command.env("MESH_NO_MDNS", "1");
        }
        if self.talkative {
            command.env("MESH_LOG", "trace");
        } else if let Some(log) = std::env::var_os("MESH_LOG") {
            command.env("MESH_LOG", log);
        }
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_mesh"));
        command
            .arg("--home")
            .arg(&self.home)
            .arg("--json")
            .args(args);
        command
    }

    /// `mesh ARGS` with a line on standard input.
    pub(crate) fn mesh_with(&self, args: &[&str], line: &str) -> Ended {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        if let Some(mut stdin) = child.stdin.take() {
            let _gone = writeln!(stdin, "{line}");
        }
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |from: &mut dyn std::io::Read| {
            let mut text = Vec::new();
            from.read_to_end(&mut text)
                .map(|_| String::from_utf8_lossy(&text).into_owned())
                .unwrap()
        };
        let guard = Deadline::new(child.id());
        let stderr = std::thread::spawn(move || read(&mut err));
        let stdout = read(&mut out);
        let status = child.wait().unwrap();
        drop(guard);
        Ended {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: stderr.join().unwrap(),
        }
    }

    /// `mesh ARGS`.
    pub(crate) fn mesh(&self, args: &[&str]) -> Ended {
        self.mesh_with(args, "")
    }

    /// `mesh ARGS`, typed in a directory.
    pub(crate) fn mesh_in(&self, dir: &Path, args: &[&str]) -> Ended {
        let output = self.command(args).current_dir(dir).output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The answer of a command that must succeed.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ended = self.mesh(args);
        assert_eq!(ended.code, 0, "{}: mesh {args:?}: {ended:?}", self.name);
        ended.json()
    }

    /// The error of a command that must end with `code`.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, args: &[&str]) -> Value {
        let ended = self.mesh(args);
        assert_eq!(ended.code, code, "{}: mesh {args:?}: {ended:?}", self.name);
        ended.json()["error"].clone()
    }

    /// A mesh of its own; the node runs.
    pub(crate) fn init(&mut self) {
        self.init_with(&["--no-password"]);
    }

    pub(crate) fn init_with(&mut self, more: &[&str]) {
        self.json(&[&["init", "--name", self.name, "--yes"], more].concat());
        self.take_over();
    }

    /// Starts a command that goes on.
    pub(crate) fn talk(&self, args: &[&str]) -> Talk {
        Talk::new(self.command(args))
    }

    /// Lets another device in, by ticket.
    pub(crate) fn let_in(&self, other: &mut Device) {
        let mut command = self.command(&["pair", "--yes"]);
        let mut window = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let guard = Deadline::new(window.id());
        let mut said = Vec::new();
        for line in BufReader::new(window.stdout.take().unwrap()).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == "window" {
                let ticket = event["ticket"].as_str().unwrap();
                let joined = other.mesh_with(&["pair", "-", "--name", other.name, "--yes"], ticket);
                assert_eq!(
                    joined.code, 0,
                    "joining failed: {joined:?}; the window said {said:?}"
                );
            }
            said.push(event);
        }
        let ended = window.wait().unwrap();
        drop(guard);
        assert!(
            ended.success(),
            "the window ended with {ended}, having said {said:?}"
        );
        other.take_over();
    }

    /// The node that `init` and `pair` left running becomes a child of this test.
    pub(crate) fn take_over(&mut self) {
        self.json(&["down"]);
        self.up();
    }

    /// Starts the node; returns when it answers.
    #[track_caller]
    pub(crate) fn up(&mut self) {
        let said = self.try_up(&[]);
        assert_eq!(said["ready"], true, "{}: the node said {said}", self.name);
    }

    /// Starts the node; returns what it says.
    pub(crate) fn try_up(&mut self, more: &[&str]) -> Value {
        assert!(self.node.is_none(), "{} is running already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = self.command(&[&["up", "--foreground", "--detached"], more].concat());
        command.stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        if said["ready"] == true {
            self.node = Some(child);
        } else {
            let _ended = child.wait();
        }
        said
    }

    fn log_path(&self) -> PathBuf {
        self.run.join(format!("{}.log", self.name))
    }

    /// The process id of the node.
    pub(crate) fn pid(&self) -> u32 {
        self.node.as_ref().map(Child::id).unwrap()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    /// Stops it in order.
    #[track_caller]
    pub(crate) fn down(&mut self) {
        self.json(&["down"]);
        if let Some(mut node) = self.node.take() {
            let status = node.wait().unwrap();
            assert!(
                status.success(),
                "{}: the node ended with {status}",
                self.name
            );
        }
    }

    /// What it says of another device; null if it knows none of that name.
    pub(crate) fn peer(&self, name: &str) -> Value {
        let status = self.json(&["status"]);
        let mut peers = status["peers"].as_array().unwrap().iter();
        peers
            .find(|p| p["name"] == name)
            .cloned()
            .unwrap_or_default()
    }

    /// Bytes of memory the node uses now.
    pub(crate) fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// Adds its folder as the space `docs`, or joins it.
    #[track_caller]
    pub(crate) fn add(&self) -> Value {
        self.add_with(&[])
    }

    #[track_caller]
    pub(crate) fn add_with(&self, more: &[&str]) -> Value {
        let folder = self.folder.to_str().unwrap();
        self.json(&[&["add", folder, "--space", "docs"], more].concat())
    }

    /// The space `docs` as the status shows it.
    pub(crate) fn space(&self) -> Value {
        let ended = self.mesh(&["status", "--no-start"]);
        if ended.code != 0 {
            return Value::String(format!("{ended:?}"));
        }
        let status = ended.json();
        let spaces = status["spaces"].as_array().cloned().unwrap_or_default();
        spaces
            .into_iter()
            .find(|s| s["name"] == "docs")
            .unwrap_or(Value::Null)
    }

    pub(crate) fn conflicts(&self) -> Vec<Value> {
        self.json(&["conflicts"])["conflicts"]
            .as_array()
            .unwrap()
            .clone()
    }

    /// Looks at the disk now; returns when that has ended.
    #[track_caller]
    pub(crate) fn scan(&self) {
        self.json(&["scan", "docs", "--wait"]);
    }

    /// A path of the device as this test reaches it.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let holder = match (&self.side, self.mounts) {
            (Some((lan, side)), _) => lan.holder(*side),
            (None, Some(pid)) => pid,
            (None, None) => return path.to_owned(),
        };
        Path::new(&format!("/proc/{holder}/root")).join(path.strip_prefix("/").unwrap())
    }

    /// A file of the folder, for this test.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.seen(&self.folder).join(name)
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::of(&self.at(""))
    }

    /// Writes a file of the folder, making its directory.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.at(name)).ok()
    }

    /// What lies below `.mesh/tmp`.
    pub(crate) fn staged(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at(".mesh/tmp"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log_path()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the log of {}", self.name);
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                eprintln!("{line}");
            }
        }
        if let Some(mut node) = self.node.take() {
            let _gone = node.kill();
            let _gone = node.wait();
        } else if self.home.exists() {
            // Left running by `init` or `pair` when the test ended right after.
            let _gone = self.mesh(&["down"]);
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Kills a command that does not end.
struct Deadline(Option<std::sync::mpsc::Sender<()>>);

impl Deadline {
    fn new(pid: u32) -> Self {
        let (alive, ended) = std::sync::mpsc::channel::<()>();
        let until = PATIENCE + Duration::from_secs(30);
        std::thread::spawn(move || {
            let begun = Instant::now();
            let gone = ended.recv_timeout(until);
            if gone == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("a command does not end after {:?}", begun.elapsed());
                let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        });
        Self(Some(alive))
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.0 = None;
    }
}
