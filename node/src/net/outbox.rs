//! What waits to be sent to one peer.
//!
//! Filled by the engine, which is never blocked, and emptied by the session's writer. Bounded by bytes: a peer that reads slowly
//! costs at most [`OUTBOX_MAX`] of memory. Outlives a connection that is replaced by another one to the same process.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{CONTROL_MAX, OUTBOX_MAX, SendError};

/// Frames taken at once, bytes: enough to fill some records of the channel with small messages before each flush.
const BATCH: usize = 256 << 10;
/// Frames that may wait, whatever their size: bounds the queue's own memory under floods of tiny messages.
const FRAMES_MAX: usize = 64 << 10;

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    starving: bool,
    ping: bool,
    pong: bool,
    finish: bool,
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write these; then say `Writable` if asked to.
    Frames {
        frames: Vec<Vec<u8>>,
        writable: bool,
    },
    Ping,
    Pong,
    /// Write no more on this connection.
    Finish,
}

impl Outbox {
    /// Queues a message.
    pub(crate) fn push(&self, bytes: Vec<u8>) -> Result<(), SendError> {
        if bytes.len() > CONTROL_MAX {
            return Err(SendError::TooLong {
                len: bytes.len(),
                limit: CONTROL_MAX,
            });
        }
        let mut state = self.lock();
        if state.bytes + bytes.len() > OUTBOX_MAX || state.queue.len() >= FRAMES_MAX {
            state.starving = true;
            return Err(SendError::Full);
        }
        state.bytes += bytes.len();
        state.queue.push_back(bytes);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&self) {
        self.lock().ping = true;
        self.wake.notify_one();
    }

    /// Answers one.
    pub(crate) fn pong(&self) {
        self.lock().pong = true;
        self.wake.notify_one();
    }

    /// Ends the writer at the next frame boundary; what waits stays for the next connection.
    pub(crate) fn finish(&self) {
        self.lock().finish = true;
        self.wake.notify_one();
    }

    /// Readies the queue for the next connection.
    pub(crate) fn reopen(&self) {
        let mut state = self.lock();
        (state.finish, state.ping, state.pong) = (false, false, false);
    }

    /// Waits for something to do.
    pub(crate) async fn next(&self) -> Next {
        loop {
            let woken = self.wake.notified();
            if let Some(next) = self.take() {
                return next;
            }
            woken.await;
        }
    }

    /// Something to do now, if there is any.
    pub(crate) fn take(&self) -> Option<Next> {
        let mut state = self.lock();
        if std::mem::take(&mut state.pong) {
            return Some(Next::Pong);
        }
        if std::mem::take(&mut state.ping) {
            return Some(Next::Ping);
        }
        if state.finish {
            return Some(Next::Finish);
        }
        let mut frames = Vec::new();
        let mut taken = 0;
        while taken < BATCH
            && let Some(frame) = state.queue.pop_front()
        {
            taken += frame.len();
            frames.push(frame);
        }
        if frames.is_empty() {
            return None;
        }
        state.bytes -= taken;
        let room = state.bytes <= OUTBOX_MAX / 2 && state.queue.len() <= FRAMES_MAX / 2;
        let writable = room && std::mem::take(&mut state.starving);
        Some(Next::Frames { frames, writable })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_is_said_once_and_lifted_once() {
        let outbox = Outbox::default();
        let mut sent = 0;
        while outbox.push(vec![0; 1 << 20]).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 8);
        let mut lifted = 0;
        while let Some(Next::Frames { writable, frames }) = outbox.take() {
            sent -= frames.len();
            lifted += usize::from(writable);
            assert!(!writable || sent <= 4);
        }
        assert_eq!((sent, lifted), (0, 1));
        let long = outbox.push(vec![0; CONTROL_MAX + 1]);
        assert_eq!(
            long,
            Err(SendError::TooLong {
                len: CONTROL_MAX + 1,
                limit: CONTROL_MAX
            })
        );
    }

    #[test]
    fn finishing_keeps_what_waits() {
        let outbox = Outbox::default();
        outbox.push(b"a".to_vec()).unwrap();
        outbox.ping();
        outbox.finish();
        assert_eq!(outbox.take(), Some(Next::Ping));
        assert_eq!(outbox.take(), Some(Next::Finish));
        outbox.reopen();
        assert_eq!(
            outbox.take(),
            Some(Next::Frames {
                frames: vec![b"a".to_vec()],
                writable: false
            })
        );
    }
}
