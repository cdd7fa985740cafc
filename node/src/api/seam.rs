//! Stands for the engine until it is there.
#![allow(missing_docs, dead_code, clippy::missing_errors_doc)]
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::command::*;
use crate::status::*;

#[derive(Clone, Copy, Debug)]
pub struct Now;
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    Something {},
}
#[derive(Debug, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;
#[derive(Default, Debug)]
pub struct Engine {
    window: Option<mpsc::Sender<PairEvent>>,
}
#[derive(Clone, Debug)]
pub struct Handle(
    std::sync::Arc<std::sync::Mutex<Engine>>,
    broadcast::Sender<Notice>,
);
impl Handle {
    pub fn start() -> Self {
        Self(Default::default(), broadcast::channel(8).0)
    }
    pub async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Now) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let mut engine = self.0.lock().map_err(|_| Stopped)?;
        Ok(f(&mut engine, Now))
    }
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.1.subscribe()
    }
    pub async fn stop(self) {}
}
fn none<T>() -> Result<T, CommandError> {
    Err(CommandError::not_found("space", "x"))
}
impl Engine {
    pub fn status(&self, _: Now) -> Status {
        Status {
            v: 1,
            device: ThisDevice::default(),
            mesh: MeshInfo::default(),
            locked: false,
            peers: vec![],
            spaces: vec![],
            bucket: None,
            relays: vec![],
            socket: None,
        }
    }
    pub fn devices(&self, _: Now) -> Vec<DeviceInfo> {
        vec![DeviceInfo::default()]
    }
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        vec![]
    }
    pub fn add(
        &mut self,
        _: AddRequest,
        _: Now,
        done: oneshot::Sender<Result<AddReply, CommandError>>,
    ) {
        let _ = done.send(none());
    }
    pub fn leave(&mut self, _: &str) -> Result<(), CommandError> {
        none()
    }
    pub fn set_mode(&mut self, _: &str, _: &str) -> Result<(), CommandError> {
        none()
    }
    pub fn scan(&mut self, _: &str, _: Now, done: oneshot::Sender<Result<(), CommandError>>) {
        let _ = done.send(none());
    }
    pub fn wait(
        &mut self,
        _: WaitRequest,
        _: Now,
        done: oneshot::Sender<Result<WaitReply, CommandError>>,
    ) {
        let _ = done.send(Ok(WaitReply {
            done: false,
            reasons: vec!["alone".into()],
        }));
    }
    pub fn conflicts(&self) -> Vec<ConflictInfo> {
        vec![]
    }
    pub fn resolve(&mut self, item: &str, _: Keep, _: Now) -> Result<(), CommandError> {
        Err(CommandError::not_found("conflict", item))
    }
    pub fn go_on(&mut self, _: &str) -> Result<(), CommandError> {
        none()
    }
    pub fn revert(&mut self, _: &str) -> Result<(), CommandError> {
        none()
    }
    pub fn items(&self, _: &str, _: &str, _: bool) -> Result<Vec<ItemInfo>, CommandError> {
        none()
    }
    pub fn open_window(
        &mut self,
        _: Now,
        _: bool,
        _: Option<String>,
        events: mpsc::Sender<PairEvent>,
    ) -> Result<(), CommandError> {
        let _ = events.try_send(PairEvent::Window {
            code: None,
            ticket: "MESH1:X".into(),
            expires_in_s: 300,
        });
        self.window = Some(events);
        Ok(())
    }
    pub fn confirm_words(&mut self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
    pub fn close_window(&mut self) {
        self.window = None;
    }
}
