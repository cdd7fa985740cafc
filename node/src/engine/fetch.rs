//! Contents on their way: from whom each is asked for, what came, and when it is asked for again.
//!
//! Fetches run beside everything else, since they only write below `.mesh/tmp`. What is staged there
//! is bounded (`Portions::ready`), and under the name of a staged file nothing of the user's ever stands.

use std::collections::BTreeMap;

use ownmesh_crdt::item::Content;
use ownmesh_crypto::{ContentHash, DeviceId, ItemId};
use ownmesh_tiering::chunker::ONE_CHUNK;

use super::ignoring::{Verdict, verdict};
use super::plan::{self, Next, Wanted};
use super::registry::name_of;
use super::space::{DISK, RETRY};
use super::{Effect, Engine, Job, Now, Space};
use crate::content::staging;
use crate::db::{DbError, base, items};
use crate::disk::hash::Chunk;
use crate::disk::{Meta, trash};

/// One content to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Entry it is for.
    pub id: ItemId,
    /// Its name.
    pub hash: ContentHash,
    /// Its length.
    pub size: u64,
    /// File to write below `.mesh/tmp`.
    pub staged: String,
    /// Mode and mtime the file is to have.
    pub mode: u32,
    /// ns.
    pub mtime: i64,
}

/// How a fetch of one content ended.
#[derive(Clone, Debug)]
pub struct WantResult {
    /// Entry it was for.
    pub id: ItemId,
    /// Its file as it lies staged, and its chunk list if it is large; or why not.
    pub done: Result<(Meta, Vec<Chunk>), Missed>,
}

/// Why a content was not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The device does not have it (any more).
    Absent,
    /// The device cannot give it at this moment: its file is being changed, or it is busy.
    Later,
    /// The connection ended; another device, or the same later, may do.
    Lost,
    /// This disk has no room.
    NoSpace,
    /// This disk failed.
    Disk(String),
    /// What came was not what was asked for.
    Wrong(String),
}

/// A group of contents on their way.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) device: DeviceId,
    pub(super) wants: Vec<(Want, ItemId)>,
    pub(super) bytes: u64,
}

impl Fetch {
    pub(super) fn hashes(&self) -> impl Iterator<Item = &ContentHash> {
        self.wants.iter().map(|(want, _)| &want.hash)
    }
}

/// A content that is here.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// Item whose plan it belongs to.
    pub(super) item: ItemId,
    pub(super) hash: ContentHash,
    pub(super) staged: String,
    pub(super) meta: Meta,
    pub(super) chunks: Vec<Chunk>,
}

/// Bytes in one fetch, unless a single content is larger.
pub(super) const FETCH_BYTES: u64 = 16 << 20;
/// Fetches under way per space.
pub(super) const FETCHES: usize = 4;
/// How long after a broken stream the same device is asked again, ms.
const LOST: u64 = 300;
/// How long a device that did not have a content is not asked for it again, ms.
pub(super) const ABSENT: u64 = 5_000;

/// How long nothing is asked for that is as large as what the disk had no room for, ms, and how often that
/// is doubled. A file that is deleted to make room tells nobody.
const FULL: (u64, u32) = (5 * RETRY, 2);
/// The same of anything, after the disk failed otherwise.
const FAILED: (u64, u32) = (RETRY, 4);

/// The disk did not take a content: others of its size would be fetched in vain.
#[derive(Debug)]
pub(super) struct NoRoom {
    size: u64,
    times: u32,
    pub(super) until: u64,
}

impl NoRoom {
    /// What holds after one more content was not taken.
    fn again(before: Option<&Self>, size: u64, (first, doubles): (u64, u32), now: u64) -> Self {
        match before {
            Some(before) if now < before.until => Self {
                size: size.min(before.size),
                ..*before
            },
            before => {
                let times = before.map_or(0, |b| (b.times + 1).min(doubles));
                Self {
                    size,
                    times,
                    until: now + (first << times),
                }
            }
        }
    }
}

/// How names of staged files begin. None but ours ever stands under such a name.
const STAGED: &str = "s-";

