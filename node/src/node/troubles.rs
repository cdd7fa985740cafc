//! What went wrong in the network, in words for people. Says who and where, and what to do if there is something.

use ownmesh_crypto::DeviceId;

use crate::net::NetTrouble;

/// What kind of thing it is, for scripts and the operation log.
pub(super) fn kind(trouble: &NetTrouble) -> &'static str {
    match trouble {
        NetTrouble::Stranger { .. } => "stranger",
        NetTrouble::WrongKey { .. } | NetTrouble::OtherPeer { .. } => "wrong-key",
        _ => "network",
    }
}

/// The device it is about, and the sentence.
pub(super) fn say(
    trouble: &NetTrouble,
    name: &dyn Fn(&DeviceId) -> String,
) -> (Option<DeviceId>, String) {
    let about = |device: &DeviceId, text: String| (Some(*device), text);
    match trouble {
        NetTrouble::Stranger { address, .. } => {
            (None, format!("a stranger at {} was refused", address.ip()))
        }
        NetTrouble::WrongKey {
            device, address, ..
        } => about(
            device,
            format!(
                "{address} has the network key of {} but not its identity; it was refused",
                name(device)
            ),
        ),
        NetTrouble::OtherPeer {
            device, address, ..
        } => about(
            device,
            format!(
                "somebody else answers at {address}, where {} was",
                name(device)
            ),
        ),
        NetTrouble::WrongMesh { device } => {
            about(device, format!("{} is in another mesh now", name(device)))
        }
        NetTrouble::Version { device, theirs } => about(
            device,
            format!(
                "{} speaks version {theirs}, which is not known here; update the older of both",
                name(device)
            ),
        ),
        NetTrouble::BadHello { device } => about(
            device,
            format!(
                "{} began with something that is not understood",
                name(device)
            ),
        ),
        NetTrouble::Flood { device } => about(
            device,
            format!("{} sent more than it may and was cut off", name(device)),
        ),
        NetTrouble::TwoInstances { device } => about(
            device,
            format!(
                "two copies of {} are running: its home was copied, and they push each other out; stop one and pair it anew",
                name(device)
            ),
        ),
        NetTrouble::Discovery { what } => {
            (None, format!("one way to be found does not work: {what}"))
        }
        NetTrouble::Listen { address } => (None, format!("cannot listen on {address}")),
    }
}
