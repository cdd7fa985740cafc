//! A hostile host, as a process of its own: this test program, started once more in a network namespace.
//!
//! It is a stranger who floods and stalls, and strangers who finish the handshake, from many addresses; and it is a device
//! that was let in and then says whatever it likes. It says on its standard output how far it is, and ends with its standard input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::io::AsyncWriteExt as _;
use ownmesh_crypto::pairing::Ticket;
use ownmesh_crypto::{DeviceKeys, DeviceSeed, MeshId};
use ownmesh_node::home::rng;
use ownmesh_node::net::{Net, NetConfig, NetEvent, NetHandle, Peer};
use ownmesh_node::pair::{Invitation, JoinOptions, join};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::device::Device;

/// What starts this program as an attacker: a ticket, and whom to attack.
const TICKET: &str = "MESH_TEST_TICKET";
const TARGETS: &str = "MESH_TEST_TARGETS";
const PACE: &str = "MESH_TEST_CONNECTIONS_A_SECOND";
/// Addresses of the attacker's host.
const ADDRESSES: u8 = 40;
/// How long a connection is held that the other side does not end.
const HELD: Duration = Duration::from_secs(20);
/// Strangers who finish the handshake.
const KNOCKING: usize = 8;

/// One at work. Ends when it is dropped.
pub(crate) struct Attacker {
    child: Child,
    heard: Arc<Done>,
    listening: Option<JoinHandle<()>>,
}

/// What it has done so far.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) tried: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) streams: AtomicU64,
}

impl Done {
    fn all(&self) -> [(&'static str, &AtomicU64); 7] {
        [
            ("tried", &self.tried),
            ("connected", &self.connected),
            ("held", &self.held),
            ("bytes", &self.bytes),
            ("sessions", &self.sessions),
            ("messages", &self.messages),
            ("streams", &self.streams),
        ]
    }

    fn say(&self) -> Value {
        let all = self
            .all()
            .map(|(name, n)| (name.to_owned(), n.load(Ordering::Relaxed).into()));
        Value::Object(all.into_iter().collect())
    }

    fn hear(&self, said: &Value) {
        for (name, n) in self.all() {
            n.store(said[name].as_u64().unwrap_or_default(), Ordering::Relaxed);
        }
    }
}

impl Attacker {
    /// Starts on the host of `guest`, who was given `ticket`, against these ports of `10.77.0.x`.
    pub(crate) fn start(guest: &Device, ticket: &str, targets: &[SocketAddr], pace: u32) -> Self {
        let (lan, side) = guest.side.clone().unwrap();
        let add = (0..ADDRESSES).map(|n| format!("ip address add 10.77.9.{}/16 dev eth0", n + 1));
        lan.run(side, &add.collect::<Vec<_>>().join("\n")).unwrap();
        // Last in the queue for the processor, as on a machine of its own it would not stand in it at all.
        let mut command = guest.program("nice");
        command
            .args(["-n", "19"])
            .arg(std::env::current_exe().unwrap());
        command.args(["--exact", "attacker::the_attacker", "--nocapture"]);
        command.env(TICKET, ticket).env(TARGETS, list(targets));
        command.env(PACE, pace.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (heard, out) = (Arc::new(Done::default()), child.stdout.take().unwrap());
        let hearing = heard.clone();
        let listening = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str(&line) {
                    hearing.hear(&said);
                }
            }
        });
        Self {
            child,
            heard,
            listening: Some(listening),
        }
    }

    pub(crate) fn done(&self) -> Arc<Done> {
        self.heard.clone()
    }

    /// Turns the strangers to other ports.
    pub(crate) fn aim(&mut self, targets: &[SocketAddr]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{}", list(targets)).unwrap();
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if let Some(listening) = self.listening.take() {
            let _ended = listening.join();
        }
    }
}

fn list(targets: &[SocketAddr]) -> String {
    let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
    targets.join(",")
}

fn parse(targets: &str) -> Vec<SocketAddr> {
    targets
        .split(',')
        .map(|target| target.parse().unwrap())
        .collect()
}

