//! A page of a state transfer: documents in order of their ids, each as its changes.
//!
//! A new device, or one that was away for longer than logs are kept, gets the state in pages. Where the
//! logs stand is told with the first page and taken over with the last: what changes between two pages
//! is younger, and comes as batches. The danger guarded against is a document saved whole by somebody
//! else, which automerge could not load safely and nobody could check: a page holds changes, each of
//! which passes the same guard as one out of a batch.

use minicbor::{Decoder, Encoder};
use ownmesh_crypto::ids::{BatchHash, DeviceId, Incarnation, ItemId, KeyId, SpaceId, WriterTag};
use ownmesh_crypto::keys::DeviceKeys;
use ownmesh_crypto::labels::Label;
use ownmesh_crypto::sealed::ObjectKind;
use ownmesh_crypto::space::EpochKey;
use rand::CryptoRng;

use crate::cbor;
use crate::envelope::{self, Envelope, Refused, SUITE, VERSION};
use crate::limits::{MAX_CHANGE, MAX_LOGS, MAX_OPEN, MAX_PAGE_DOCS, MIN_CHANGE};

/// Where a log stands in the transferred state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// The log.
    pub tag: WriterTag,
    /// Whose it is.
    pub device: DeviceId,
    /// In which life.
    pub incarnation: Incarnation,
    /// Its last batch contained in the state.
    pub seq: u64,
    /// That batch's hash, with which the next one has to chain.
    pub hash: BatchHash,
}

/// How far a state has been told: where a page begins. The default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The last item of which everything was told.
    pub after: Option<ItemId>,
    /// How many changes of the next one were.
    pub part: u64,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageBody {
    /// The space.
    pub space: SpaceId,
    /// Who sends its state.
    pub device: DeviceId,
    /// Where the page begins.
    pub begin: Point,
    /// The last item the page speaks for: what lies between and is not in it, the sender does not have.
    ///
    /// If the last document lies beyond it, that one is too large for the page: the next page has the
    /// begins after this one's `upto`, with the same document's further changes ([`PageBody::next`]).
    pub upto: ItemId,
    /// Documents ascending by id, each as its changes in causal order.
    pub docs: Vec<(ItemId, Vec<Vec<u8>>)>,
    /// Whether this is the last page.
    pub last: bool,
    /// On the first page, where each log stands; elsewhere empty.
    pub logs: Vec<LogMark>,
}

impl PageBody {
    /// Where the page behind this one begins.
    #[must_use]
    pub fn next(&self) -> Point {
        let mut next = Point {
            after: Some(self.upto),
            part: 0,
        };
        if let Some((_, changes)) = self.docs.last().filter(|(item, _)| *item > self.upto) {
            let before = if self.docs.len() == 1 {
                self.begin.part
            } else {
                0
            };
            next.part = before.saturating_add(changes.len() as u64);
        }
        next
    }
}

/// Seals and signs a page.
///
/// # Errors
/// If it becomes too large; take fewer documents, or fewer changes of one.
pub fn seal_page<R: CryptoRng + ?Sized>(
    body: &PageBody,
    key: &EpochKey,
    keys: &DeviceKeys,
    rng: &mut R,
) -> Result<Vec<u8>, PageError> {
    if body.docs.len() > MAX_PAGE_DOCS || body.logs.len() > MAX_LOGS {
        return Err(PageError::TooLarge);
    }
    let mut header = vec![VERSION, SUITE];
    header.extend_from_slice(key.id.as_bytes());
    let mut plain = body.device.as_bytes().to_vec();
    plain.extend_from_slice(&envelope::compress(&encode(body))?);
    Ok(PAGE.seal(header, &plain, key, keys, rng)?)
}

/// Opens a page: seal, signature, decompression and parsing within bounds.
///
/// # Errors
/// [`PageError::UnknownKey`] and [`PageError::UnknownSigner`] may pass when more of the registry has arrived.
pub fn open_page(
    bytes: &[u8],
    keys: &dyn Fn(&KeyId) -> Option<EpochKey>,
    signers: &dyn Fn(&DeviceId) -> Option<[u8; 32]>,
    space: &SpaceId,
) -> Result<PageBody, PageError> {
    let parts = PAGE.split(bytes)?;
    let id = KeyId::try_from(&parts.header[2..]).map_err(|_| PageError::Corrupt)?;
    let key = keys(&id).ok_or(PageError::UnknownKey { key: id })?;
    let (device, plain) = PAGE.open(&parts, &key, signers)?;
    let body = decode(&envelope::expand(&plain[16..])?, device).map_err(|_| PageError::Corrupt)?;
    if body.space != *space {
        return Err(PageError::WrongSpace);
    }
    Ok(body)
}

