//! Who belongs to a mesh: a grow-only set of signed statements.
//!
//! ```text
//! bytes -> Statement::parse -> signature -> authority -> accepted -> View
//!                                   \ unknown signer, or not (yet) authorised: pending, tried again when something new arrives
//! ```
//!
//! It is a set, not a chain: two devices may add to it while apart and merge later, and the order in which statements arrive never
//! shows. Authority flows from the root by delegation; a statement whose author lacks it waits and is never believed. What anybody
//! may send is bounded: statement size, number of statements, number pending.

mod body;
mod build;
mod statement;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) use body::check_text;
pub use body::{
    Body, Delegation, Device, Epoch, Genesis, Grants, JoinPath, MAX_NAME, MAX_PLATFORM, Name,
    Recipient, Space, SpaceKind,
};
pub use build::{
    By, GrantError, delegation, device, epoch, genesis, grants, name, open_grant, open_recovery,
    space,
};
pub use statement::{MAX_STATEMENT, Signer, Statement};
pub use view::{DeviceEntry, EpochEntry, SpaceEntry, View};

use crate::hash::{hash, hash16};
use crate::ids::{DeviceId, MeshId, StatementHash};
use crate::labels::Label;

/// Devices a mesh is meant to have at most. Whoever adds one checks it first.
pub const MAX_DEVICES: usize = 32;

/// Spaces a mesh is meant to have at most. Whoever adds one checks it first.
pub const MAX_SPACES: usize = 1024;

/// How often a device may be renamed. Whoever renames one checks it first: names are kept for ever.
pub const MAX_RENAMES: u32 = 64;

/// Statements a registry holds at most.
pub const MAX_STATEMENTS: usize = 4096;

/// Statements kept until their signer is known; beyond it the oldest is dropped, and will be offered again.
pub const MAX_PENDING: usize = 256;

/// Sets are refused only at twice the limit adders keep to, so that additions made apart can still meet.
const SLACK: usize = 2;

/// Why a statement is refused. None is a reason to distrust what is already held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not the bytes of a statement.
    #[error("not a valid statement")]
    Malformed,
    /// More than [`MAX_STATEMENT`] bytes, or more recipients than devices.
    #[error("the statement is too large")]
    TooLarge,
    /// From a newer version.
    #[error("the statement has version {version}, suite {suite}, which this program does not know")]
    UnsupportedVersion {
        /// Its version byte.
        version: u8,
        /// Its suite byte.
        suite: u8,
    },
    /// From a newer version.
    #[error("the statement is of kind {0}, which this program does not know")]
    UnknownKind(u8),
    /// A name that is empty, too long, or has control characters.
    #[error("a name is empty, too long or has control characters")]
    BadName,
    /// The device's keys are not all its own choice, or not usable, or not those of its id.
    #[error("the device's keys do not prove that they belong together")]
    BadCard,
    /// The signature is not the signer's.
    #[error("the statement is not signed by the device it names")]
    BadSignature,
    /// It belongs to another mesh, or is a genesis other than this mesh's.
    #[error("the statement belongs to mesh {0}")]
    OtherMesh(MeshId),
    /// No signature of this kind of signer can make such a statement valid.
    #[error("the root does not sign statements of this kind")]
    NotAllowed,
    /// The registry is full.
    #[error("the registry is full")]
    Full,
    /// A grant to a device that is no member.
    #[error("device {0} is not a member")]
    UnknownRecipient(DeviceId),
}

/// What became of a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// Accepted. Pending ones may have become acceptable with it: everything new stands at the end of
    /// [`Registry::statements`], from the index that [`Registry::len`] had before.
    New,
    /// Already held.
    Known,
    /// Kept aside: its signer is unknown, or not entitled as far as is known here. Not believed, not counted, not passed on.
    Pending,
}

/// The statements of one mesh and what they amount to.
#[derive(Clone, Debug)]
pub struct Registry {
    accepted: Vec<Statement>,
    by_hash: BTreeMap<StatementHash, usize>,
    pending: VecDeque<Statement>,
    view: View,
}

impl Registry {
    /// Starts from a genesis. Compare [`View::mesh_id`] with the mesh you mean: any genesis is the start of some mesh.
    pub fn new(genesis_bytes: &[u8]) -> Result<Self, StatementError> {
        let statement = Statement::parse(genesis_bytes)?;
        let Body::Genesis(genesis) = statement.body() else {
            return Err(StatementError::Malformed);
        };
        statement
            .verify(&genesis.root_public)
            .map_err(|_| StatementError::BadSignature)?;
        Ok(Self {
            view: View::new(genesis, statement.mesh_id()),
            by_hash: BTreeMap::from([(statement.hash(), 0)]),
            accepted: vec![statement],
            pending: VecDeque::new(),
        })
    }

