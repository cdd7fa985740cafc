//! The pairing window as a stream: it is open exactly as long as somebody reads it.

use std::sync::Arc;

use ownmesh_crypto::RootKeys;
use tokio::sync::{mpsc, watch};

use super::calls::{self, Context};
use super::reply::{self, Reply, versioned};
use crate::command::{CommandError, PairEvent, PairRequest};
use crate::pair::unlock_root;

/// Events that wait for the reader: a whole pairing has fewer.
const EVENTS: usize = 32;

/// Closes the window when the reader goes away, however it goes.
struct Window {
    context: Arc<Context>,
    events: mpsc::Receiver<PairEvent>,
    closing: watch::Receiver<bool>,
    ended: bool,
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let context = self.context.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = context.ask(|engine, _| engine.close_window()).await;
            });
        }
    }
}

/// The root key, with the password. Off the engine's thread: it takes a second by intent.
async fn unlock(context: &Arc<Context>, password: String) -> Result<RootKeys, CommandError> {
    let slots = context.ask(|engine, _| engine.keyslots()).await?;
    tokio::task::spawn_blocking(move || unlock_root(&slots, &password))
        .await
        .map_err(|error| CommandError::failed(error.to_string()))?
}

/// Opens the window and streams what happens there.
pub(super) async fn window(
    context: &Arc<Context>,
    request: PairRequest,
) -> Result<Reply, CommandError> {
    let (sender, events) = mpsc::channel(EVENTS);
    let PairRequest {
        trust_code,
        password,
    } = request;
    let root = match password {
        Some(password) => Some(unlock(context, password).await?),
        None => None,
    };
    context
        .ask(move |engine, now| engine.open_window(now, trust_code, root, sender))
        .await??;
    let closing = context.closing.subscribe();
    let window = Window {
        context: context.clone(),
        events,
        closing,
        ended: false,
    };
    Ok(reply::lines(futures::stream::unfold(
        window,
        |mut window| async move {
            if window.ended {
                return None;
            }
            let event = tokio::select! {
                event = window.events.recv() => event,
                () = calls::closed(&mut window.closing) => return None,
            };
            window.ended = event
                .as_ref()
                .is_none_or(|event| *event == PairEvent::Closed {});
            event.map(|event| (versioned(&event), window))
        },
    )))
}
