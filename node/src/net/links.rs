//! Which of several connections to one device is used.
//!
//! Two devices that find each other at the same moment dial each other, and both dials succeed. Both ends then compute the same
//! survivor: the connection the device with the lower PeerId dialled. A connection may also be dead without us knowing, so the
//! one in use is asked for a sign of life before it is preferred to a fresh one. A new start of the same device (another instance
//! number) takes over at once.
//!
//! Pure: events in, steps out. Guards against both ends closing the connection the other keeps, and shows a copied device.

use std::collections::VecDeque;

use libp2p::swarm::ConnectionId;

use super::Loss;

/// Instances remembered as superseded.
const INSTANCES_MAX: usize = 8;

/// A connection whose Hello is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) connection: ConnectionId,
    pub(crate) instance: u64,
    /// Whether the device with the lower PeerId dialled it.
    pub(crate) preferred: bool,
}

/// What the driver does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Use it; nothing was in use.
    Adopt(ConnectionId),
    /// Use it in the place of one that ended in order.
    MoveTo(ConnectionId),
    /// Ask for a sign of life; tell [`Link::probed`].
    Probe(ConnectionId),
    /// End it at a frame boundary.
    Retire(ConnectionId),
    /// End its session now.
    Kill(ConnectionId, Loss),
    /// Close a connection that was never used.
    Close(ConnectionId),
    /// The device is lost.
    Lost(Loss),
    /// Two nodes run as this device.
    TwoInstances,
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// Both sides finished at a frame boundary: nothing was lost.
    Clean,
    /// Something may have been lost.
    Lost(Loss),
}

/// All proven connections of one device.
#[derive(Debug, Default)]
pub(crate) struct Link {
    current: Option<Held>,
    next: Option<Held>,
    superseded: VecDeque<u64>,
}

impl Link {
    /// The connection in use.
    pub(crate) fn current(&self) -> Option<ConnectionId> {
        self.current.map(|held| held.connection)
    }

