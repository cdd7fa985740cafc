//! A device that comes with other keys than are pinned for it.

use super::*;

/// Security test 22: it is refused and told of with both keys; the devices beside it notice nothing, and it is told of as long as it tries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key_is_refused_and_the_others_go_on() {
    let (mut laptop, mut nas, phone) = (
        Node::start(1, None).await,
        Node::start(2, None).await,
        Node::start(3, None).await,
    );
    // The phone as it was when it was pinned: another signing key, the same PeerId.
    let was = keys(4).public().sign;
    let mut public = phone.keys.public();
    public.sign = was;
    let pinned = public.device_id();
    laptop.net.set_peers(vec![
        nas.peer(),
        Peer {
            device: pinned,
            public,
            addresses: vec![],
        },
    ]);
    nas.net.set_peers(vec![laptop.peer_at()]);
    laptop.connected(&nas).await;
    nas.connected(&laptop).await;
    phone.net.set_peers(vec![laptop.peer_at()]);
    for round in 0..3_u8 {
        let told = laptop
            .trouble(|t| matches!(t, NetTrouble::WrongKey { .. }))
            .await_or_none()
            .await;
        if let Some(NetTrouble::WrongKey {
            device,
            pinned: key,
            shown,
            ..
        }) = told
        {
            assert_eq!((device, key), (pinned, was));
            assert_eq!(shown, phone.keys.public().sign);
        } else {
            assert!(round > 0, "never told of");
        }
        // Messages both ways all the while.
        for n in 0..50 {
            laptop.net.send(nas.id(), vec![round, n]).unwrap();
            nas.net.send(laptop.id(), vec![n, round]).unwrap();
        }
        for n in 0..50 {
            assert_eq!(nas.message().await, [round, n]);
            assert_eq!(laptop.message().await, [n, round]);
        }
    }
    let disturbed = |event: &NetEvent| {
        matches!(
            event,
            NetEvent::Connected { .. } | NetEvent::Disconnected { .. }
        )
    };
    assert!(!laptop.seen.iter().any(disturbed), "{:?}", laptop.seen);
    assert!(!nas.seen.iter().any(disturbed), "{:?}", nas.seen);
    assert_eq!(
        laptop.net.send(pinned, vec![0]),
        Err(SendError::NotConnected)
    );
}
