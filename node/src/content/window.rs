//! What was asked on a stream and is not answered yet; pure.
//!
//! Answers come in the order of the asks, so what the next head must be about is known, and everything else is the
//! peer's fault. Dangers: asking for more than we can take (bytes and things in flight are bounded) and an answer that
//! is longer than what was asked for, or never ends.

use std::collections::VecDeque;

use ownmesh_crypto::{ContentHash, SpaceId};

use super::wire::{Ask, Head, MAX_ITEMS, Part, Status, WantFile, list_bound};

/// Bytes that may be under way on one stream (16 MiB): 50 ms of round trip at 2.5 Gbit/s.
pub const WINDOW_BYTES: u64 = 16 << 20;
/// Things that may be under way on one stream: two frames, so that one is answered while the other is asked.
pub const WINDOW_ITEMS: usize = 2 * MAX_ITEMS;

/// One thing to ask for, on behalf of the want `want` (an index of the caller's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Whose it is.
    pub want: usize,
    /// The content it is about.
    pub hash: ContentHash,
    /// What of it.
    pub what: What,
}

/// What is asked of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// All of it.
    File {
        /// How long it is, by the log.
        size: u64,
    },
    /// Its chunk list.
    List {
        /// How long the content is, by the log.
        size: u64,
    },
    /// A range.
    Part {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        len: u32,
    },
}

impl What {
    /// Most bytes the answer may have.
    fn bound(&self) -> u64 {
        match self {
            Self::File { size } => *size,
            Self::List { size } => list_bound(*size),
            Self::Part { len, .. } => (*len).into(),
        }
    }

    /// Bytes counted against the window: a list is never as long as it might be.
    fn weight(&self) -> u64 {
        match self {
            Self::List { .. } => self.bound() / 4,
            Self::File { .. } | Self::Part { .. } => self.bound(),
        }
    }
}

/// The peer does not keep to the protocol; the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// An answer to something else than what stands next, or to nothing.
    #[error("an answer out of order")]
    Order,
    /// An answer longer or shorter than what was asked for.
    #[error("an answer of the wrong length")]
    Length,
}

/// The requests of one stream.
#[derive(Debug, Default)]
pub struct Window {
    queue: VecDeque<Request>,
    flying: VecDeque<Flying>,
    bytes: u64,
    next_n: u32,
}

#[derive(Debug)]
struct Flying {
    n: u32,
    request: Request,
    got: u64,
}

impl Window {
    /// Puts a request at the end of the queue.
    pub fn push(&mut self, request: Request) {
        self.queue.push_back(request);
    }