    /// A connection finished its Hello.
    pub(crate) fn proven(&mut self, new: Held) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.superseded.contains(&new.instance) {
            steps.push(Step::TwoInstances);
        }
        let Some(current) = self.current else {
            self.current = Some(new);
            steps.push(Step::Adopt(new.connection));
            return steps;
        };
        if self.next.is_some() {
            steps.push(Step::Close(new.connection));
            return steps;
        }
        self.next = Some(new);
        if current.instance == new.instance {
            steps.push(Step::Probe(current.connection));
        } else {
            self.superseded.retain(|instance| *instance != new.instance);
            self.superseded.push_back(current.instance);
            if self.superseded.len() > INSTANCES_MAX {
                self.superseded.pop_front();
            }
            steps.push(Step::Kill(current.connection, Loss::Restarted));
        }
        steps
    }

    /// The connection in use gave a sign of life, or failed to.
    pub(crate) fn probed(&mut self, connection: ConnectionId, alive: bool) -> Option<Step> {
        let current = self.current.filter(|c| c.connection == connection)?;
        let Some(next) = self.next else {
            return (!alive).then_some(Step::Kill(connection, Loss::Silent));
        };
        if current.instance != next.instance {
            return None;
        }
        if !alive {
            return Some(Step::Kill(connection, Loss::Silent));
        }
        if next.preferred && !current.preferred {
            return Some(Step::Retire(connection));
        }
        // Also of two dials by the same side: that side itself closes the later one.
        self.next = None;
        Some(Step::Close(next.connection))
    }

    /// A session is over.
    pub(crate) fn ended(&mut self, connection: ConnectionId, how: Ended) -> Vec<Step> {
        if self.next.is_some_and(|next| next.connection == connection) {
            self.next = None;
        }
        let Some(current) = self
            .current
            .take_if(|current| current.connection == connection)
        else {
            return Vec::new();
        };
        match (self.next.take(), how) {
            (None, Ended::Clean) => vec![Step::Lost(Loss::Closed)],
            (None, Ended::Lost(why)) => vec![Step::Lost(why)],
            (Some(next), how) => {
                self.current = Some(next);
                match how {
                    Ended::Clean if next.instance == current.instance => {
                        vec![Step::MoveTo(next.connection)]
                    }
                    Ended::Clean => vec![Step::Lost(Loss::Closed), Step::Adopt(next.connection)],
                    Ended::Lost(why) => vec![Step::Lost(why), Step::Adopt(next.connection)],
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(id: usize, instance: u64, preferred: bool) -> Held {
        Held {
            connection: ConnectionId::new_unchecked(id),
            instance,
            preferred,
        }
    }

    #[test]
    fn both_ends_keep_the_same_of_two_dials() {
        let (low, high) = (held(1, 5, true), held(2, 5, false));
        // This end proved the preferred one first ...
        let mut link = Link::default();
        assert_eq!(link.proven(low), [Step::Adopt(low.connection)]);
        assert_eq!(link.proven(high), [Step::Probe(low.connection)]);
        assert_eq!(
            link.probed(low.connection, true),
            Some(Step::Close(high.connection))
        );
        assert_eq!(link.current(), Some(low.connection));
        // ... the other end the other one.
        let mut link = Link::default();
        link.proven(high);
        assert_eq!(link.proven(low), [Step::Probe(high.connection)]);
        assert_eq!(
            link.probed(high.connection, true),
            Some(Step::Retire(high.connection))
        );
        assert_eq!(
            link.ended(high.connection, Ended::Clean),
            [Step::MoveTo(low.connection)]
        );
        assert_eq!(link.current(), Some(low.connection));
    }

    #[test]
    fn a_dead_connection_gives_way() {
        let (dead, fresh) = (held(1, 5, true), held(2, 5, false));
        let mut link = Link::default();
        link.proven(dead);
        link.proven(fresh);
        assert_eq!(
            link.probed(dead.connection, false),
            Some(Step::Kill(dead.connection, Loss::Silent))
        );
        let steps = link.ended(dead.connection, Ended::Lost(Loss::Silent));
        assert_eq!(
            steps,
            [Step::Lost(Loss::Silent), Step::Adopt(fresh.connection)]
        );
    }

    #[test]
    fn a_restart_takes_over_and_a_copy_is_told() {
        let mut link = Link::default();
        link.proven(held(1, 5, true));
        let steps = link.proven(held(2, 6, false));
        assert_eq!(
            steps,
            [Step::Kill(ConnectionId::new_unchecked(1), Loss::Restarted)]
        );
        link.ended(ConnectionId::new_unchecked(1), Ended::Lost(Loss::Restarted));
        // The first one comes back: it was no restart.
        let steps = link.proven(held(3, 5, true));
        assert_eq!(
            steps,
            [
                Step::TwoInstances,
                Step::Kill(ConnectionId::new_unchecked(2), Loss::Restarted)
            ]
        );
    }

    #[test]
    fn a_waiting_connection_that_goes_changes_nothing() {
        let mut link = Link::default();
        link.proven(held(1, 5, false));
        link.proven(held(2, 5, true));
        assert_eq!(
            link.proven(held(3, 5, true)),
            [Step::Close(ConnectionId::new_unchecked(3))]
        );
        assert_eq!(
            link.ended(ConnectionId::new_unchecked(2), Ended::Lost(Loss::Closed)),
            []
        );
        assert_eq!(link.probed(ConnectionId::new_unchecked(1), true), None);
        assert_eq!(
            link.ended(ConnectionId::new_unchecked(1), Ended::Clean),
            [Step::Lost(Loss::Closed)]
        );
    }

    #[test]
    fn silence_after_a_change_of_the_network_ends_the_only_connection() {
        let only = held(1, 5, true);
        let mut link = Link::default();
        link.proven(only);
        assert_eq!(link.probed(only.connection, true), None);
        assert_eq!(
            link.probed(only.connection, false),
            Some(Step::Kill(only.connection, Loss::Silent))
        );
        assert_eq!(link.probed(held(2, 5, true).connection, false), None);
    }
}