/// Why a page could not be made or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The epoch key has not arrived.
    #[error("the page is sealed with the unknown key {key:?}")]
    UnknownKey {
        /// Its id.
        key: KeyId,
    },
    /// The sender's certificate has not arrived.
    #[error("the page is signed by the unknown device {device:?}")]
    UnknownSigner {
        /// The device it claims.
        device: DeviceId,
    },
    /// The signature is not that of the device named inside.
    #[error("the signature of the page does not hold")]
    BadSignature,
    /// The seal does not open, or what it holds is not readable.
    #[error("the page is damaged")]
    Corrupt,
    /// Beyond the limits on size, open size or count.
    #[error("the page is too large")]
    TooLarge,
    /// Made of another space.
    #[error("the page belongs to another space")]
    WrongSpace,
    /// Made by a newer version.
    #[error("the page has the unknown version {0}")]
    Version(u8),
}

impl From<Refused> for PageError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Version(version) => Self::Version(version),
            Refused::TooLarge => Self::TooLarge,
            Refused::Corrupt => Self::Corrupt,
            Refused::Signer(device) => Self::UnknownSigner { device },
            Refused::Signature => Self::BadSignature,
        }
    }
}

fn encode(body: &PageBody) -> Vec<u8> {
    let mut out = Vec::new();
    let mut e = Encoder::new(&mut out);
    cbor::written((|| {
        e.array(7)?
            .encode(body.space)?
            .encode(body.begin.after)?
            .u64(body.begin.part)?
            .encode(body.upto)?;
        e.array(2 * body.docs.len() as u64)?;
        for (item, changes) in &body.docs {
            e.encode(item)?.array(changes.len() as u64)?;
            for change in changes {
                e.bytes(change)?;
            }
        }
        e.bool(body.last)?.array(5 * body.logs.len() as u64)?;
        for log in &body.logs {
            e.encode(log.tag)?
                .encode(log.device)?
                .encode(log.incarnation)?
                .u64(log.seq)?
                .encode(log.hash)?;
        }
        Ok(())
    })());
    out
}

fn decode(bytes: &[u8], device: DeviceId) -> Result<PageBody, minicbor::decode::Error> {
    let mut d = Decoder::new(bytes);
    let later = cbor::fields(&mut d, 7)?;
    let space = d.decode()?;
    let after: Option<ItemId> = d.decode()?;
    let part = d.u64()?;
    let upto: ItemId = d.decode()?;
    if after.is_some_and(|after| upto < after) {
        return Err(minicbor::decode::Error::message("a page that goes back"));
    }
    let mut docs: Vec<(ItemId, Vec<Vec<u8>>)> = Vec::new();
    let count = cbor::list(&mut d, 2, MAX_PAGE_DOCS)?;
    for _ in 0..count {
        let item: ItemId = d.decode()?;
        let before = docs.last().map(|(last, _)| *last).or(after);
        // Only the last document may lie beyond what the page speaks for: it goes on in the next one.
        let complete = item <= upto || docs.len() as u64 + 1 == count;
        if before.is_some_and(|before| before >= item) || !complete {
            return Err(minicbor::decode::Error::message("documents out of order"));
        }
        let mut changes = Vec::new();
        for _ in 0..cbor::list(&mut d, 1, MAX_OPEN / MIN_CHANGE)? {
            let change = cbor::bytes(&mut d, MAX_CHANGE)?;
            if change.len() < MIN_CHANGE {
                return Err(minicbor::decode::Error::message("too short for a change"));
            }
            changes.push(change);
        }
        docs.push((item, changes));
    }
    let last = d.bool()?;
    let mut logs = Vec::new();
    for _ in 0..cbor::list(&mut d, 5, MAX_LOGS)? {
        logs.push(LogMark {
            tag: d.decode()?,
            device: d.decode()?,
            incarnation: d.decode()?,
            seq: d.u64()?,
            hash: d.decode()?,
        });
    }
    cbor::finish(&mut d, later)?;
    Ok(PageBody {
        space,
        device,
        begin: Point { after, part },
        upto,
        docs,
        last,
        logs,
    })
}

const PAGE: Envelope = Envelope {
    kind: ObjectKind::StatePage,
    label: Label::SIGN_STATE,
    header: 2 + 16,
};
