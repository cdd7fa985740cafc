use std::sync::Arc;
use std::time::{Duration, Instant};
use ownmesh_crypto::*;
use ownmesh_node::net::*;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn trial() {
    let seed: u8 = std::env::var("SEED").unwrap().parse().unwrap();
    let other: u8 = std::env::var("OTHER").unwrap().parse().unwrap();
    let keys = |s: u8| Arc::new(DeviceKeys::from_seed(&DeviceSeed::from_bytes([s; 32])));
    let secret = MeshSecret::from_bytes([1; 32]);
    let own = keys(seed);
    let start = Instant::now();
    let (net, mut events) = Net::start(NetConfig {
        transport_secret: *own.transport_secret().expose(), keys: own.clone(), mesh_id: MeshId::from_bytes([7;16]),
        discovery: Some(Discovery { tag: Arc::new(move |n| secret.discovery_tag(n)), mdns: true }),
        listen: NetConfig::everywhere(), runtime_dir: format!("/tmp/netns/run{seed}").into() }).await.unwrap();
    println!("{seed} listening {:?} after {:?}", net.addresses(), start.elapsed());
    net.set_peers(vec![Peer { device: keys(other).device_id(), public: keys(other).public(), addresses: vec![] }]);
    let end = tokio::time::Instant::now() + Duration::from_secs(std::env::var("SECS").unwrap().parse().unwrap());
    while let Ok(Some(e)) = tokio::time::timeout_at(end, events.recv()).await {
        println!("{seed} {:?} {e:?}", start.elapsed());
    }
    println!("{seed} {:?}", net.addresses());
    net.shutdown().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
}
