//! Bringing the network up beside the engine.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::mpsc::SyncSender;

use super::{Input, NodeError};
use crate::net::{Net, NetConfig, NetError, NetEvent, NetHandle};

/// The addresses a ticket names, from a network that starts after the engine.
#[derive(Default)]
pub(super) struct Hints(OnceLock<NetHandle>);

impl Hints {
    pub(super) fn set(&self, net: NetHandle) {
        drop(self.0.set(net));
    }

    pub(super) fn get(&self) -> Vec<String> {
        let addresses = self.0.get().map(NetHandle::addresses).unwrap_or_default();
        addresses.iter().take(4).map(ToString::to_string).collect()
    }
}

pub(super) async fn start_net(
    config: &(impl Fn(Vec<SocketAddr>) -> NetConfig + Sync),
    asked: &[SocketAddr],
    port: Option<u16>,
) -> Result<(NetHandle, tokio::sync::mpsc::Receiver<NetEvent>), NetError> {
    if !asked.is_empty() {
        return Net::start(config(asked.to_vec())).await;
    }
    // The port of last time keeps addresses that others remember true; if it is taken, any will do.
    if let Some(port) = port {
        let mut listen = NetConfig::everywhere();
        listen.iter_mut().for_each(|a| a.set_port(port));
        if let Ok(started) = Net::start(config(listen)).await {
            return Ok(started);
        }
    }
    Net::start(config(NetConfig::everywhere())).await
}

pub(super) fn feed_net(
    inbox: SyncSender<Input>,
    mut events: tokio::sync::mpsc::Receiver<NetEvent>,
) -> Result<(), NodeError> {
    std::thread::Builder::new()
        .name("net-events".into())
        .spawn(move || {
            while let Some(event) = events.blocking_recv() {
                if inbox.send(Input::Net(event)).is_err() {
                    break;
                }
            }
        })?;
    Ok(())
}
