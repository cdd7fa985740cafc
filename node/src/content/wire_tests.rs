//! Tests of the messages: frozen bytes, round trips, foreign bytes.

use super::*;

fn ask_files(count: usize) -> Ask {
    let want = |n: usize| WantFile {
        n: u32::try_from(n).unwrap(),
        hash: ContentHash::from_bytes([7; 32]),
    };
    Ask::Files {
        space: SpaceId::from_bytes([1; 16]),
        wants: (0..count).map(want).collect(),
    }
}

fn ask_parts(parts: Vec<Part>) -> Ask {
    Ask::Chunks {
        space: SpaceId::from_bytes([1; 16]),
        hash: ContentHash::from_bytes([2; 32]),
        parts,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64: the same foreign bytes in every run.
fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn the_bytes_are_those_of_the_document() {
    let space = SpaceId::from_bytes([1; 16]);
    let hash = ContentHash::from_bytes([2; 32]);
    let (one, two) = ("01".repeat(16), "02".repeat(32));
    let list = Ask::List { n: 5, space, hash }.to_frame().unwrap();
    assert_eq!(hex(&list), format!("000000378201830550{one}5820{two}"));
    let files = Ask::Files {
        space,
        wants: vec![WantFile { n: 6, hash }],
    }
    .to_frame()
    .unwrap();
    assert_eq!(hex(&files), format!("0000003982008250{one}8182065820{two}"));
    let parts = ask_parts(vec![Part {
        n: 7,
        offset: 300,
        len: 24,
    }])
    .to_frame()
    .unwrap();
    assert_eq!(
        hex(&parts),
        format!("0000003e82028350{one}5820{two}81830719012c1818")
    );
    let head = Head {
        n: 0x0102_0304,
        status: Status::More,
        len: 0x05_0607,
    };
    assert_eq!(hex(&head.to_bytes()), "010203040100050607");
}

#[test]
fn asks_and_heads_round_trip() {
    let far = Part {
        n: u32::MAX,
        offset: 1 << 62,
        len: MAX_PART,
    };
    for ask in [
        ask_files(1),
        ask_files(MAX_ITEMS),
        ask_parts(vec![far; MAX_ITEMS]),
    ] {
        let frame = ask.to_frame().unwrap();
        assert_eq!(
            frame_len(u32::from_be_bytes(frame[..4].try_into().unwrap())),
            Ok(frame.len() - 4)
        );
        assert_eq!(Ask::from_bytes(&frame[4..]), Ok(ask));
    }
    for status in [
        Status::Last,
        Status::More,
        Status::Absent,
        Status::Superseded,
        Status::Busy,
    ] {
        let len = u32::from(matches!(status, Status::Last | Status::More));
        let head = Head { n: 9, status, len };
        assert_eq!(Head::from_bytes(head.to_bytes()), Ok(head));
    }
}

#[test]
fn too_much_is_refused_on_both_sides() {
    assert_eq!(frame_len(0), Err(WireError::FrameLength(0)));
    assert_eq!(frame_len(u32::MAX), Err(WireError::FrameLength(u32::MAX)));
    assert!(frame_len(1 + MAX_FRAME as u32).is_err());
    let part = |offset, len| ask_parts(vec![Part { n: 0, offset, len }]);
    for bad in [
        ask_files(0),
        ask_files(MAX_ITEMS + 1),
        part(0, 0),
        part(0, MAX_PART + 1),
        part(u64::MAX, 1),
        part(i64::MAX as u64, 1),
        ask_parts(vec![]),
    ] {
        assert_eq!(bad.to_frame(), Err(WireError::Bounds));
        assert!(Ask::from_bytes(&minicbor::to_vec(&bad).unwrap()).is_err());
    }
    // A list that says it has four thousand million entries.
    let mut bytes = vec![0x82, 0x00, 0x82, 0x50];
    bytes.extend_from_slice(&[1; 16]);
    bytes.extend_from_slice(&[0x9a, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(Ask::from_bytes(&bytes), Err(WireError::Frame));
    let mut long = ask_files(1).to_frame().unwrap();
    long.push(0);
    assert_eq!(Ask::from_bytes(&long[4..]), Err(WireError::Frame));
}

#[test]
fn heads_that_make_no_sense_are_refused() {
    for (status, len) in [
        (0, MAX_PIECE + 1),
        (1, 0),
        (1, MAX_PIECE + 1),
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 0),
        (255, 0),
    ] {
        let mut bytes = [0; Head::LEN];
        bytes[4] = status;
        bytes[5..].copy_from_slice(&len.to_be_bytes());
        assert_eq!(
            Head::from_bytes(bytes),
            Err(WireError::Head),
            "{status} {len}"
        );
    }
}

#[test]
fn chunk_lists_must_fit_their_content() {
    let chunk = |len| Chunk {
        id: ChunkId::from_bytes([3; 32]),
        len,
    };
    let good = [chunk(2 << 20), chunk(128 << 10), chunk(1)];
    let size = (2 << 20) + (128 << 10) + 1;
    let bytes = list_to_bytes(&good);
    assert!(bytes.len() as u64 <= list_bound(size));
    assert_eq!(list_from_bytes(&bytes, size), Ok(good.to_vec()));
    assert!(
        list_from_bytes(&bytes, size - 1).is_err() && list_from_bytes(&bytes, size + 1).is_err()
    );
    assert!(list_from_bytes(&bytes[1..], size).is_err());
    assert!(list_from_bytes(&[], size).is_err());
    for bad in [
        vec![chunk(0)],
        vec![chunk((2 << 20) + 1)],
        vec![chunk(100), chunk(100)],
    ] {
        let size = bad.iter().map(|chunk| u64::from(chunk.len)).sum();
        assert_eq!(
            list_from_bytes(&list_to_bytes(&bad), size),
            Err(WireError::List)
        );
    }
}

#[test]
fn foreign_bytes_never_panic() {
    let mut state = 1;
    let frame = ask_files(3).to_frame().unwrap();
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = match round % 2 {
            0 => (0..noise(&mut state) % 200)
                .map(|_| noise(&mut state) as u8)
                .collect(),
            _ => frame[4..].to_vec(),
        };
        for _ in 0..noise(&mut state) % 4 {
            let at = noise(&mut state) as usize % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = noise(&mut state) as u8;
            }
        }
        if let Ok(ask) = Ask::from_bytes(&bytes) {
            assert!(ask.to_frame().is_ok() && !ask.numbers().is_empty());
        }
        let _ = list_from_bytes(&bytes, noise(&mut state));
        if let Some(head) = bytes.first_chunk() {
            let _ = Head::from_bytes(*head);
        }
    }
}
