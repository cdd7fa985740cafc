//! Peers that do not tell the truth: every lie ends in an error, with nothing left in the staging folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ownmesh_crypto::{ChunkId, DeviceId};
use ownmesh_node::content::wire::{Ask, Head, Status, list_to_bytes};
use ownmesh_node::content::{ContentRoad, Duplex, FetchError, RoadError, Want, answer};
use ownmesh_node::disk::hash::Chunk;

use crate::MIB;
use crate::kit::{Io, PEER, Side, noise, run};

/// What a liar says to one ask: bytes to send, as often as given.
type Lie = dyn Fn(&Ask, &Side) -> (Vec<u8>, usize) + Send + Sync;

struct Liar {
    truth: Arc<Side>,
    lie: Arc<Lie>,
    sent: Arc<AtomicU64>,
}

impl ContentRoad for Liar {
    fn open<'a>(&'a self, _: &'a DeviceId) -> BoxFuture<'a, Result<Box<dyn Duplex>, RoadError>> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (truth, lie, sent) = (
            Arc::clone(&self.truth),
            Arc::clone(&self.lie),
            Arc::clone(&self.sent),
        );
        tokio::spawn(async move {
            let mut far = Io::new(far);
            loop {
                let mut len = [0; 4];
                far.read_exact(&mut len).await?;
                let mut frame = vec![0; u32::from_be_bytes(len) as usize];
                far.read_exact(&mut frame).await?;
                let (bytes, times) = lie(&Ask::from_bytes(&frame).unwrap(), &truth);
                for _ in 0..times {
                    far.write_all(&bytes).await?;
                    sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
            }
            #[expect(unreachable_code, reason = "gives the block its error type")]
            Ok::<(), std::io::Error>(())
        });
        Box::pin(async { Ok(Box::new(Io::new(near)) as Box<dyn Duplex>) })
    }
}

fn truth(ask: &Ask, side: &Side) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut send = |more: &[u8]| {
        bytes.extend_from_slice(more);
        true
    };
    answer::answer(ask, &PEER, &*side.source(), &mut send).unwrap();
    bytes
}

/// Fetches a small and a large file from a liar; the error of each and the bytes the liar got rid of.
fn ask_liar(
    lie: impl Fn(&Ask, &Side) -> (Vec<u8>, usize) + Send + Sync + 'static,
) -> (Vec<FetchError>, u64) {
    let theirs = Side::new();
    theirs.write("large", &noise(1, 8 * MIB));
    theirs.write("small", &noise(2, 5000));
    let mut wants: Vec<Want> = theirs.scan();
    wants.sort_by_key(|want| want.size);
    let ours = Side::new();
    let liar = Liar {
        truth: Arc::new(theirs),
        lie: Arc::new(lie),
        sent: Arc::default(),
    };
    let ours = ours.impatient(std::time::Duration::from_millis(300));
    let errors = run(ours.fetch_from(&liar, wants))
        .into_iter()
        .filter_map(|fetched| fetched.result.err())
        .collect();
    let left: Vec<String> = ours
        .staged_names()
        .into_iter()
        .filter(|name| name != "small")
        .collect();
    assert_eq!(left, Vec::<String>::new(), "left in the staging folder");
    (errors, liar.sent.load(Ordering::Relaxed))
}

fn flip(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

fn head(n: u32, status: Status, len: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Head { n, status, len }.to_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Security test 68.
#[test]
fn wrong_bytes() {
    let (errors, _) = ask_liar(|ask, side| {
        let bytes = truth(ask, side);
        match ask {
            Ask::List { .. } => (bytes, 1),
            _ => (flip(bytes, Head::LEN + 4000), 1),
        }
    });
    assert!(
        matches!(errors[..], [FetchError::Mismatch, FetchError::Mismatch]),
        "{errors:?}"
    );
}

#[test]
fn a_wrong_list_of_the_right_length() {
    let (errors, _) = ask_liar(|ask, side| match ask {
        Ask::List { n, .. } => {
            let chunk = Chunk {
                id: ChunkId::from_bytes([1; 32]),
                len: 1 << 20,
            };
            let list = list_to_bytes(&[chunk; 8]);
            (head(*n, Status::Last, list.len() as u32, &list), 1)
        }
        _ => (truth(ask, side), 1),
    });
    assert!(matches!(errors[..], [FetchError::Mismatch]), "{errors:?}");
}

#[test]
fn the_list_of_another_content() {
    // Every chunk is what the list says, the whole is not what the log says.
    let (errors, _) = ask_liar(|ask, side| {
        let other = noise(3, 8 * MIB);
        match ask {
            Ask::List { n, .. } => {
                let chunks: Vec<Chunk> = other
                    .chunks(MIB)
                    .map(|bytes| Chunk {
                        id: crate::kit::secret().chunk_id(bytes),
                        len: bytes.len() as u32,
                    })
                    .collect();
                let list = list_to_bytes(&chunks);
                (head(*n, Status::Last, list.len() as u32, &list), 1)
            }
            Ask::Chunks { parts, .. } => {
                let mut out = Vec::new();
                for part in parts {
                    let bytes = &other[part.offset as usize..][..part.len as usize];
                    let pieces: Vec<&[u8]> = bytes.chunks(1 << 19).collect();
                    for (at, piece) in pieces.iter().enumerate() {
                        let status = if at + 1 == pieces.len() {
                            Status::Last
                        } else {
                            Status::More
                        };
                        out.extend(head(part.n, status, piece.len() as u32, piece));
                    }
                }
                (out, 1)
            }
            Ask::Files { .. } => (truth(ask, side), 1),
        }
    });
    assert!(matches!(errors[..], [FetchError::Mismatch]), "{errors:?}");
}

#[test]
fn an_endless_list() {
    let (errors, sent) = ask_liar(|ask, side| match ask {
        Ask::List { n, .. } => (head(*n, Status::More, 3600, &[7; 3600]), usize::MAX),
        _ => (truth(ask, side), 1),
    });
    assert!(matches!(errors[..], [FetchError::Mismatch]), "{errors:?}");
    assert!(sent < MIB as u64, "{sent} bytes were taken");
}

#[test]
fn an_answer_too_long_too_short_or_to_nothing() {
    for lie in [
        (|n| head(n, Status::Last, 5001, &[7; 5001])) as fn(u32) -> Vec<u8>,
        |n| head(n + 1, Status::Last, 0, &[]),
        |n| head(n, Status::Last, u32::MAX, &[]),
        |n| head(n, Status::More, 0, &[]),
        |n| {
            [
                head(n, Status::Last, 4999, &[7; 4999]),
                head(n, Status::Last, 1, &[7]),
            ]
            .concat()
        },
    ] {
        let (errors, _) = ask_liar(move |ask, _| (lie(ask.numbers()[0]), 1));
        assert!(
            errors.len() == 2 && matches!(errors[0], FetchError::Mismatch),
            "{errors:?}"
        );
    }
}

#[test]
fn silence() {
    let (errors, _) = ask_liar(|_, _| (vec![], 0));
    assert!(
        matches!(errors[..], [FetchError::TimedOut, FetchError::TimedOut]),
        "{errors:?}"
    );
    // And after the list, in the middle of a head.
    let (errors, _) = ask_liar(|ask, side| match ask {
        Ask::Chunks { .. } => (truth(ask, side)[..5].to_vec(), 1),
        _ => (truth(ask, side), 1),
    });
    assert!(matches!(errors[..], [FetchError::TimedOut]), "{errors:?}");
}
