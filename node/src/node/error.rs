//! Why a node does not start, or does not answer.

use crate::command::CommandError;
use crate::db::DbError;
use crate::engine::StartError;
use crate::home::HomeError;
use crate::net::NetError;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The home is not usable.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database is not.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The network is not.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A thread could not be made.
    #[error("no thread could be started")]
    Thread(#[from] std::io::Error),
}

impl From<DbError> for NodeError {
    fn from(error: DbError) -> Self {
        Self::Start(error.into())
    }
}

/// The node is stopping or has failed; nothing more is answered.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

impl From<Stopped> for CommandError {
    fn from(stopped: Stopped) -> Self {
        Self::not_running(stopped.to_string())
    }
}
