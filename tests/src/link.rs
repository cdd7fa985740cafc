//! What is on its way between two devices: in order, delayed, and lost when the link is cut.

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