/// Not a test: what the other process runs. Without its environment it does nothing.
#[test]
fn the_attacker() {
    let Ok(ticket) = std::env::var(TICKET) else {
        return;
    };
    let raised = Rlimit {
        current: getrlimit(Resource::Nofile).maximum,
        ..getrlimit(Resource::Nofile)
    };
    let _as_many_as_may_be = setrlimit(Resource::Nofile, raised);
    let targets = parse(&std::env::var(TARGETS).unwrap());
    let pace: u32 = std::env::var(PACE).unwrap().parse().unwrap();
    let aim = Arc::new(Mutex::new(targets.clone()));
    let aimed = aim.clone();
    // Whoever started it closes this when it has seen enough.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            *aimed.lock().unwrap() = parse(&line);
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(attack(ticket, targets, &aim, pace));
}

#[allow(
    clippy::print_stdout,
    reason = "how far it is, for the test that started it"
)]
async fn attack(ticket: String, targets: Vec<SocketAddr>, aim: &Mutex<Vec<SocketAddr>>, pace: u32) {
    let done = Arc::new(Done::default());
    let keys = Arc::new(DeviceKeys::from_seed(&DeviceSeed::random(&mut rng())));
    let (mesh, peers) = come_in(&ticket, &keys, &targets).await;
    tokio::spawn(inside(keys, mesh, peers.clone(), done.clone()));
    tokio::spawn(knock(mesh, peers, done.clone()));
    let many = getrlimit(Resource::Nofile).current.unwrap_or(1024);
    let places = Arc::new(Semaphore::new(usize::try_from(many).unwrap() * 3 / 4));
    let mut number = 0_u64;
    loop {
        if number.is_multiple_of(50) {
            println!("{}", done.say());
        }
        let (targets, done) = (aim.lock().unwrap().clone(), done.clone());
        let target = targets[usize::try_from(number).unwrap() % targets.len()];
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        tokio::spawn(async move {
            stranger(number, target, &done).await;
            drop(place);
        });
        number += 1;
        sleep(Duration::from_secs(1) / pace).await;
    }
}

/// One connection of somebody unknown, bad in one of six ways.
async fn stranger(number: u64, target: SocketAddr, done: &Done) {
    let from = Ipv4Addr::new(
        10,
        77,
        9,
        u8::try_from(number % u64::from(ADDRESSES)).unwrap() + 1,
    );
    done.tried.fetch_add(1, Ordering::Relaxed);
    let socket = TcpSocket::new_v4().unwrap();
    if socket.bind((from, 0).into()).is_err() {
        return;
    }
    let Ok(Ok(mut stream)) = timeout(HELD, socket.connect(target)).await else {
        return;
    };
    done.connected.fetch_add(1, Ordering::Relaxed);
    done.held.fetch_add(1, Ordering::Relaxed);
    let noise: &[u8] = b"\x13/multistream/1.0.0\n\x07/noise\n";
    let said = match number % 6 {
        // Nothing at all.
        0 => vec![],
        // A handshake that stops after its first words.
        1 => noise.to_vec(),
        // The longest message the handshake can announce, and a byte of it.
        2 => [noise, &[0xff, 0xff, 1]].concat(),
        // A protocol's name of two gigabytes.
        3 => b"\xff\xff\xff\xff\x07/".to_vec(),
        // A first message that is none.
        4 => [noise, &[0, 32], &[9; 32]].concat(),
        // Whatever there is.
        _ => vec![u8::try_from(number % 251).unwrap(); 1 << 18],
    };
    let hold = async {
        if stream.write_all(&said).await.is_ok() {
            done.bytes.fetch_add(said.len() as u64, Ordering::Relaxed);
        }
        let mut answer = [0; 4096];
        while let Ok(1..) = stream.read(&mut answer).await {}
    };
    let _held = timeout(HELD, hold).await;
    done.held.fetch_sub(1, Ordering::Relaxed);
}

