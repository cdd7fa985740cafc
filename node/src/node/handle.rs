//! What everybody else holds of a running node.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, oneshot};

use super::sources::Served;
use super::{Call, Input, Stopped};
use crate::engine::{Engine, Notice, Now};
use crate::net::NetHandle;

/// Speaks to a running node. Clones are cheap; the node goes on when all are dropped.
#[derive(Clone)]
pub struct Handle {
    pub(super) inbox: SyncSender<Input>,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) net: NetHandle,
    /// The folders in service, for what needs no decision of the engine's.
    pub(super) served: Arc<Served>,
    pub(super) held_up: HeldUp,
}

/// Why nothing is answered for now, if so.
pub(super) type HeldUp = Arc<Mutex<Option<String>>>;

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Runs `f` on the engine, between two events.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Now) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (done, answer) = oneshot::channel();
        let call: Call = Box::new(move |engine, now| {
            engine.wake(now);
            drop(done.send(f(engine, now)));
        });
        let inbox = self.inbox.clone();
        tokio::task::spawn_blocking(move || inbox.send(Input::Call(call)).map_err(|_| Stopped))
            .await
            .map_err(|_| Stopped)??;
        answer.await.map_err(|_| Stopped)
    }

    /// Why nothing is answered for now, though the node is not stopping: its database cannot be written.
    #[must_use]
    pub fn held_up(&self) -> Option<String> {
        let held_up = self.held_up.lock();
        held_up.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happens from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Bytes to and from each device by protocol, since the start.
    #[must_use]
    pub fn counters(&self) -> crate::net::Counters {
        self.net.counters()
    }

    /// Stops in order: no more connections, then the engine after what is in its queue.
    pub async fn stop(&self) {
        self.net.shutdown().await;
        let (done, stopped) = oneshot::channel();
        let inbox = self.inbox.clone();
        drop(tokio::task::spawn_blocking(move || inbox.send(Input::Stop(done)).is_ok()).await);
        drop(stopped.await);
    }
}
