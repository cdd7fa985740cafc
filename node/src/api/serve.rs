//! The accept loop, and the orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::calls::{self, Context};
use super::{Api, listen};
use crate::node::Handle;

/// Connections served at once. More than one person's terminals, editors and dashboard open; few enough to hold no memory worth naming.
const MAX_CONNECTIONS: usize = 256;

/// How long running requests may take when the node stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Pause after an accept that failed, so that a lack of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Api {
    /// Serves until `stop` completes or somebody asks for it (`POST /v1/down`), then lets running requests end.
    pub async fn serve(self, handle: Handle, stop: impl Future<Output = ()>) {
        let (closing, mut closed) = watch::channel(false);
        let elsewhere = self.path.file_name().is_none_or(|name| name != "api.sock");
        let socket = elsewhere.then(|| self.path.display().to_string());
        let context = Arc::new(Context {
            handle,
            closing,
            socket,
            home: self.home.clone(),
        });
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut stop => break,
                () = calls::closed(&mut closed) => break,
                Some(_) = connections.join_next() => continue,
            };
            match stream {
                Ok((stream, _)) if !listen::same_user(&stream) => {
                    tracing::warn!("another user tried the API");
                }
                Ok((stream, _)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let context = context.clone();
                        connections.spawn(async move {
                            converse(stream, context).await;
                            drop(place);
                        });
                    }
                    Err(_) => {
                        tracing::warn!(limit = MAX_CONNECTIONS, "too many connections to the API");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "the API cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        context.closing.send_replace(true);
        let farewell = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!("requests did not end in time");
        }
    }
}

/// Serves one connection until it ends or the API closes.
async fn converse(stream: UnixStream, context: Arc<Context>) {
    let mut closing = context.closing.subscribe();
    let service = service_fn(move |request| {
        let context = context.clone();
        async move { Ok::<_, Infallible>(calls::answer(context, request).await) }
    });
    let mut connection =
        pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = calls::closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the API broke");
    }
}
