//! The chunker's promises: one way to cut, limits kept, changes stay local, and the same cuts in every version.

#![allow(clippy::unwrap_used)] // in helpers outside test functions a failure is as loud

use ownmesh_tiering::chunker::{Cutter, EASY_BITS, HARD_BITS, MAX, MIN, NORMAL, ONE_CHUNK};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

/// Bytes nobody can compress or predict, the same in every run.
fn noise(mut state: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Cuts with the whole file at hand.
fn cut(cutter: &mut Cutter, data: &[u8]) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut rest = data;
    while let Some(len) = cutter.next(rest, true) {
        cuts.push(len);
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    cuts
}

/// Cuts as a reader does, with blocks of the given sizes over and over; the end is told with the last block or behind it.
fn cut_in_blocks(
    cutter: &mut Cutter,
    data: &[u8],
    blocks: &[usize],
    eof_with_last: bool,
) -> Vec<usize> {
    let mut cuts = Vec::new();
    let (mut start, mut end, mut n) = (0, 0, 0);
    loop {
        let eof = end == data.len() && (eof_with_last || n > 0);
        match cutter.next(&data[start..end], eof) {
            Some(len) => {
                cuts.push(len);
                start += len;
                if eof && start == end {
                    return cuts;
                }
            }
            None if eof => return cuts,
            None => {
                end = (end + blocks[n % blocks.len()]).min(data.len());
                n += 1;
            }
        }
    }
}

/// The rule as docs/format/chunks.md words it, byte by byte, with the table taken from the cutter's own behaviour: every
/// prefix that is long enough is tested by hashing its last 64 bytes anew.
fn cut_by_the_book(table: &[u64; 256], data: &[u8]) -> Vec<usize> {
    let mut cuts = Vec::new();
    let mut rest = data;
    if rest.len() <= ONE_CHUNK {
        return if rest.is_empty() {
            cuts
        } else {
            vec![rest.len()]
        };
    }
    while !rest.is_empty() {
        let found = (MIN..=rest.len().min(MAX)).find(|&len| {
            let hash = rest[len - 64..len]
                .iter()
                .fold(0u64, |h, &b| (h << 1).wrapping_add(table[usize::from(b)]));
            let bits = if len < NORMAL { HARD_BITS } else { EASY_BITS };
            hash & (((1u64 << bits) - 1) << (63 - bits)) == 0 || len == MAX
        });
        let len = found.unwrap_or(rest.len());
        cuts.push(len);
        rest = &rest[len..];
    }
    cuts
}

fn table(seed: &[u8; 32]) -> [u64; 256] {
    let mut table = [0; 256];
    for n in 0..256usize {
        let counter = u32::try_from(n / 4).unwrap();
        let hash = ownmesh_crypto::hash(
            ownmesh_crypto::Label::SPACE_CUT,
            &[seed, &counter.to_le_bytes()],
        );
        table[n] = u64::from_le_bytes(hash[n % 4 * 8..][..8].try_into().unwrap());
    }
    table
}

#[test]
fn frozen_cuts() {
    let data = noise(1, 8 << 20);
    let cuts = cut(&mut Cutter::new(&SEED), &data);
    assert_eq!(
        cuts, FROZEN,
        "a changed cut makes every device send every large file again"
    );
    assert_ne!(cuts, cut(&mut Cutter::new(&[8; 32]), &data));
}

const FROZEN: &[usize] = &[
    679455, 200747, 455191, 533913, 432311, 438999, 237466, 552499, 680407, 530383, 491903, 195976,
    554650, 535954, 540783, 759597, 407337, 161037,
];

#[test]
fn the_document_says_what_the_code_does() {
    let table = table(&SEED);
    for (n, len) in [3 << 20, ONE_CHUNK, ONE_CHUNK + 1, (2 << 20) + 77777]
        .into_iter()
        .enumerate()
    {
        let data = noise(100 + n as u64, len);
        assert_eq!(
            cut(&mut Cutter::new(&SEED), &data),
            cut_by_the_book(&table, &data)
        );
    }
}

#[test]
fn small_files_are_one_chunk() {
    let mut cutter = Cutter::new(&SEED);
    assert_eq!(cut(&mut cutter, &[]), Vec::<usize>::new());
    for len in [1, MIN, MIN + 1, ONE_CHUNK - 1, ONE_CHUNK] {
        let data = noise(3, len);
        assert_eq!(cut(&mut cutter, &data), [len]);
        assert_eq!(cut_in_blocks(&mut cutter, &data, &[65536], false), [len]);
    }
    assert!(cut(&mut cutter, &noise(3, ONE_CHUNK + 1)).len() > 1);
}

#[test]
fn bytes_without_a_cut_are_cut_at_the_maximum() {
    let zeros = vec![0; 5 << 20];
    let cuts = cut(&mut Cutter::new(&SEED), &zeros);
    assert_eq!(cuts, [MAX, MAX, 1 << 20]);
}

#[test]
fn the_mean_is_about_half_a_mebibyte() {
    let data = noise(4, 128 << 20);
    let cuts = cut(&mut Cutter::new(&SEED), &data);
    let mean = data.len() / cuts.len();
    assert!((440 << 10..590 << 10).contains(&mean), "{mean}");
    let long = cuts.iter().filter(|&&len| len > 1 << 20).count();
    assert!(
        long * 20 < cuts.len(),
        "{long} of {} above a mebibyte",
        cuts.len()
    );
}

#[test]
fn an_insertion_changes_only_what_is_near() {
    let old = noise(5, 32 << 20);
    let mut cutter = Cutter::new(&SEED);
    let pieces = |cuts: Vec<usize>, data: &[u8]| {
        let mut start = 0;
        cuts.iter()
            .map(|len| {
                start += len;
                data[start - len..start].to_vec()
            })
            .collect::<std::collections::BTreeSet<_>>()
    };
    let known = pieces(cut(&mut cutter, &old), &old);
    let mut worst = 0;
    for n in 0..8 {
        let at = 1_234_567 + n * 3_999_999;
        let mut new = old.clone();
        new.splice(at..at, noise(60 + n as u64, 1 << 20));
        let fresh: usize = pieces(cut(&mut cutter, &new), &new)
            .difference(&known)
            .map(Vec::len)
            .sum();
        worst = worst.max(fresh);
    }
    assert!(
        worst <= 5 << 19,
        "{worst} bytes are new after 1 MiB was inserted"
    );
}

#[test]
fn a_given_up_file_leaves_nothing_behind() {
    let data = noise(6, 3 << 20);
    let mut cutter = Cutter::new(&SEED);
    let want = cut(&mut cutter, &data);
    // Half way into the second chunk of another file.
    let given_up = noise(9, 3 << 20);
    let first = cutter.next(&given_up, false).unwrap();
    assert_eq!(
        cutter.next(&given_up[first..first + MIN + 1000], false),
        None
    );
    cutter.reset();
    assert_eq!(cut(&mut cutter, &data), want);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cuts_do_not_depend_on_the_blocks(
        state: u64,
        len in 0usize..6 << 20,
        blocks in prop::collection::vec(1usize..700_000, 1..6),
        eof_with_last: bool,
        runs in prop::collection::vec((0usize..6 << 20, 1usize..3 << 20), 0..3),
    ) {
        let mut data = noise(state, len);
        for (at, run) in runs {
            let end = len.min(at + run);
            if at < end { data[at..end].fill(0) }
        }
        let mut cutter = Cutter::new(&SEED);
        let whole = cut(&mut cutter, &data);
        // One byte at a time would take too long with tiny blocks throughout; the sum keeps it moving.
        let mut blocks = blocks;
        blocks.push(100_001);
        let streamed = cut_in_blocks(&mut cutter, &data, &blocks, eof_with_last);
        prop_assert_eq!(&whole, &streamed);
        prop_assert_eq!(whole.iter().sum::<usize>(), len);
        if len > ONE_CHUNK {
            let (last, others) = whole.split_last().unwrap();
            prop_assert!(*last <= MAX && others.iter().all(|l| (MIN..=MAX).contains(l)));
        }
    }
}
