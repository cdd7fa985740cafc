//! The local API: HTTP/1.1 on a Unix socket that only the same user can reach.
//!
//! ```text
//! connection -> same user? -> hyper -> route table -> body checked -> Handle::call -> JSON, or a stream of JSON lines
//! ```
//!
//! The command line and later the dashboard speak it; it decides nothing. Dangers guarded against: another user's process (directory 0700,
//! socket 0600, peer's uid), a socket left by a crash (replaced only by the holder of the home's lock), a page in a browser (non-GET with a
//! body needs `application/json`), bodies and connections without end.

use std::io;
use std::path::{Path, PathBuf};

use crate::command::CommandError;
use crate::home::{Home, HomeError, NodeLock};

mod asked;
mod body;
mod calls;
mod ignore;
#[cfg(unix)]
mod listen;
mod openapi;
mod pairing;
mod past;
mod reply;
mod routes;
#[cfg(unix)]
mod serve;
mod uri;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No place for the socket.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The socket could not be made.
    #[error("cannot listen on {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This system has no Unix sockets.
    #[error("the local API is not yet supported on this system")]
    Unsupported,
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Home(error) => error.into(),
            other => CommandError::failed(crate::home::with_sources(&other)),
        }
    }
}

/// The bound socket. Binding early means that a client that connects waits for the node instead of failing.
#[derive(Debug)]
pub struct Api {
    #[cfg(unix)]
    listener: tokio::net::UnixListener,
    #[cfg(unix)]
    bound: std::fs::Metadata,
    path: PathBuf,
    home: Home,
}

impl Api {
    /// Binds the home's socket. Must be called within a tokio runtime.
    ///
    /// The lock is the proof that a socket found there belongs to nobody.
    pub fn bind(lock: &NodeLock) -> Result<Self, ApiError> {
        let path = lock.home().socket()?;
        #[cfg(unix)]
        {
            let bound = listen::bind(&path);
            let (listener, bound) = bound.map_err(|source| ApiError::Listen {
                path: path.clone(),
                source,
            })?;
            let home = lock.home().clone();
            Ok(Self {
                listener,
                bound,
                path,
                home,
            })
        }
        #[cfg(not(unix))]
        {
            drop(path);
            Err(ApiError::Unsupported)
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(not(unix))]
impl Api {
    /// Never called: there is nothing to bind.
    pub async fn serve(self, _: crate::node::Handle, stop: impl Future<Output = ()>) {
        stop.await;
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // Unless the home was removed, and the node of another one in its place listens there.
        #[cfg(unix)]
        if std::fs::symlink_metadata(&self.path).is_ok_and(|m| crate::home::same(&m, &self.bound)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
