//! What an engine is told and what it asks for.

use ownmesh_crdt::message::Message;
use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crypto::{ContentHash, DeviceId, ItemId};

use super::fetch::{Want, WantResult};
use super::notice::Notice;
use crate::command::{AddReply, AddRequest, CommandError};
use crate::disk::RelPath;
use crate::disk::perform::{Outcome, Step};
use crate::disk::scan::{Found, Guard, Look, ScanError, ScanReport};
use crate::disk::trash::Front;
use crate::net::PairAdvert;
use crate::pair::SponsorEffect;

/// The time an event is handled at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since some fixed moment; never goes back. Decides everything that waits.
    pub mono: u64,
    /// Unix milliseconds by the wall clock. Only shown, never compared across devices.
    pub wall: i64,
}

/// Number of a job given out in an effect; its result names it.
pub type Job = u64;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A device is connected and has proven who it is.
    PeerUp {
        /// The device.
        device: DeviceId,
        /// Random number of its running process.
        instance: u64,
        /// Road it came by, for people.
        route: &'static str,
        /// Where it was reached.
        address: Option<String>,
    },
    /// A device is gone.
    PeerDown {
        /// The device.
        device: DeviceId,
    },
    /// A connected device said something.
    Message {
        /// The device.
        device: DeviceId,
        /// What it said, undecoded.
        bytes: Vec<u8>,
    },
    /// Differences between disk and base, in the middle of a scan.
    Found {
        /// Space row.
        space: i64,
        /// The scan.
        job: Job,
        /// The differences.
        found: Vec<Found>,
    },
    /// A scan ended.
    Scanned {
        /// Space row.
        space: i64,
        /// The scan.
        job: Job,
        /// How.
        result: Result<ScanReport, ScanError>,
    },
    /// Files are flushed to the disk, or could not be.
    Synced {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// Why not.
        error: Option<String>,
    },
    /// Steps were taken.
    Performed {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// One outcome per step, in order.
        outcomes: Vec<Outcome>,
    },
    /// Contents were fetched, or not.
    Fetched {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// One per want, in order.
        results: Vec<WantResult>,
    },
    /// The watcher saw something.
    Disturbed {
        /// Space row.
        space: i64,
        /// Where; empty: anywhere.
        dirs: Vec<RelPath>,
    },
    /// Files left the trash for good.
    Swept {
        /// Space row.
        space: i64,
        /// Beginnings of the contents that it has no more.
        gone: BTreeSet<Front>,
    },
    /// The folder is watched now, or not all of it.
    Watched {
        /// Space row.
        space: i64,
        /// Why not all of it, in words.
        lacking: Option<String>,
    },
    /// A peer asked for content whose file is no longer what was recorded.
    Superseded {
        /// Space row.
        space: i64,
        /// The file.
        path: RelPath,
    },
    /// A deadline passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Tell a connected device something.
    Send {
        /// The device.
        device: DeviceId,
        /// What.
        message: Message,
    },
    /// These devices belong to the mesh: connect to them, refuse all others.
    Peers,
    /// Take a folder into service: open the disk, watch it.
    Open {
        /// Space row.
        space: i64,
        /// Its folder.
        path: String,
    },
    /// Watch a folder anew, not all of which is watched; [`Event::Watched`] says whether it is now.
    Watch {
        /// Space row.
        space: i64,
        /// Its folder.
        path: String,
    },
    /// Mark the folder that stands there now as the space's; [`super::Engine::marked`] follows.
    Mark {
        /// Space row.
        space: i64,
    },
    /// Leave a folder alone from now on.
    Close {
        /// Space row.
        space: i64,
    },
    /// Neither watch a folder nor give or fetch contents of it until [`Effect::Watch`]; what is under
    /// way on the disk goes on.
    Rest {
        /// Space row.
        space: i64,
    },
    /// Compare disk and base.
    Scan {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// What must be true of the folder.
        guard: Guard,
        /// Which part, and what is not read.
        look: Look,
    },
    /// Flush files to the disk; all of the filesystem's if `files` is empty.
    Sync {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// Which.
        files: Vec<RelPath>,
    },
    /// Take steps on the disk.
    Perform {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// The steps.
        steps: Vec<Step>,
        /// The contents that come to the trash, for their names there.
        replaced: BTreeMap<ItemId, ContentHash>,
    },
    /// Remove staged files that nobody wants any more.
    Discard {
        /// Space row.
        space: i64,
        /// Their names in `.mesh/tmp`.
        staged: Vec<String>,
    },
    /// Remove from the trash what has been kept long enough.
    Sweep {
        /// Space row.
        space: i64,
    },
    /// Fetch contents from a device (or from this disk, where it holds them).
    Fetch {
        /// Space row.
        space: i64,
        /// The job.
        job: Job,
        /// From whom.
        device: DeviceId,
        /// What.
        wants: Vec<Want>,
    },
    /// Tell whoever listens.
    Notice(Notice),
    /// Advertise a pairing window and let strangers knock.
    OpenWindow {
        /// What everybody may see of it.
        advert: PairAdvert,
    },
    /// Close it.
    CloseWindow,
    /// Check a folder and, if all is well, add it; the answer goes to `done`.
    Add {
        /// What was asked.
        request: AddRequest,
        /// Who asked.
        done: tokio::sync::oneshot::Sender<Result<AddReply, CommandError>>,
    },
    /// Send on, or close, a pairing stream.
    Pair(SponsorEffect),
}