/// A new name below `.mesh/tmp` for a content of an entry. Each try has its own, as what an earlier one
/// left may still be on its way out; the part of a large content that it kept is found all the same.
fn staged_name(hash: &ContentHash, id: &ItemId, number: u64) -> String {
    format!("{}~{number}", stem(hash, id))
}

fn stem(hash: &ContentHash, id: &ItemId) -> String {
    let short: String = hash.to_string().chars().take(16).collect();
    format!("{STAGED}{short}-{id}")
}

/// The name of what an unfinished fetch may have kept.
pub(super) fn part_name(hash: &ContentHash, id: &ItemId) -> String {
    staging::part_name(&stem(hash, id))
}

pub(super) fn is_staged(name: &str) -> bool {
    name.starts_with(STAGED)
}

/// The entry that the part of an unfinished fetch is for.
pub(super) fn part_of(name: &str) -> Option<ItemId> {
    let (_, rest) = name.strip_prefix(STAGED)?.split_once('-')?;
    rest.strip_suffix(".part")?.parse().ok()
}

impl Space {
    fn not_taken(&mut self, size: u64, pause: (u64, u32), reason: String, now: Now) {
        self.problem("", DISK, reason, now.wall);
        let until = NoRoom::again(self.no_room.as_ref(), size, pause, now.mono);
        let at = self.retry_at.map_or(until.until, |at| at.min(until.until));
        self.retry_at = Some(at);
        self.no_room = Some(until);
    }
}