/// Comes in by the ticket, as any device.
async fn come_in(ticket: &str, keys: &DeviceKeys, at: &[SocketAddr]) -> (MeshId, Vec<Peer>) {
    let (events, _unread) = mpsc::channel(8);
    let (_nobody, answers) = mpsc::channel(1);
    let options = JoinOptions {
        invitation: Invitation::Ticket(Box::new(Ticket::parse(ticket).unwrap())),
        trust: true,
        keys,
        name: "guest".into(),
        platform: "linux".into(),
        at: at.to_vec(),
        runtime_dir: "/nonexistent".into(),
        mdns: false,
    };
    let joined = join(options, events, answers).await.unwrap();
    let view = joined.registry.view();
    let others = view
        .devices
        .iter()
        .filter(|(id, _)| **id != keys.device_id());
    let peers = others
        .map(|(id, entry)| Peer {
            device: *id,
            public: entry.public,
            addresses: at.to_vec(),
        })
        .collect();
    let mesh = view.mesh_id;
    joined.confirm().await.unwrap();
    (mesh, peers)
}

async fn net(keys: &Arc<DeviceKeys>, mesh_id: MeshId) -> (NetHandle, mpsc::Receiver<NetEvent>) {
    let config = NetConfig {
        transport_secret: *keys.transport_secret().expose(),
        keys: keys.clone(),
        mesh_id,
        discovery: None,
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        runtime_dir: "/nonexistent".into(),
    };
    Net::start(config).await.unwrap()
}

/// Strangers who finish the handshake, are refused, and come again as somebody else.
async fn knock(mesh: MeshId, peers: Vec<Peer>, done: Arc<Done>) {
    loop {
        let mut nets = Vec::new();
        for _ in 0..KNOCKING {
            let keys = Arc::new(DeviceKeys::from_seed(&DeviceSeed::random(&mut rng())));
            let (net, events) = net(&keys, mesh).await;
            net.set_peers(peers.clone());
            done.tried.fetch_add(peers.len() as u64, Ordering::Relaxed);
            nets.push((net, events));
        }
        sleep(Duration::from_secs(2)).await;
        for (net, _) in nets {
            net.shutdown().await;
        }
    }
}

/// A device of the mesh gone mad: each time it is connected it opens all streams it gets and leaves them half used, announces frames
/// that never come, and says what no device would.
async fn inside(keys: Arc<DeviceKeys>, mesh: MeshId, peers: Vec<Peer>, done: Arc<Done>) {
    let (net, mut events) = net(&keys, mesh).await;
    net.set_peers(peers);
    let mut round = 0_u8;
    while let Some(event) = events.recv().await {
        let NetEvent::Connected { device, .. } = event else {
            continue;
        };
        done.sessions.fetch_add(1, Ordering::Relaxed);
        round = round.wrapping_add(1);
        let (net, done) = (net.clone(), done.clone());
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok(Ok(mut stream)) =
                timeout(Duration::from_secs(2), net.open_content(device)).await
            {
                done.streams.fetch_add(1, Ordering::Relaxed);
                let said: &[u8] = match silent.len() % 4 {
                    0 => &[],
                    1 => &[0xff, 0xff, 0xff, 0xf0],
                    2 => &[0, 0x3f, 0xff, 0xff, 0, 1, 2],
                    _ => &[0x5a; 4096],
                };
                if stream.write_all(said).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
                silent.push(stream);
                if silent.len() >= 60 {
                    break;
                }
            }
            // Half of its lives it is only silent, so that what it opened is there for long.
            for n in 0..40_u8 {
                let message = match (round % 2, n % 3) {
                    (0, _) => break,
                    (_, 0) => vec![n; 1 << 20],
                    (_, 1) => vec![0, n, 0xbf, 0xff],
                    _ => vec![],
                };
                if net.send(device, message).is_err() {
                    break;
                }
                done.messages.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(10)).await;
            }
            sleep(Duration::from_secs(5)).await;
            drop(silent);
        });
    }
}
