//! What somebody with a swarm of his own can do: a stranger inside a pairing window, and a pinned device gone mad.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, StreamProtocol, Swarm, SwarmEvent};
use libp2p::{PeerId, Stream};
use ownmesh_crypto::{DeviceKeys, DeviceSeed, MeshId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::address::{peer_id, to_multi};
use super::gate::{Policy, Sponsor};
use super::streams::{CONTENT, CONTROL, Inbound, PAIR};
use super::swarm::{Mesh, build};
use super::*;

const LONG: Duration = Duration::from_secs(60);

const WINDOW: PairAdvert = PairAdvert {
    window: [1; 8],
    nameplate: None,
};

fn keys(seed: u8) -> Arc<DeviceKeys> {
    Arc::new(DeviceKeys::from_seed(&DeviceSeed::from_bytes([seed; 32])))
}

async fn victim(seed: u8) -> (NetHandle, mpsc::Receiver<NetEvent>, Arc<DeviceKeys>) {
    let keys = keys(seed);
    let config = NetConfig {
        transport_secret: *keys.transport_secret().expose(),
        keys: keys.clone(),
        mesh_id: MeshId::from_bytes([7; 16]),
        discovery: None,
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        runtime_dir: "/nonexistent".into(),
    };
    let (net, events) = Net::start(config).await.unwrap();
    (net, events, keys)
}

fn pin(keys: &DeviceKeys, addresses: Vec<SocketAddr>) -> Peer {
    Peer {
        device: keys.device_id(),
        public: keys.public(),
        addresses,
    }
}

/// Opens what it likes. Its own handlers must offer a protocol to open it, so it holds the victim for pinned or for a sponsor.
struct Attacker {
    swarm: Swarm<Mesh>,
    _inbound: mpsc::Receiver<Inbound>,
    victim: PeerId,
}

impl Attacker {
    fn new(seed: u8, victim: &DeviceKeys, as_pinned: bool) -> Self {
        let policy = Arc::new(Policy::default());
        let victim = peer_id(&victim.public().transport).unwrap();
        if as_pinned {
            policy.pin([victim].into());
        } else {
            policy.set_sponsor(Sponsor::Known(victim));
        }
        let (swarm, inbound) = build(*keys(seed).transport_secret().expose(), policy).unwrap();
        Self {
            swarm,
            _inbound: inbound,
            victim,
        }
    }

    async fn connect(&mut self, address: SocketAddr) -> ConnectionId {
        let opts = DialOpts::peer_id(self.victim)
            .addresses(vec![to_multi(address)])
            .condition(PeerCondition::Always);
        self.swarm.dial(opts.build()).unwrap();
        let connected = async {
            loop {
                if let SwarmEvent::ConnectionEstablished { connection_id, .. } =
                    self.swarm.select_next_some().await
                {
                    return connection_id;
                }
            }
        };
        timeout(LONG, connected).await.unwrap()
    }

    async fn open(
        &mut self,
        connection: ConnectionId,
        protocol: StreamProtocol,
    ) -> Result<Stream, OpenError> {
        let (reply, mut opened) = oneshot::channel();
        self.swarm
            .behaviour_mut()
            .streams
            .open(self.victim, connection, protocol, reply);
        let open = async {
            loop {
                tokio::select! {
                    answer = &mut opened => return answer.unwrap_or(Err(OpenError::NotConnected)),
                    _ = self.swarm.select_next_some() => {}
                }
            }
        };
        timeout(LONG, open).await.unwrap()
    }

    /// Runs until the victim ends this stream.
    async fn until_ended(&mut self, stream: &mut Stream) {
        let mut sink = Vec::new();
        let read = async {
            tokio::select! {
                _ = stream.read_to_end(&mut sink) => {}
                () = async { loop { self.swarm.select_next_some().await; } } => {}
            }
        };
        timeout(LONG, read).await.expect("the victim ends it");
    }
}

/// Security tests 19 and 73.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_in_a_window_reaches_pairing_alone() {
    let (net, mut events, keys) = victim(1).await;
    net.open_window(WINDOW);
    let address = net.addresses()[0];

    // It claims the other protocols are there, and is told they are not.
    let mut nosy = Attacker::new(66, &keys, true);
    let connection = nosy.connect(address).await;
    for protocol in [CONTROL, CONTENT] {
        assert!(matches!(
            nosy.open(connection, protocol).await,
            Err(OpenError::Refused)
        ));
    }

    // Frames beyond 16 KiB, and more than 64 KiB in all, end the stream.
    let mut loud = Attacker::new(67, &keys, false);
    let connection = loud.connect(address).await;
    let mut stream = loud.open(connection, PAIR).await.unwrap();
    stream
        .write_all(&(16 * 1024 + 1u32).to_be_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    loud.until_ended(&mut stream).await;
    let event = timeout(LONG, events.recv()).await.unwrap().unwrap();
    assert!(matches!(event, NetEvent::PairClosed { .. }), "{event:?}");

    let mut long = Attacker::new(68, &keys, false);
    let connection = long.connect(address).await;
    let mut stream = long.open(connection, PAIR).await.unwrap();
    for _ in 0..5 {
        let _ = frame::write(&mut stream, &[0; 16 << 10]).await;
    }
    let _ = stream.flush().await;
    let mut frames = 0;
    let ended = async {
        tokio::select! {
            () = async { loop { long.swarm.select_next_some().await; } } => {}
            () = async {
                loop {
                    match events.recv().await.unwrap() {
                        NetEvent::PairFrame { bytes, .. } => frames += bytes.len(),
                        NetEvent::PairClosed { .. } => return,
                        other => panic!("{other:?}"),
                    }
                }
            } => {}
        }
    };
    timeout(LONG, ended).await.unwrap();
    assert_eq!(frames, 64 << 10);

    // The end of the window is the end of every stranger.
    let mut late = Attacker::new(69, &keys, false);
    let connection = late.connect(address).await;
    let mut stream = late.open(connection, PAIR).await.unwrap();
    net.close_window();
    late.until_ended(&mut stream).await;
}

/// Security test 73.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_strangers_fill_a_window() {
    let (net, _events, keys) = victim(1).await;
    net.open_window(WINDOW);
    let address = net.addresses()[0];
    let mut inside = Vec::new();
    for seed in 70..74 {
        let mut stranger = Attacker::new(seed, &keys, false);
        let connection = stranger.connect(address).await;
        let stream = stranger.open(connection, PAIR).await.unwrap();
        inside.push((stranger, stream));
    }
    let mut fifth = Attacker::new(75, &keys, false);
    let connection = fifth.connect(address).await;
    assert!(fifth.open(connection, PAIR).await.is_err());
}