impl Engine {
    /// While the disk is busy: asks for the contents of what comes next, so that the network does
    /// not wait for flushes. Items that need no content are put aside for the next pass.
    pub(super) fn fetch_ahead(&mut self, n: i64) -> Result<(), DbError> {
        let portions = self.portions;
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let slots = FETCHES.saturating_sub(space.fetching.len());
        let room = (slots * portions.fetch).min(portions.ready.saturating_sub(space.ready.len()));
        let mut bytes_left = slots as u64 * FETCH_BYTES;
        if room < portions.fetch {
            return Ok(());
        }
        self.load_queue(n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let known = &self.registry;
        let names = |d: &DeviceId| name_of(known, d);
        let mut wants = Vec::new();
        for _ in 0..portions.turn {
            if wants.len() >= room || bytes_left == 0 {
                break;
            }
            let Some(item) = space.queue.pop_front() else {
                break;
            };
            if space.rests(&item, self.seen_at.mono) {
                space.queued.remove(&item);
                continue;
            }
            let sides = plan::sides(self.db.read(), n, &item, &space.secret, &names)?;
            let before = wants.len();
            let rules = &space.ignoring.rules;
            let free = verdict(self.db.read(), n, rules, &sides)? == Verdict::Free;
            for next in plan::next(&sides).into_iter().filter(|_| free) {
                if let Next::Make(wanted) | Next::Replace(_, wanted) = next {
                    let file = matches!(wanted.content, Some(Content::File { .. }));
                    if file
                        && !space.ready.contains_key(&wanted.id)
                        && !space.underway.contains(&wanted.id)
                    {
                        bytes_left = bytes_left.saturating_sub(wanted.bytes());
                        wants.push((item, wanted));
                    }
                }
            }
            if wants.len() == before {
                space.steps.push_back(item);
            } else {
                space.queued.remove(&item);
            }
        }
        self.start_fetches(n, wants);
        Ok(())
    }

    pub(super) fn start_fetches(&mut self, n: i64, wants: Vec<(ItemId, Wanted)>) {
        if wants.is_empty() {
            return;
        }
        let Some(id) = self.spaces.get(&n).map(|s| s.row.id) else {
            return;
        };
        let holders = self.listeners(&id);
        let most = self.portions.fetch;
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        let wall_ns = self.seen_at.wall.saturating_mul(1_000_000);
        let mut groups: BTreeMap<DeviceId, Vec<Fetch>> = BTreeMap::new();
        for (item, wanted) in wants {
            let Some(Content::File { size, hash }) = wanted.content else {
                continue;
            };
            let full = space.no_room.as_ref();
            if full.is_some_and(|f| size >= f.size && self.seen_at.mono < f.until) {
                continue;
            }
            let from = holders
                .iter()
                .copied()
                .find(|d| !space.absent.contains_key(&(*d, hash)));
            // Nobody to ask: this disk itself may hold the bytes; the device then only names the job.
            let here = || {
                space.kept.contains(&trash::front(&hash))
                    || holders.is_empty()
                        && base::holding(self.db.read(), n, &hash, 1).is_ok_and(|b| !b.is_empty())
            };
            let own = !space.absent.contains_key(&(self.device, hash));
            let from = from.or_else(|| (own && here()).then_some(self.device));
            let Some(device) = from else { continue };
            if !space.underway.insert(wanted.id) {
                continue;
            }
            space.staged += 1;
            let staged = staged_name(&hash, &wanted.id, space.staged);
            let want = Want {
                id: wanted.id,
                hash,
                size,
                staged,
                mode: wanted.mode,
                mtime: wanted.mtime.unwrap_or(wall_ns),
            };
            let list = groups.entry(device).or_default();
            let full = list
                .last()
                .is_none_or(|f| f.wants.len() >= most || f.bytes >= FETCH_BYTES);
            if full {
                list.push(Fetch {
                    device,
                    wants: Vec::new(),
                    bytes: 0,
                });
            }
            if let Some(fetch) = list.last_mut() {
                fetch.bytes += size;
                fetch.wants.push((want, item));
            }
        }
        for fetch in groups.into_values().flatten() {
            let job = self.next_job();
            let wants = fetch.wants.iter().map(|w| w.0.clone()).collect();
            self.effects.push(Effect::Fetch {
                space: n,
                job,
                device: fetch.device,
                wants,
            });
            if let Some(space) = self.spaces.get_mut(&n) {
                space.fetching.insert(job, fetch);
            }
        }
    }

    /// Contents arrived, or not.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        results: Vec<WantResult>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let Some(fetch) = space.fetching.remove(&job) else {
            return Ok(());
        };
        let mut trouble = Vec::new();
        for ((want, item), result) in fetch.wants.into_iter().zip(results) {
            match result.done {
                Ok((meta, chunks)) => {
                    space.staged_for.insert((item, want.id));
                    space.begun.remove(&(item, want.id));
                    space.denied.came(&want.hash);
                    space.no_room.take_if(|full| want.size >= full.size);
                    let before = space.ready.insert(
                        want.id,
                        Ready {
                            item,
                            hash: want.hash,
                            staged: want.staged,
                            meta,
                            chunks,
                        },
                    );
                    space.unwanted.extend(before.map(|b| b.staged));
                    if space.queued.insert(item) {
                        space.steps.push_back(item);
                    }
                }
                Err(missed) => {
                    space.underway.remove(&want.id);
                    if want.size > ONE_CHUNK as u64 {
                        let before = space.begun.insert((item, want.id), want.hash);
                        let other = before.filter(|hash| *hash != want.hash);
                        space
                            .unwanted
                            .extend(other.map(|hash| part_name(&hash, &want.id)));
                    }
                    match missed {
                        Missed::Lost => {
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + LOST);
                        }
                        Missed::Absent | Missed::Later => {
                            if missed == Missed::Absent {
                                let (hash, device) = (want.hash, fetch.device);
                                space.denied.said(hash, device, item, now.mono);
                            }
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + ABSENT);
                        }
                        Missed::Wrong(reason) => {
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + 12 * ABSENT);
                            trouble.push(reason);
                        }
                        Missed::NoSpace => {
                            let path = items::shown_path(self.db.read(), n, &item)?;
                            let path = path.unwrap_or_else(|| item.to_string());
                            let reason = format!("no room left on the disk for {path}");
                            space.not_taken(want.size, FULL, reason, now);
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + FULL.0);
                        }
                        Missed::Disk(reason) => {
                            space.not_taken(0, FAILED, reason, now);
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + ABSENT);
                        }
                    }
                }
            }
        }
        space.again = true;
        for reason in trouble {
            let name = self.device_name(&fetch.device);
            self.trouble(
                "content",
                format!("{name} sent wrong content: {reason}"),
                now,
            );
        }
        Ok(())
    }
}
