//! Real nets on loopback in one process: meeting, refusing, flooding, pairing.
//!
//! Devices have names; every wait is for a condition and bounded. Only 127.0.0.1 is ever dialled.

#![allow(clippy::unwrap_used)] // in helpers outside test functions a failure is as loud

#[path = "net/keys.rs"]
mod changed_keys;
#[path = "net/pairing.rs"]
mod pairing;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ownmesh_crypto::{DeviceId, DeviceKeys, DeviceSeed, MeshId, MeshSecret};
use ownmesh_node::net::{
    Discovery, Loss, Net, NetConfig, NetEvent, NetHandle, NetTrouble, OpenError, PairAdvert, Peer,
    Protocol, Route, SendError,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Nothing here takes longer unless it never ends.
const LONG: Duration = Duration::from_secs(60);

const WINDOW: PairAdvert = PairAdvert {
    window: [1; 8],
    nameplate: None,
};

const MESH: MeshId = MeshId::from_bytes([7; 16]);

struct Node {
    keys: Arc<DeviceKeys>,
    net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
    /// Events passed over while waiting for another.
    seen: VecDeque<NetEvent>,
}

fn keys(seed: u8) -> Arc<DeviceKeys> {
    Arc::new(DeviceKeys::from_seed(&DeviceSeed::from_bytes([seed; 32])))
}

fn config(keys: &Arc<DeviceKeys>, mesh_id: MeshId, run: Option<&Path>) -> NetConfig {
    let secret = MeshSecret::from_bytes(*mesh_id_secret(mesh_id));
    NetConfig {
        transport_secret: *keys.transport_secret().expose(),
        keys: keys.clone(),
        mesh_id,
        discovery: run.map(|_| Discovery {
            tag: Arc::new(move |nonce| secret.discovery_tag(nonce)),
            mdns: false,
        }),
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        runtime_dir: run.map_or_else(|| PathBuf::from("/nonexistent"), Path::to_path_buf),
    }
}

fn mesh_id_secret(mesh: MeshId) -> Box<[u8; 32]> {
    let mut secret = Box::new([1; 32]);
    secret[..16].copy_from_slice(mesh.as_bytes());
    secret
}

impl Node {
    async fn start(seed: u8, run: Option<&Path>) -> Self {
        Self::start_in(seed, MESH, run).await
    }

    async fn start_in(seed: u8, mesh: MeshId, run: Option<&Path>) -> Self {
        let keys = keys(seed);
        let (net, events) = Net::start(config(&keys, mesh, run)).await.unwrap();
        Self {
            keys,
            net,
            events,
            seen: VecDeque::new(),
        }
    }

    fn id(&self) -> DeviceId {
        self.keys.device_id()
    }

    fn address(&self) -> SocketAddr {
        self.net.addresses()[0]
    }

    /// As others pin it, without saying where it is.
    fn peer(&self) -> Peer {
        Peer {
            device: self.id(),
            public: self.keys.public(),
            addresses: vec![],
        }
    }

    fn peer_at(&self) -> Peer {
        Peer {
            addresses: vec![self.address()],
            ..self.peer()
        }
    }

    /// The next event, of those passed over first, for which `pick` has an answer.
    async fn find<T>(&mut self, what: &str, mut pick: impl FnMut(&NetEvent) -> Option<T>) -> T {
        for at in 0..self.seen.len() {
            if let Some(found) = pick(&self.seen[at]) {
                self.seen.remove(at);
                return found;
            }
        }
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the net runs");
                match pick(&event) {
                    Some(found) => return found,
                    None => self.seen.push_back(event),
                }
            }
        };
        match timeout(LONG, search).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; instead {:?}", self.seen),
        }
    }

    async fn connected(&mut self, to: &Node) -> (u64, Route, SocketAddr) {
        let to = to.id();
        self.find("connection", |event| match event {
            NetEvent::Connected {
                device,
                instance,
                route,
                address,
            } if *device == to => Some((*instance, *route, *address)),
            _ => None,
        })
        .await
    }

    async fn lost(&mut self, who: &Node) -> Loss {
        let who = who.id();
        self.find("loss", |event| match event {
            NetEvent::Disconnected { device, why } if *device == who => Some(*why),
            _ => None,
        })
        .await
    }

    async fn message(&mut self) -> Vec<u8> {
        self.find("message", |event| match event {
            NetEvent::Message { bytes, .. } => Some(bytes.clone()),
            _ => None,
        })
        .await
    }

    async fn trouble(&mut self, right: impl Fn(&NetTrouble) -> bool) -> NetTrouble {
        self.find("trouble", |event| match event {
            NetEvent::Trouble { trouble, .. } if right(trouble) => Some(trouble.clone()),
            _ => None,
        })
        .await
    }
}