/// Security tests 68 and 74.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_device_gone_mad_disturbs_nobody_else() {
    let (laptop, mut laptop_events, laptop_keys) = victim(1).await;
    let (nas, mut nas_events, nas_keys) = victim(2).await;
    let mad_keys = keys(3);
    let address = laptop.addresses()[0];
    laptop.set_peers(vec![pin(&nas_keys, vec![]), pin(&mad_keys, vec![])]);
    nas.set_peers(vec![pin(&laptop_keys, vec![address])]);
    let nas_id = nas_keys.device_id();
    let connected = async {
        loop {
            if let Some(NetEvent::Connected { device, .. }) = laptop_events.recv().await {
                assert_eq!(device, nas_id);
                return;
            }
        }
    };
    timeout(LONG, connected).await.unwrap();

    let garbage = tokio::spawn(async move {
        for round in 0..6u8 {
            let mut mad = Attacker::new(3, &laptop_keys, true);
            let connection = mad.connect(address).await;
            assert!(matches!(
                mad.open(connection, PAIR).await,
                Err(OpenError::Refused)
            ));
            let mut held = Vec::new();
            for i in 0..70u8 {
                let protocol = if i % 2 == 0 { CONTROL } else { CONTENT };
                let Ok(mut stream) = mad.open(connection, protocol).await else {
                    break;
                };
                let junk: &[u8] = match round % 3 {
                    0 => &[0xff; 64],
                    1 => &[0, 0, 0, 3, 0, 1, 0xa0],
                    _ => &[0, 0, 16, 1],
                };
                if stream.write_all(junk).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
                held.push(stream);
            }
        }
    });
    let laptop_id = keys(1).device_id();
    let exchange = async {
        let mut got = 0u32;
        let mut round = 0u32;
        while !garbage.is_finished() || got < 500 {
            laptop.send(nas_id, round.to_be_bytes().to_vec()).unwrap();
            round += 1;
            loop {
                match nas_events.recv().await.unwrap() {
                    NetEvent::Message { device, bytes } => {
                        assert_eq!((device, &bytes[..]), (laptop_id, &got.to_be_bytes()[..]));
                        got += 1;
                        break;
                    }
                    NetEvent::Connected { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            while let Ok(event) = laptop_events.try_recv() {
                let disturbed = matches!(
                    event,
                    NetEvent::Connected { .. }
                        | NetEvent::Disconnected { .. }
                        | NetEvent::Content { .. }
                );
                assert!(!disturbed, "{event:?}");
            }
        }
    };
    timeout(LONG, exchange).await.unwrap();
    garbage.await.unwrap();
}