    /// Nothing is queued and nothing under way.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.flying.is_empty()
    }

    /// Takes back what was not asked yet on behalf of `want`.
    pub fn forget(&mut self, want: usize) {
        self.queue.retain(|request| request.want != want);
    }

    /// Requests that wait to be asked.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// An answer is due.
    pub fn awaits(&self) -> bool {
        !self.flying.is_empty()
    }

    /// The next frame to send, if it is time for one: when half the window is free, so that frames carry many things.
    pub fn next_ask(&mut self, space: SpaceId) -> Option<Ask> {
        if self.flying.len() > WINDOW_ITEMS / 2 || self.bytes > WINDOW_BYTES / 2 {
            return None;
        }
        let first = *self.queue.front()?;
        let hash = first.hash;
        match first.what {
            What::List { .. } => self.take().map(|(n, _)| Ask::List { n, space, hash }),
            What::File { .. } => {
                let mut wants = Vec::new();
                while self.fits(|next| matches!(next.what, What::File { .. }), wants.len()) {
                    let Some((n, request)) = self.take() else {
                        break;
                    };
                    wants.push(WantFile {
                        n,
                        hash: request.hash,
                    });
                }
                Some(Ask::Files { space, wants })
            }
            What::Part { .. } => {
                let mut parts = Vec::new();
                while self.fits(
                    |next| matches!(next.what, What::Part { .. }) && next.hash == hash,
                    parts.len(),
                ) {
                    let Some((
                        n,
                        Request {
                            what: What::Part { offset, len },
                            ..
                        },
                    )) = self.take()
                    else {
                        break;
                    };
                    parts.push(Part { n, offset, len });
                }
                Some(Ask::Chunks { space, hash, parts })
            }
        }
    }

    /// Whether the next request goes into a frame that has `already` of its kind. The first always does.
    fn fits(&self, same: impl Fn(&Request) -> bool, already: usize) -> bool {
        self.queue.front().is_some_and(|next| {
            same(next)
                && already < MAX_ITEMS
                && self.flying.len() < WINDOW_ITEMS
                && (already == 0 || self.bytes + next.what.weight() <= WINDOW_BYTES)
        })
    }

    fn take(&mut self) -> Option<(u32, Request)> {
        let request = self.queue.pop_front()?;
        let n = self.next_n;
        self.next_n = n.wrapping_add(1);
        self.bytes += request.what.weight();
        self.flying.push_back(Flying { n, request, got: 0 });
        Some((n, request))
    }

    /// Takes a head in.
    ///
    /// Returns: the request it is about. With [`Status::More`] the next head must be about the same.
    pub fn on_head(&mut self, head: &Head) -> Result<Request, PeerFault> {
        let front = self
            .flying
            .front_mut()
            .filter(|front| front.n == head.n)
            .ok_or(PeerFault::Order)?;
        front.got += u64::from(head.len);
        let (request, got) = (front.request, front.got);
        let bound = request.what.bound();
        let short = match (request.what, head.status) {
            (What::Part { .. }, Status::Last) => got < bound,
            // Nothing can come behind the last byte.
            (_, Status::More) => got == bound,
            _ => false,
        };
        if got > bound || short {
            return Err(PeerFault::Length);
        }
        if head.status != Status::More {
            self.bytes -= request.what.weight();
            self.flying.pop_front();
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId::from_bytes([1; 16]);

    fn file(want: usize, size: u64) -> Request {
        Request {
            want,
            hash: ContentHash::from_bytes([want as u8; 32]),
            what: What::File { size },
        }
    }

    fn last(n: u32, len: u32) -> Head {
        Head {
            n,
            status: Status::Last,
            len,
        }
    }

    #[test]
    fn asks_carry_many_things_and_the_window_holds() {
        let mut window = Window::default();
        for want in 0..5000 {
            window.push(file(want, 10));
        }
        let mut asked = 0;
        let mut frames = 0;
        while !window.is_empty() {
            while let Some(Ask::Files { wants, .. }) = window.next_ask(SPACE) {
                asked += wants.len() as u32;
                frames += 1;
            }
            let n = 5000 - window.queued() as u32 - window.flying.len() as u32;
            assert!(asked - n <= WINDOW_ITEMS as u32);
            assert_eq!(
                window.on_head(&last(n, 10)).map(|request| request.want),
                Ok(n as usize)
            );
        }
        assert!(asked == 5000 && frames <= 11, "{asked} in {frames} frames");
        assert_eq!(window.bytes, 0);
    }

    #[test]
    fn bytes_under_way_are_bounded() {
        let mut window = Window::default();
        let part = |offset| Request {
            what: What::Part {
                offset,
                len: 8 << 20,
            },
            ..file(0, 0)
        };
        (0..9).for_each(|n| window.push(part(n * (8 << 20))));
        let Some(Ask::Chunks { parts, .. }) = window.next_ask(SPACE) else {
            panic!("no parts asked")
        };
        assert_eq!(parts.len(), 2);
        assert_eq!(window.next_ask(SPACE), None);
    }

    #[test]
    fn answers_out_of_order_or_length_are_the_peers_fault() {
        let mut window = Window::default();
        assert_eq!(window.on_head(&last(0, 0)), Err(PeerFault::Order));
        window.push(file(0, 10));
        window.push(Request {
            what: What::Part {
                offset: 0,
                len: 100,
            },
            ..file(1, 0)
        });
        while window.next_ask(SPACE).is_some() {}
        assert_eq!(window.on_head(&last(1, 10)), Err(PeerFault::Order));
        assert_eq!(window.on_head(&last(0, 11)), Err(PeerFault::Length));
        let mut window = Window::default();
        window.push(Request {
            what: What::Part {
                offset: 0,
                len: 100,
            },
            ..file(1, 0)
        });
        window.next_ask(SPACE).unwrap();
        assert!(
            window
                .on_head(&Head {
                    n: 0,
                    status: Status::More,
                    len: 60
                })
                .is_ok()
        );
        assert_eq!(window.on_head(&last(0, 39)), Err(PeerFault::Length));
    }
}