/// Two nodes that know each other and are connected.
async fn pair_of_nodes(run: &Path) -> (Node, Node) {
    let (mut laptop, mut nas) = (
        Node::start(1, Some(run)).await,
        Node::start(2, Some(run)).await,
    );
    laptop.net.set_peers(vec![nas.peer()]);
    nas.net.set_peers(vec![laptop.peer()]);
    laptop.connected(&nas).await;
    nas.connected(&laptop).await;
    (laptop, nas)
}

fn run_dir() -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let run = temp.path().join("run");
    (temp, run)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_devices_meet_through_the_runtime_directory() {
    let (_temp, run) = run_dir();
    let mut nodes = [
        Node::start(1, Some(&run)).await,
        Node::start(2, Some(&run)).await,
        Node::start(3, Some(&run)).await,
    ];
    for at in 0..3 {
        let peers = (0..3)
            .filter(|other| *other != at)
            .map(|other| nodes[other].peer())
            .collect();
        nodes[at].net.set_peers(peers);
    }
    let ids = [nodes[0].id(), nodes[1].id(), nodes[2].id()];
    for (at, node) in nodes.iter_mut().enumerate() {
        for other in (0..3).filter(|other| *other != at) {
            let id = ids[other];
            let route = node
                .find("connection", |event| match event {
                    NetEvent::Connected { device, route, .. } if *device == id => Some(*route),
                    _ => None,
                })
                .await;
            assert_eq!(route, Route::Loopback);
        }
    }
    nodes[0].net.send(ids[2], b"hello".to_vec()).unwrap();
    assert_eq!(nodes[2].message().await, b"hello");
    for node in &nodes {
        node.net.shutdown().await;
    }
    assert_eq!(
        std::fs::read_dir(&run).unwrap().count(),
        0,
        "adverts are withdrawn"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_given_address_is_enough_for_one_side() {
    let (mut laptop, mut nas) = (Node::start(1, None).await, Node::start(2, None).await);
    nas.net.set_peers(vec![laptop.peer()]);
    laptop.net.set_peers(vec![nas.peer_at()]);
    let (instance, _, address) = laptop.connected(&nas).await;
    assert_eq!(address, nas.address());
    // The dialled one learns where the dialler listens.
    let (other, _, address) = nas.connected(&laptop).await;
    assert_eq!(address, laptop.address());
    assert_ne!(instance, other);
    let counters = laptop.net.counters();
    assert!(counters.contains_key(&(nas.id(), Protocol::Control)));

    // A restart is another instance, and is found again at its new address by dialling us.
    nas.net.shutdown().await;
    laptop.lost(&nas).await;
    assert_eq!(
        laptop.net.send(nas.id(), vec![1]),
        Err(SendError::NotConnected)
    );
    let mut nas = Node::start(2, None).await;
    nas.net.set_peers(vec![laptop.peer_at()]);
    nas.connected(&laptop).await;
    assert_ne!(laptop.connected(&nas).await.0, instance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_dial_each_other_at_once_end_with_one_connection() {
    for round in 0..5 {
        let (mut laptop, mut nas) = (
            Node::start(10 + round, None).await,
            Node::start(20 + round, None).await,
        );
        laptop.net.set_peers(vec![nas.peer_at()]);
        nas.net.set_peers(vec![laptop.peer_at()]);
        laptop.connected(&nas).await;
        nas.connected(&laptop).await;
        // Messages sent right away arrive in order, whichever connection survives.
        for i in 0..50u8 {
            laptop.net.send(nas.id(), vec![i]).unwrap();
            nas.net.send(laptop.id(), vec![i]).unwrap();
        }
        for i in 0..50u8 {
            assert_eq!(nas.message().await, [i]);
            assert_eq!(laptop.message().await, [i]);
        }
    }
}

/// Security tests 19 and 21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_and_told_of() {
    let (mut laptop, mut mallory) = (Node::start(1, None).await, Node::start(66, None).await);
    mallory.net.set_peers(vec![laptop.peer_at()]);
    let key = mallory.keys.public().transport;
    laptop
        .trouble(|t| matches!(t, NetTrouble::Stranger { transport, .. } if *transport == key))
        .await;
    // It has connected at its own end, and gets no further than that.
    assert_eq!(
        mallory.net.send(laptop.id(), vec![0]),
        Err(SendError::NotConnected)
    );
    assert!(matches!(
        mallory.net.open_content(laptop.id()).await,
        Err(OpenError::NotConnected)
    ));

    // A window does not help it: only the pairing protocol is offered.
    laptop.net.open_window(WINDOW);
    assert!(mallory.connected(&laptop).await_or_none().await.is_none());
    assert!(
        !laptop
            .seen
            .iter()
            .any(|e| matches!(e, NetEvent::Connected { .. }))
    );
}

/// Gives a condition that must not come true some time to.
trait Never: Future + Sized {
    async fn await_or_none(self) -> Option<Self::Output> {
        timeout(Duration::from_secs(2), self).await.ok()
    }
}

impl<F: Future> Never for F {}

/// Security test 22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_signing_key_under_a_pinned_peer_id_is_refused() {
    let (mut laptop, mut nas) = (Node::start(1, None).await, Node::start(2, None).await);
    nas.net.set_peers(vec![laptop.peer()]);
    // Pinned with the right transport key and somebody else's signing key.
    let other = keys(3).public();
    let mut public = nas.keys.public();
    public.sign = other.sign;
    let device = public.device_id();
    laptop.net.set_peers(vec![Peer {
        device,
        public,
        addresses: vec![nas.address()],
    }]);
    let told = laptop
        .trouble(|t| matches!(t, NetTrouble::WrongKey { .. }))
        .await;
    let NetTrouble::WrongKey {
        device: which,
        pinned,
        shown,
        ..
    } = told
    else {
        unreachable!()
    };
    assert_eq!(
        (which, pinned, shown),
        (device, other.sign, nas.keys.public().sign)
    );
    assert_eq!(
        laptop.net.send(device, vec![0]),
        Err(SendError::NotConnected)
    );
    assert!(nas.connected(&laptop).await_or_none().await.is_none());
}

/// Security test 22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_at_a_known_address_is_told_of() {
    let (mut laptop, nas, mallory) = (
        Node::start(1, None).await,
        Node::start(2, None).await,
        Node::start(66, None).await,
    );
    laptop.net.set_peers(vec![Peer {
        addresses: vec![mallory.address()],
        ..nas.peer()
    }]);
    let key = mallory.keys.public().transport;
    laptop
        .trouble(|t| matches!(t, NetTrouble::OtherPeer { transport, .. } if *transport == key))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_mesh_is_refused() {
    let (mut laptop, nas) = (
        Node::start(1, None).await,
        Node::start_in(2, MeshId::from_bytes([8; 16]), None).await,
    );
    nas.net.set_peers(vec![laptop.peer()]);
    laptop.net.set_peers(vec![nas.peer_at()]);
    laptop
        .trouble(|t| matches!(t, NetTrouble::WrongMesh { .. }))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_device_is_told_of() {
    let (mut laptop, nas, copy) = (
        Node::start(1, None).await,
        Node::start(2, None).await,
        Node::start(2, None).await,
    );
    laptop.net.set_peers(vec![nas.peer()]);
    nas.net.set_peers(vec![laptop.peer_at()]);
    let (first, ..) = laptop.connected(&nas).await;
    copy.net.set_peers(vec![laptop.peer_at()]);
    assert_eq!(laptop.lost(&nas).await, Loss::Restarted);
    assert_ne!(laptop.connected(&nas).await.0, first);
    // The first one is no restart's victim: it comes back.
    laptop
        .trouble(|t| matches!(t, NetTrouble::TwoInstances { .. }))
        .await;
}

/// Security tests 21 and 26.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_device_is_cut_off_within_two_seconds() {
    let (_temp, run) = run_dir();
    let (mut laptop, mut nas) = pair_of_nodes(&run).await;
    let mut stream = nas.net.open_content(laptop.id()).await.unwrap();
    let removed = Instant::now();
    laptop.net.set_peers(vec![]);
    assert_eq!(
        laptop.net.send(nas.id(), vec![0]),
        Err(SendError::NotConnected)
    );
    assert_eq!(laptop.lost(&nas).await, Loss::Removed);
    nas.lost(&laptop).await;
    assert!(
        removed.elapsed() < Duration::from_secs(2),
        "{:?}",
        removed.elapsed()
    );
    let mut rest = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(read.is_err() || rest.is_empty());
    // It comes back and is a stranger now.
    laptop
        .trouble(|t| matches!(t, NetTrouble::Stranger { .. }))
        .await;
}

/// Security test 78.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backpressure_keeps_order_and_loses_nothing() {
    const FRAME: usize = 64 << 10;
    const FRAMES: u32 = 512;
    let (_temp, run) = run_dir();
    let (mut laptop, mut nas) = pair_of_nodes(&run).await;
    let (to, from) = (nas.id(), laptop.id());
    let receive = tokio::spawn(async move {
        for i in 0..FRAMES {
            let bytes = nas.message().await;
            assert_eq!((bytes.len(), &bytes[..4]), (FRAME, &i.to_be_bytes()[..]));
        }
        nas
    });
    let mut full = 0;
    for i in 0..FRAMES {
        let mut frame = vec![0; FRAME];
        frame[..4].copy_from_slice(&i.to_be_bytes());
        while let Err(error) = laptop.net.send(to, frame.clone()) {
            assert_eq!(error, SendError::Full);
            full += 1;
            laptop
                .find("Writable", |e| {
                    matches!(e, NetEvent::Writable { device } if *device == to).then_some(())
                })
                .await;
        }
    }
    let nas = timeout(LONG, receive).await.unwrap().unwrap();
    assert!(full > 0, "8 MiB of queue hold no 32 MiB");
    let bytes = u64::from(FRAMES) * FRAME as u64;
    assert_eq!(laptop.net.counters()[&(to, Protocol::Control)].sent, bytes);
    assert_eq!(
        nas.net.counters()[&(from, Protocol::Control)].received,
        bytes
    );
    let long = laptop.net.send(to, vec![0; (4 << 20) + 1]);
    assert!(matches!(long, Err(SendError::TooLong { .. })));
}

/// Security test 78.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_stops_reading_stops_its_peer_and_nobody_else() {
    let (_temp, run) = run_dir();
    let mut laptop = Node::start(1, Some(&run)).await;
    let (mut nas, mut phone) = (
        Node::start(2, Some(&run)).await,
        Node::start(3, Some(&run)).await,
    );
    laptop.net.set_peers(vec![nas.peer(), phone.peer()]);
    nas.net.set_peers(vec![laptop.peer()]);
    phone.net.set_peers(vec![laptop.peer()]);
    laptop.connected(&nas).await;
    laptop.connected(&phone).await;
    // Nobody reads the events of `nas` beyond this.
    nas.connected(&laptop).await;
    phone.connected(&laptop).await;
    let queue = |limit: usize| {
        (0..limit)
            .take_while(|_| laptop.net.send(nas.id(), vec![9; 1 << 20]).is_ok())
            .count()
    };
    let stuck = timeout(LONG, async {
        let mut quiet = 0;
        let mut sent = 0;
        while quiet < 20 {
            let more = queue(100);
            sent += more;
            quiet = if more == 0 { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sent
    })
    .await
    .unwrap();
    assert!(stuck < 100, "bounded: {stuck} MiB");
    laptop.net.send(phone.id(), b"still here".to_vec()).unwrap();
    assert_eq!(phone.message().await, b"still here");
}

/// Security test 74.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_and_noise_do_not_disturb_a_pair() {
    let (_temp, run) = run_dir();
    let (laptop, mut nas) = pair_of_nodes(&run).await;
    let target = nas.address();
    let mut held = Vec::new();
    for i in 0..200u8 {
        let Ok(mut socket) = tokio::net::TcpStream::connect(target).await else {
            continue;
        };
        match i % 3 {
            0 => {}
            1 => drop(socket.write_all(&[i; 300]).await),
            _ => drop(
                socket
                    .write_all(b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff")
                    .await,
            ),
        }
        held.push(socket);
        laptop.net.send(nas.id(), vec![i]).unwrap();
    }
    for i in 0..200u8 {
        assert_eq!(nas.message().await, [i]);
    }
    assert!(
        !nas.seen
            .iter()
            .any(|e| matches!(e, NetEvent::Disconnected { .. }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_streams_carry_bytes_both_ways() {
    const MIB: usize = 64;
    let (_temp, run) = run_dir();
    let (laptop, mut nas) = pair_of_nodes(&run).await;
    let serve = tokio::spawn(async move {
        let mut stream = loop {
            if let Some(NetEvent::Content { stream, .. }) = nas.events.recv().await {
                break stream;
            }
        };
        let mut ask = [0; 4];
        stream.read_exact(&mut ask).await.unwrap();
        assert_eq!(&ask, b"file");
        for i in 0..MIB {
            stream.write_all(&vec![i as u8; 1 << 20]).await.unwrap();
        }
        stream.close().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        nas
    });
    let mut stream = laptop.net.open_content(keys(2).device_id()).await.unwrap();
    stream.write_all(b"file").await.unwrap();
    stream.flush().await.unwrap();
    let mut chunk = vec![0; 1 << 20];
    for i in 0..MIB {
        timeout(LONG, stream.read_exact(&mut chunk))
            .await
            .unwrap()
            .unwrap();
        assert!(chunk.iter().all(|byte| *byte == i as u8));
    }
    assert_eq!(stream.read(&mut chunk).await.unwrap(), 0);
    stream.close().await.unwrap();
    let nas = timeout(LONG, serve).await.unwrap().unwrap();
    let counted = laptop.net.counters()[&(nas.id(), Protocol::Content)];
    assert_eq!((counted.received, counted.sent), ((MIB << 20) as u64, 4));
}
