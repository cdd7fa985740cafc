//! What is left of secrets where others may look, and who may ask a node at all.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ownmesh_crypto::pairing::Ticket;
use serde_json::Value;

use crate::device::Device;
use crate::world::World;

/// Every file below a directory, but for what is named.
fn files(dir: &Path, but: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if but
            .iter()
            .any(|name| path.file_name() == Some(OsStr::new(name)))
        {
            continue;
        }
        if kind.is_dir() {
            files(&path, but, found);
        } else if kind.is_file() {
            found.push(path);
        }
    }
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|part| part == secret)
}

/// Command line and environment of a device's node, and how large its core dump may be.
fn shown(device: &Device) -> Vec<u8> {
    let dir = format!("/proc/{}", device.pid());
    let limits = std::fs::read_to_string(format!("{dir}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    [
        std::fs::read(format!("{dir}/cmdline")).unwrap(),
        std::fs::read(format!("{dir}/environ")).unwrap(),
    ]
    .concat()
}

/// Security test 20: after two pairings, one by code and one by ticket, with everything logged, nothing that lies on a disk and nothing
/// that a node shows of itself has code, ticket, its secret, phrase or password in it.
#[test]
fn no_secret_is_left_behind() {
    let world = World::loopback();
    let (password, phrase) = (world.path("password"), world.path("phrase"));
    std::fs::write(&password, "correct horse battery staple").unwrap();
    let mut laptop = world.device("laptop");
    laptop.talkative = true;
    let given = [
        "--password-file",
        password.to_str().unwrap(),
        "--phrase-out",
        phrase.to_str().unwrap(),
    ];
    laptop.init_with(&given);
    let mut secrets = vec![("password", b"correct horse battery staple".to_vec())];
    let words = std::fs::read_to_string(&phrase).unwrap();
    let words: Vec<_> = words.split_whitespace().collect();
    assert_eq!(words.len(), 24);
    for four in words.chunks(4) {
        secrets.push(("phrase", four.join(" ").into_bytes()));
    }
    for (name, by_code) in [("desktop", true), ("tablet", false)] {
        let mut window = laptop.talk(&["pair", "--yes", "--password-file", given[1]]);
        let event = window.until("window");
        let of = |field: &str| event[field].as_str().unwrap().to_owned();
        let (code, text) = (of("code"), of("ticket"));
        let ticket = Ticket::parse(&text).unwrap();
        let mut device = world.device(name);
        device.talkative = true;
        let said = if by_code { &code } else { &text };
        let joined = device.mesh_with(&["pair", "-", "--name", name, "--yes"], said);
        assert_eq!(joined.code, 0, "{joined:?}");
        assert_eq!(window.end(), 0);
        device.take_over();
        device.add();
        secrets.push(("code", code.clone().into_bytes()));
        secrets.push(("code", code.replace('-', "").into_bytes()));
        secrets.push(("ticket", text.into_bytes()));
        secrets.push(("ticket's secret", ticket.secret.expose().to_vec()));
        let found = shown(&device);
        for (what, secret) in &secrets {
            assert!(!holds(&found, secret), "{name} shows the {what}");
        }
    }
    laptop.down();
    laptop.up();
    let found = shown(&laptop);
    for (what, secret) in &secrets {
        assert!(!holds(&found, secret), "laptop shows the {what}");
    }
    // Nothing is written any more.
    laptop.down();
    let (mut all, mut bytes) = (Vec::new(), 0);
    files(world.root(), &["password", "phrase"], &mut all);
    for path in &all {
        let content = std::fs::read(path).unwrap();
        bytes += content.len();
        for (what, secret) in &secrets {
            assert!(
                !holds(&content, secret),
                "{} has the {what}",
                path.display()
            );
        }
    }
    // The control: the logs are among what was searched, and do tell of the pairing.
    let logs = all
        .iter()
        .filter(|path| path.extension() == Some(OsStr::new("log")));
    let logged: String = logs
        .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
        .collect();
    assert!(
        logged.contains("TRACE") || logged.contains("DEBUG"),
        "{logged}"
    );
    eprintln!(
        "{} files, {bytes} bytes, {} of logs searched",
        all.len(),
        logged.len()
    );
}

/// What starts this program as somebody else, who asks a node.
const SOCKET: &str = "MESH_TEST_SOCKET";

/// Not a test: what the other process runs. Without its environment it does nothing.
#[test]
fn the_other_user() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let answer = UnixStream::connect(socket).and_then(|mut stream| {
        stream.write_all(
            b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let said = match answer {
        Ok(answer) => Value::from(answer.lines().next().unwrap_or("closed")),
        Err(error) => Value::from(error.kind().to_string()),
    };
    eprintln!("SAID {said}");
}

/// Security test 60. Even if everything were open to all, the node answers its own user alone.
#[test]
fn another_user_of_the_machine_is_not_answered() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can be another user");
        return;
    }
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let socket = laptop.home.join("api.sock");
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    for path in socket
        .ancestors()
        .take_while(|path| path.starts_with(world.root()))
    {
        open(path);
    }
    let ask = |user: u32| {
        let mut command = Command::new("/proc/self/exe");
        command.args(["--exact", "secrets::the_other_user", "--nocapture"]);
        command.env(SOCKET, &socket).uid(user).gid(user);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().find_map(|line| line.split_once("SAID "));
        line.map(|(_, said)| said.to_owned()).unwrap_or(said)
    };
    assert_eq!(ask(0), "\"HTTP/1.1 200 OK\"");
    let refused = ask(65_534);
    let ended = ["\"closed\"", "\"connection reset\"", "\"broken pipe\""];
    assert!(ended.contains(&&*refused), "{refused}");
    // It goes on for whom it is.
    laptop.json(&["status", "--no-start"]);
}
