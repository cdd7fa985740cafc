//! The derived rules of the tree: which of several live items keeps a name, what the others are
//! called, which item of a move cycle goes back to the root, what a conflict copy is called.
//!
//! All are pure functions of document state, so every device that holds the same documents shows
//! the same tree. Nothing here looks at a disk; `node` keeps the results as columns.

use ownmesh_crypto::ids::{ContentHash, ItemId};

use crate::op::OpId;

/// One live item that claims a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The claiming item.
    pub id: ItemId,
    /// The operation that put it there: the earliest claim keeps the name.
    pub since: OpId,
}

/// Settles who keeps `name` among the live items that claim it in one directory.
///
/// The claim with the lowest operation id (then item id) keeps the name; every other item is
/// shown under [`suffixed`]. Both stay: a name collision never hides or loses a file.
pub fn settle(name: &str, claims: &[Claim]) -> Vec<(ItemId, String)> {
    let mut order: Vec<&Claim> = claims.iter().collect();
    order.sort_by_key(|c| (c.since, c.id));
    order
        .iter()
        .enumerate()
        .map(|(n, c)| {
            let shown = if n == 0 {
                name.to_owned()
            } else {
                suffixed(name, &c.id)
            };
            (c.id, shown)
        })
        .collect()
}

/// The item of a move cycle whose move is dropped: the one with the lowest operation id.
/// It is shown in the root directory under its own name. Returns `None` for an empty cycle.
pub fn cycle_breaker(cycle: &[Claim]) -> Option<ItemId> {
    cycle.iter().min_by_key(|c| (c.since, c.id)).map(|c| c.id)
}

/// `report.txt` -> `report (1a2b3c4d).txt`, with the first eight hex digits of the item's id.
pub fn suffixed(name: &str, id: &ItemId) -> String {
    let tag: String = id.to_string().chars().take(8).collect();
    insert_before_extension(name, &format!(" ({tag})"))
}

/// `report.txt` -> `report (conflict laptop 1a2b3c4d).txt`: the losing version's device and the
/// first eight hex digits of its content hash. No date: no clock decides anything about it.
pub fn conflict_name(name: &str, device: &str, content: &[u8; ContentHash::LEN]) -> String {
    let device: String = device
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
        .take(40)
        .collect();
    let tag: String = ContentHash::from_bytes(*content)
        .to_string()
        .chars()
        .take(8)
        .collect();
    insert_before_extension(name, &format!(" (conflict {device} {tag})"))
}

/// Longest file name most filesystems hold, in bytes (NAME_MAX of Linux).
const NAME_MAX: usize = 255;

fn insert_before_extension(name: &str, tag: &str) -> String {
    // A leading dot starts a hidden file, not an extension; an extension of over 16 bytes is none.
    let cut = match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 17 => at,
        _ => name.len(),
    };
    let (stem, extension) = name.split_at(cut);
    let room = NAME_MAX.saturating_sub(tag.len() + extension.len());
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{tag}{extension}", &stem[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::ids::Incarnation;

    fn claim(n: u8, counter: u64) -> Claim {
        Claim {
            id: ItemId::from_bytes([n; 16]),
            since: OpId {
                counter,
                actor: Incarnation::from_bytes([n; 8]),
            },
        }
    }

    #[test]
    fn the_earliest_claim_keeps_the_name_in_any_order() {
        let (a, b, c) = (claim(1, 9), claim(2, 3), claim(3, 9));
        let first = settle("x.txt", &[a, b, c]);
        assert_eq!(first, settle("x.txt", &[c, b, a]));
        assert_eq!(first[0], (b.id, "x.txt".to_owned()));
        assert_eq!(first[1], (a.id, "x (01010101).txt".to_owned()));
        assert_eq!(first[2], (c.id, "x (03030303).txt".to_owned()));
    }

    #[test]
    fn a_cycle_drops_its_earliest_move() {
        assert_eq!(
            cycle_breaker(&[claim(1, 9), claim(2, 3)]),
            Some(claim(2, 3).id)
        );
        assert_eq!(cycle_breaker(&[]), None);
    }

    #[test]
    fn names_stay_within_the_limit_and_keep_their_extension() {
        let long = format!("{}.tar", "ä".repeat(200));
        let name = conflict_name(&long, "desk/top", &[0xab; 32]);
        assert!(name.len() <= NAME_MAX);
        assert!(name.ends_with(" (conflict desk_top abababab).tar"));
        assert_eq!(
            suffixed(".bashrc", &ItemId::from_bytes([7; 16])),
            ".bashrc (07070707)"
        );
    }
}