    /// Takes a statement in, in any order.
    ///
    /// Persist after [`Inserted::New`]; a pending statement need not be kept, whoever holds its signer's admission has it too.
    pub fn insert(&mut self, bytes: &[u8]) -> Result<Inserted, StatementError> {
        if self.by_hash.contains_key(&StatementHash::of(bytes)) {
            return Ok(Inserted::Known);
        }
        let statement = Statement::parse(bytes)?;
        match self.judge(&statement)? {
            Verdict::Accept => {
                let opens_doors = matches!(statement.body(), Body::Device(_) | Body::Delegation(_));
                self.accept(statement);
                if opens_doors {
                    self.retry_pending();
                }
                Ok(Inserted::New)
            }
            Verdict::Wait => {
                self.keep_pending(statement);
                Ok(Inserted::Pending)
            }
        }
    }

    /// The accepted statements, genesis first, each after those it rests on.
    pub fn statements(&self) -> impl ExactSizeIterator<Item = &Statement> + DoubleEndedIterator {
        self.accepted.iter()
    }

    /// How many are accepted; never zero.
    #[allow(clippy::len_without_is_empty, reason = "the genesis is always there")]
    pub fn len(&self) -> usize {
        self.accepted.len()
    }

    /// How many wait for their signer.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// An accepted statement.
    pub fn get(&self, hash: &StatementHash) -> Option<&Statement> {
        self.by_hash.get(hash).map(|&index| &self.accepted[index])
    }

    /// The hashes of the accepted statements, ascending.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = StatementHash> + '_ {
        self.by_hash.keys().copied()
    }

    /// `SHA-256(label ‖ hashes ascending)`: equal for equal sets, whatever their history.
    pub fn digest(&self) -> [u8; 32] {
        let hashes: Vec<&[u8]> = self
            .by_hash
            .keys()
            .map(|hash| &hash.as_bytes()[..])
            .collect();
        hash(Label::HASH_REGISTRY, &hashes)
    }

    /// Which of a peer's hashes are not accepted here: what to ask it for.
    pub fn missing(&self, theirs: &[StatementHash]) -> Vec<StatementHash> {
        theirs
            .iter()
            .copied()
            .filter(|hash| !self.by_hash.contains_key(hash))
            .collect()
    }

    /// The statements a peer with these hashes lacks, in the order to send them.
    pub fn lacking(&self, theirs: &[StatementHash]) -> impl Iterator<Item = &Statement> {
        let theirs: BTreeSet<StatementHash> = theirs.iter().copied().collect();
        self.accepted
            .iter()
            .filter(move |statement| !theirs.contains(&statement.hash()))
    }

    /// What the accepted statements amount to.
    pub fn view(&self) -> &View {
        &self.view
    }

    fn judge(&self, statement: &Statement) -> Result<Verdict, StatementError> {
        if statement.mesh_id() != self.view.mesh_id || matches!(statement.body(), Body::Genesis(_))
        {
            return Err(StatementError::OtherMesh(statement.mesh_id()));
        }
        let Some(public) = self.view.signing_key(statement.signer()) else {
            return Ok(Verdict::Wait);
        };
        statement
            .verify(public)
            .map_err(|_| StatementError::BadSignature)?;
        if !self.view.authorised(statement.signer(), statement.body()) {
            return match statement.signer() {
                Signer::Root => Err(StatementError::NotAllowed),
                Signer::Device(_) => Ok(Verdict::Wait),
            };
        }
        if self.full_for(statement.body()) {
            return Err(StatementError::Full);
        }
        Ok(Verdict::Accept)
    }

    fn full_for(&self, body: &Body) -> bool {
        let view = &self.view;
        self.accepted.len() >= MAX_STATEMENTS
            || match body {
                Body::Device(body) => {
                    view.devices.len() >= SLACK * MAX_DEVICES
                        && !view.devices.contains_key(&body.device_id)
                }
                Body::Space(body) => {
                    view.spaces.len() >= SLACK * MAX_SPACES
                        && !view.spaces.contains_key(&body.space_id)
                }
                _ => false,
            }
    }

    fn accept(&mut self, statement: Statement) {
        self.view.apply(&statement);
        self.by_hash.insert(statement.hash(), self.accepted.len());
        self.accepted.push(statement);
    }

    fn keep_pending(&mut self, statement: Statement) {
        if self
            .pending
            .iter()
            .any(|other| other.hash() == statement.hash())
        {
            return;
        }
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(statement);
    }

    /// Accepts what has become acceptable until nothing more does; drops what has turned out forged.
    fn retry_pending(&mut self) {
        loop {
            let before = self.accepted.len();
            for statement in std::mem::take(&mut self.pending) {
                match self.judge(&statement) {
                    Ok(Verdict::Accept) => self.accept(statement),
                    Ok(Verdict::Wait) => self.pending.push_back(statement),
                    Err(_) => {}
                }
            }
            if self.accepted.len() == before {
                return;
            }
        }
    }
}

enum Verdict {
    Accept,
    Wait,
}

/// `SHA-256(label ‖ genesis)[..16]`: the mesh's name certifies its root.
fn mesh_id_of(genesis: &[u8]) -> MeshId {
    MeshId::from_bytes(hash16(Label::HASH_MESH_ID, &[genesis]))
}
