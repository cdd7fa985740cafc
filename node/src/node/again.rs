//! A database that cannot be written: the engine is made anew when it can.

use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{Input, Runner};
use crate::db::DbError;
use crate::engine::{Engine, Notice};
use crate::home;

/// How long after a failed write the database is tried again.
const START_OVER: Duration = Duration::from_secs(1);

impl Runner {
    pub(super) fn tell(&self, kind: &str, message: String) {
        drop(self.notices.send(Notice::Trouble {
            kind: kind.into(),
            message,
        }));
    }

    fn hold_up(&self, why: Option<String>) {
        let held_up = self.held_up.lock();
        *held_up.unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// The database could not be written: what the engine remembers may be ahead of what it holds.
    /// It is dropped with all connections and jobs, as if the process had been killed, and made anew
    /// as soon as the database can be opened. Returns nothing if the node is told to stop meanwhile.
    pub(super) fn start_over(
        &mut self,
        engine: Engine,
        error: &DbError,
        queue: &Receiver<Input>,
    ) -> Option<Engine> {
        tracing::error!(%error, "the database could not be written; starting over");
        let why = home::why_no_database(error, &self.db_path);
        self.hold_up(Some(why.clone()));
        self.tell("database", why);
        // Results of jobs that are still running must not be taken for those of new ones.
        let jobs = engine.last_job() + 1_000_000;
        drop(engine);
        self.net.set_peers(Vec::new());
        self.net.close_window();
        self.unsent.clear();
        self.folders.close_all();
        loop {
            let until = Instant::now() + START_OVER;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                match queue.recv_timeout(left) {
                    Ok(Input::Stop(done)) => {
                        let _told = done.send(());
                        return None;
                    }
                    // Whoever waits for an answer is told that there is none.
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
            match (self.restart)(jobs) {
                Ok(engine) => {
                    self.hold_up(None);
                    return Some(engine);
                }
                Err(error) => tracing::error!(%error, "the database cannot be opened yet"),
            }
        }
    }
}
