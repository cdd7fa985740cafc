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
/// shown under [`suffixed`]. Both stay: a name collision never hides or loses a file. `taken` says
/// whether a live item of the directory claims a name: what somebody called so himself keeps it, and
/// the suffix becomes longer.
pub fn settle(name: &str, claims: &[Claim], taken: &dyn Fn(&str) -> bool) -> Vec<(ItemId, String)> {
    let mut order: Vec<&Claim> = claims.iter().collect();
    order.sort_by_key(|c| (c.since, c.id));
    let mut out = Vec::with_capacity(order.len());
    for (n, claim) in order.into_iter().enumerate() {
        let shown = if n == 0 {
            name.to_owned()
        } else {
            suffixed(name, &claim.id, taken)
        };
        out.push((claim.id, shown));
    }
    out
}

/// Digits of an item's id in a suffix: more where fewer are taken, and after all of them a number.
const TAGS: [usize; 4] = [8, 16, 24, 32];

/// The name that was suffixed, if this may be a suffixed one: whoever takes or frees the one decides
/// about the other. Names that had to be cut are not recognised.
pub fn unsuffixed(name: &str) -> Option<String> {
    let close = name.rfind(')')?;
    let open = name[..close].rfind(" (")?;
    let tag = &name[open + 2..close];
    let (digits, number) = tag.split_once(' ').unwrap_or((tag, ""));
    let is_tag = TAGS.contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (digits.len() == tag.len() || !number.is_empty())
        && number.bytes().all(|b| b.is_ascii_digit());
    let original = format!("{}{}", &name[..open], &name[close + 1..]);
    let at = cut(&original);
    (is_tag && at == open && !original.is_empty()).then_some(original)
}

/// The name of the item that a conflict copy of this name would belong to.
pub fn conflicted(name: &str) -> Option<String> {
    let open = name.rfind(" (conflict ")?;
    let close = open + name[open..].rfind(')')?;
    Some(format!("{}{}", &name[..open], &name[close + 1..]))
}

/// The item of a move cycle whose move is dropped: the one with the lowest operation id.
/// It is shown in the root directory under its own name. Returns `None` for an empty cycle.
pub fn cycle_breaker(cycle: &[Claim]) -> Option<ItemId> {
    cycle.iter().min_by_key(|c| (c.since, c.id)).map(|c| c.id)
}

/// `report.txt` -> `report (1a2b3c4d).txt`, with the first eight hex digits of the item's id; with
/// more of them, and then a number, while somebody called a file of his own so (`taken`). A name that
/// is taken all the same would be fought over by two items for ever.
pub fn suffixed(name: &str, id: &ItemId, taken: &dyn Fn(&str) -> bool) -> String {
    let id = id.to_string();
    let mut n = 0;
    loop {
        let tag = match TAGS.get(n) {
            Some(len) => id[..*len].to_owned(),
            None => format!("{id} {}", n - TAGS.len() + 2),
        };
        let shown = insert_before_extension(name, &format!(" ({tag})"));
        if !taken(&shown) {
            return shown;
        }
        n += 1;
    }
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

/// Where the extension of a name begins.
fn cut(name: &str) -> usize {
    // A leading dot starts a hidden file, not an extension; an extension of over 16 bytes is none.
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 17 => at,
        _ => name.len(),
    }
}

/// Puts a tag before the extension of a name, which is cut where it would become too long.
pub fn insert_before_extension(name: &str, tag: &str) -> String {
    let (stem, extension) = name.split_at(cut(name));
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
        let free = |_: &str| false;
        let first = settle("x.txt", &[a, b, c], &free);
        assert_eq!(first, settle("x.txt", &[c, b, a], &free));
        assert_eq!(first[0], (b.id, "x.txt".to_owned()));
        assert_eq!(first[1], (a.id, "x (01010101).txt".to_owned()));
        assert_eq!(first[2], (c.id, "x (03030303).txt".to_owned()));
    }

    #[test]
    fn a_suffix_gives_way_to_who_is_really_called_so() {
        let (a, b) = (claim(1, 1), claim(2, 2));
        let taken = |name: &str| name == "x (02020202).txt";
        let shown = settle("x.txt", &[a, b], &taken);
        assert_eq!(shown[1].1, "x (0202020202020202).txt");
        for name in ["x (02020202).txt", "x (0202020202020202).txt"] {
            assert_eq!(unsuffixed(name).as_deref(), Some("x.txt"));
        }
        assert_eq!(unsuffixed("x (0202020).txt"), None);
        // Whatever they are called, one name is free.
        let all = std::cell::RefCell::new(Vec::<String>::new());
        for _ in 0..8 {
            let taken = |name: &str| all.borrow().iter().any(|n| n == name);
            let shown = settle("x.txt", &[a, b], &taken)[1].1.clone();
            assert!(!taken(&shown));
            assert_eq!(unsuffixed(&shown).as_deref(), Some("x.txt"), "{shown}");
            all.borrow_mut().push(shown);
        }
        assert_eq!(
            all.borrow()[4],
            "x (02020202020202020202020202020202 2).txt"
        );
        assert_eq!(unsuffixed("dir (02020202)").as_deref(), Some("dir"));
        assert_eq!(unsuffixed(" (02020202)"), None);
        assert_eq!(
            conflicted("x (conflict desk (2) abababab).txt").as_deref(),
            Some("x.txt")
        );
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
            suffixed(".bashrc", &ItemId::from_bytes([7; 16]), &|_| false),
            ".bashrc (07070707)"
        );
    }
}
