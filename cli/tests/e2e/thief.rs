//! Somebody who knows the code and stands between the two: to the laptop he is the new device, to the desktop he is the laptop.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ownmesh_crypto::pairing::{Code, Enrollment, Window};
use ownmesh_crypto::registry::{self, By, JoinPath, Registry};
use ownmesh_crypto::{DeviceKeys, DeviceSeed, MasterKey, MeshSecret};
use ownmesh_node::home::rng;
use ownmesh_node::net::{Net, NetConfig, NetEvent, NetHandle};
use ownmesh_node::pair::{Invitation, JoinOptions, SponsorEffect, SponsorSession, join};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// One at work.
pub(crate) struct Thief {
    runtime: Runtime,
    address: SocketAddr,
    words: mpsc::Sender<String>,
    at_laptop: JoinHandle<bool>,
}

impl Thief {
    /// Begins with the laptop at `laptop`, and waits for the desktop with a mesh called `name`.
    pub(crate) fn between(code: &str, laptop: SocketAddr, name: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let code = Code::parse(code).unwrap();
        let keys = Arc::new(DeviceKeys::from_seed(&DeviceSeed::random(&mut rng())));
        let at_laptop = runtime.spawn(as_desktop(code.clone(), keys.clone(), laptop));
        let (words, typed) = mpsc::channel(1);
        let address = runtime.block_on(as_laptop(code, keys, name, typed));
        Self {
            runtime,
            address,
            words,
            at_laptop,
        }
    }

    /// Where he waits for the desktop.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The words on the desktop are those of his own half, so he knows them.
    pub(crate) fn agree(&self, words: &str) {
        self.words.blocking_send(words.to_owned()).unwrap();
    }

    /// Whether the laptop took him for a device.
    pub(crate) fn was_let_in(self) -> bool {
        self.runtime.block_on(self.at_laptop).unwrap()
    }
}

async fn as_desktop(code: Code, keys: Arc<DeviceKeys>, laptop: SocketAddr) -> bool {
    let (events, _unread) = mpsc::channel(8);
    let (_nobody, answers) = mpsc::channel(1);
    let options = JoinOptions {
        invitation: Invitation::Code(code),
        trust: true,
        keys: &keys,
        name: "desktop".into(),
        platform: "linux".into(),
        at: vec![laptop],
        runtime_dir: "/nonexistent".into(),
        mdns: false,
    };
    join(options, events, answers).await.is_ok()
}

/// Opens a window with the laptop's code. Returns: where.
async fn as_laptop(
    code: Code,
    keys: Arc<DeviceKeys>,
    name: &str,
    words: mpsc::Receiver<String>,
) -> SocketAddr {
    let mut rng = rng();
    let root = MasterKey::random(&mut rng).root(&[1; 16], 0);
    let genesis = registry::genesis(&root, [1; 16], name, 1).unwrap();
    let mut registry = Registry::new(genesis.bytes()).unwrap();
    let (mesh, by) = (registry.view().mesh_id, By::Root(&root));
    for statement in [
        registry::device(by, &mesh, name, "linux", &keys.card(), JoinPath::First, 1),
        registry::delegation(by, &mesh, keys.device_id(), true, 1),
    ] {
        registry.insert(statement.unwrap().bytes()).unwrap();
    }
    let config = NetConfig {
        transport_secret: *keys.transport_secret().expose(),
        keys: keys.clone(),
        mesh_id: mesh,
        discovery: None,
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        runtime_dir: "/nonexistent".into(),
    };
    let (net, events) = Net::start(config).await.unwrap();
    let address = net.addresses()[0];
    let mut window = Window::new(mesh, &mut rng);
    window.code = Some(code);
    let session = SponsorSession::open(window, keys.clone(), false, Instant::now());
    net.open_window(session.advert().unwrap());
    let lure = Lure {
        net,
        session,
        registry,
        keys,
    };
    tokio::spawn(lure.run(events, words));
    address
}

struct Lure {
    net: NetHandle,
    session: SponsorSession,
    registry: Registry,
    keys: Arc<DeviceKeys>,
}

impl Lure {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<NetEvent>,
        mut words: mpsc::Receiver<String>,
    ) {
        while let Some(event) = events.recv().await {
            let mut todo: VecDeque<SponsorEffect> = match event {
                NetEvent::PairFrame {
                    stream,
                    remote_transport_pub,
                    bytes,
                } => self.session.handle_frame(
                    Instant::now(),
                    &mut rng(),
                    stream,
                    remote_transport_pub,
                    &bytes,
                ),
                NetEvent::PairClosed { stream } => self.session.handle_closed(stream),
                _ => continue,
            }
            .into();
            while let Some(effect) = todo.pop_front() {
                match effect {
                    SponsorEffect::Send { stream, bytes } => {
                        let _gone = self.net.pair_send(stream, bytes);
                    }
                    SponsorEffect::Close { stream } => self.net.pair_close(stream),
                    SponsorEffect::AskWords => {
                        let typed = words.recv().await.unwrap_or_default();
                        todo.extend(self.session.confirm_words(&typed));
                    }
                    SponsorEffect::NeedEnrollment { join, path } => {
                        let (mesh, by) = (self.registry.view().mesh_id, By::Device(&self.keys));
                        let (name, platform) = (&join.name, &join.platform);
                        let admitted =
                            registry::device(by, &mesh, name, platform, &join.card, path, 2);
                        self.registry.insert(admitted.unwrap().bytes()).unwrap();
                        let statements = self.registry.statements();
                        todo.extend(self.session.enroll(Enrollment {
                            mesh_secret: MeshSecret::random(&mut rng()),
                            statements: statements.map(|s| s.bytes().to_vec()).collect(),
                            keyslots: vec![],
                        }));
                    }
                    _ => {}
                }
            }
        }
    }
}
