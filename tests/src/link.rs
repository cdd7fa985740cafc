//! What is on its way between two devices: in order, delayed, and lost when the link is cut.

use ownmesh_crdt::batch::peek;
use ownmesh_crdt::message::Message;
use ownmesh_crypto::DeviceId;
use ownmesh_node::db::logs;

use crate::world::{Act, World};

/// A pair of devices, lower number first.
pub type Pair = (usize, usize);

/// The link of a pair.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Whether there is a network between them.
    pub up: bool,
    /// The connection that stands, if any. What was sent over an older one never arrives.
    pub session: Option<u64>,
    /// Which connection each side believes in: lower number, higher number.
    pub seen: [Option<u64>; 2],
    /// When the last thing arrives at each side: nothing overtakes it.
    pub last: [u64; 2],
}

/// The key of a link.
#[must_use]
pub fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

/// Which side of its link with `other` a device is.
#[must_use]
pub fn side(me: usize, other: usize) -> usize {
    usize::from(me > other)
}

impl World {
    /// Breaks a connection; `back`: the network itself is still there.
    pub fn cut(&mut self, p: Pair, back: bool) {
        let Some(link) = self.links.get_mut(&p) else {
            return;
        };
        link.up &= back;
        let Some(session) = link.session.take() else {
            return;
        };
        for (at, other) in [(p.0, p.1), (p.1, p.0)] {
            let delay = self.delay(2_000);
            self.later(delay, Act::Down { at, other, session });
        }
    }

    /// Gives two devices a network.
    pub fn join(&mut self, p: Pair) {
        if let Some(link) = self.links.get_mut(&p) {
            link.up = true;
        }
        let delay = self.delay(100);
        self.later(delay, Act::Connect(p));
    }

    pub(crate) fn connect(&mut self, p: Pair) {
        let both = self.devices[p.0].engine.is_some() && self.devices[p.1].engine.is_some();
        self.sessions += 1;
        let (session, now) = (self.sessions, self.now);
        let Some(link) = self
            .links
            .get_mut(&p)
            .filter(|l| l.up && l.session.is_none() && both)
        else {
            return;
        };
        link.session = Some(session);
        let seen = link.seen;
        for (at, other) in [(p.0, p.1), (p.1, p.0)] {
            if let Some(old) = seen[side(at, other)] {
                self.later(
                    0,
                    Act::Down {
                        at,
                        other,
                        session: old,
                    },
                );
            }
            let delay = self.delay(50);
            self.later(delay, Act::Up { at, other, session });
            if let Some(link) = self.links.get_mut(&p) {
                link.last[side(at, other)] = now + delay;
            }
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: &DeviceId, message: &Message) {
        let Some(to) = self.device_number(to) else {
            return;
        };
        let link = &self.links[&pair(from, to)];
        let Some(session) = link.seen[side(from, to)].filter(|s| link.session == Some(*s)) else {
            return;
        };
        let at = (self.now + self.delay(self.weather.message))
            .max(self.links[&pair(from, to)].last[side(to, from)]);
        if let Some(link) = self.links.get_mut(&pair(from, to)) {
            link.last[side(to, from)] = at;
        }
        let bytes = message.encode();
        self.promise(from, message);
        if matches!(message, Message::Page { .. }) {
            self.reference().count("pages of state");
        }
        self.later(
            at - self.now,
            Act::Deliver {
                to,
                from,
                session,
                bytes,
            },
        );
    }

    /// Keeps what a device makes others believe: it must be true after any loss of power.
    pub(crate) fn promise(&mut self, from: usize, message: &Message) {
        match message {
            Message::Space(hello) => self.devices[from].promised.merge(&hello.vector),
            Message::Batches { batches, .. } => {
                // Others' batches are only passed on.
                let device = &mut self.devices[from];
                let (Some(engine), Some(n)) = (&device.engine, device.space) else {
                    return;
                };
                let all = logs::all(engine.db().read(), n).unwrap_or_default();
                for (head, _) in batches.iter().filter_map(|b| peek(b).ok()) {
                    if all
                        .iter()
                        .any(|l| l.tag == head.tag && l.device == engine.device())
                    {
                        device.promised.raise(head.tag, head.seq);
                    }
                }
            }
            _ => {}
        }
    }

    /// Promises that a loss of power has made untrue.
    pub(crate) fn check_promises(&mut self, d: usize) {
        let device = &self.devices[d];
        let (Some(db), Some(n)) = (&device.db, device.space) else {
            return;
        };
        let kept = logs::vector(db.read(), n).unwrap_or_default();
        if !kept.covers(&device.promised) {
            let what = format!(
                "{} has told others what it does not know any more",
                device.name
            );
            self.failure.get_or_insert(what);
        }
    }
}
