//! The pairing window of the device that lets another one in.
//!
//! `pair::SponsorSession` counts attempts and time; here its requests meet the registry. The new
//! device's admission is signed only after it has proven ticket or code and, unless the user said
//! that is enough, after the words were typed. It is durable before it is handed over, so that a
//! device which has committed is never a stranger after a crash on this side.

use std::time::{Duration, Instant};

use ownmesh_crypto::RootKeys;
use ownmesh_crypto::pairing::{self, Enrollment, JoinRequest};
use ownmesh_crypto::registry::{self, By, JoinPath, MAX_DEVICES, MAX_NAME};
use tokio::sync::mpsc;

use super::registry::seconds;
use super::{Effect, Engine, Now};
use crate::command::{CommandError, PairEvent};
use crate::net::PairStream;
use crate::pair::{SponsorEffect, SponsorSession, WINDOW_TIME};

/// An open window and who watches it.
pub(super) struct Window {
    session: SponsorSession,
    events: mpsc::Sender<PairEvent>,
    /// With the password given: signs the admission in this device's place.
    root: Option<RootKeys>,
    /// When the session has something to do.
    pub(super) until: u64,
}

/// When windows closed at whose code somebody guessed in vain, milliseconds as [`Now::mono`]. In
/// memory: a restart of the node is not in a stranger's hands.
#[derive(Debug, Default)]
pub(super) struct Guessed(Vec<u64>);

impl Guessed {
    /// Whether there were so many that the next window has no code.
    fn too_often(&mut self, now: Now) -> bool {
        self.0.retain(|at| now.mono < at + HOUR);
        self.0.len() >= GUESSED_MAX
    }
}

/// Windows an hour that may be guessed at. With three guesses each that is one in 66,000.
const GUESSED_MAX: usize = 5;
/// What they are counted over, milliseconds.
const HOUR: u64 = 3_600_000;

impl Engine {
    fn instant(&self, now: Now) -> Instant {
        self.identity.origin + Duration::from_millis(now.mono)
    }

    /// Opens a window; what happens at it goes to `events`.
    ///
    /// # Errors
    /// One is open already, or this device may not admit others and no root key is given, or the
    /// mesh is full.
    pub fn open_window(
        &mut self,
        now: Now,
        trust_code: bool,
        root: Option<RootKeys>,
        events: mpsc::Sender<PairEvent>,
    ) -> Result<(), CommandError> {
        if self
            .pairing
            .as_ref()
            .is_some_and(|w| w.session.is_open() && !w.events.is_closed())
        {
            return Err(CommandError::refused("a pairing window is open already")
                .hint("close the other mesh pair first"));
        }
        self.close_window();
        let view = self.registry.view();
        if view.devices.len() >= MAX_DEVICES {
            let names: Vec<&str> = view.devices.values().map(|d| d.name.as_str()).collect();
            return Err(
                CommandError::refused(format!("a mesh has at most {MAX_DEVICES} devices"))
                    .hint(names.join(", ")),
            );
        }
        if root.is_none() && !view.devices.get(&self.device).is_some_and(|d| d.may_add) {
            return Err(CommandError::refused("this device may not let others in").hint(
                "run mesh pair on the device that may, mesh devices shows which; or --password-file F",
            ));
        }
        let at = self.instant(now);
        let mut window = pairing::Window::new(view.mesh_id, &mut *self.rng);
        if self.guessed.too_often(now) {
            window.code = None;
        }
        let session = SponsorSession::open(window, self.identity.keys.clone(), trust_code, at);
        let hints = (self.identity.hints)();
        let addresses = hints.clone();
        let (Some(Ok(ticket)), Some(advert)) = (session.ticket(hints), session.advert()) else {
            return Err(CommandError::failed("the ticket could not be made"));
        };
        let text = ticket
            .format()
            .map_err(|e| CommandError::failed(e.to_string()))?;
        self.write_down(
            "window-opened",
            None,
            None,
            "a window for a new device was opened",
        );
        drop(events.try_send(PairEvent::Window {
            code: session.code().map(|code| code.format().to_string()),
            ticket: text.to_string(),
            expires_in_s: WINDOW_TIME.as_secs(),
            addresses,
        }));
        self.pairing = Some(Window {
            session,
            events,
            root,
            until: 0,
        });
        self.set_alarm();
        self.effects.push(Effect::OpenWindow { advert });
        Ok(())
    }

    /// Notes when the open window wants to be looked at.
    fn set_alarm(&mut self) {
        let origin = self.identity.origin;
        if let Some(window) = &mut self.pairing
            && let Some(at) = window.session.deadline()
        {
            let after = at.saturating_duration_since(origin).as_millis();
            window.until = u64::try_from(after).unwrap_or(u64::MAX);
        }
    }

    /// The keyslots, as they lie in the home.
    pub(crate) fn keyslots(&self) -> Vec<Vec<u8>> {
        self.identity.keyslots.clone()
    }

    /// Closes the window, if one is open.
    pub fn close_window(&mut self) {
        if let Some(window) = self.pairing.take() {
            if window.session.was_guessed_at_in_vain() {
                self.guessed.0.push(self.seen_at.mono);
            }
            drop(window.events.try_send(PairEvent::Closed {}));
            self.effects.push(Effect::CloseWindow);
        }
    }

    /// The user typed the words.
    ///
    /// # Errors
    /// No window is open.
    pub fn confirm_words(&mut self, words: &str) -> Result<(), CommandError> {
        let Some(window) = &mut self.pairing else {
            return Err(
                CommandError::refused("no pairing window is open").hint("open one with: mesh pair")
            );
        };
        let effects = window.session.confirm_words(words);
        self.pair_effects(effects);
        Ok(())
    }

    /// A frame came from somebody unknown.
    pub fn pair_frame(&mut self, now: Now, stream: PairStream, remote: [u8; 32], bytes: &[u8]) {
        let at = self.instant(now);
        let Some(window) = &mut self.pairing else {
            return;
        };
        let effects = window
            .session
            .handle_frame(at, &mut *self.rng, stream, remote, bytes);
        self.seen_at = now;
        self.pair_effects(effects);
    }

    /// A pairing stream is gone.
    pub fn pair_closed(&mut self, now: Now, stream: PairStream) {
        let Some(window) = &mut self.pairing else {
            return;
        };
        let effects = window.session.handle_closed(stream);
        self.seen_at = now;
        self.pair_effects(effects);
    }

    /// Closes a window whose time is up or whose watcher went away.
    pub(super) fn close_expired(&mut self, now: Now) {
        let at = self.instant(now);
        self.seen_at = now;
        let Some(window) = &mut self.pairing else {
            return;
        };
        if window.events.is_closed() {
            self.close_window();
            return;
        }
        let effects = window.session.handle_time(at);
        self.pair_effects(effects);
    }

    fn pair_effects(&mut self, effects: Vec<SponsorEffect>) {
        self.perform_pairing(effects);
        self.set_alarm();
    }

    fn perform_pairing(&mut self, effects: Vec<SponsorEffect>) {
        for effect in effects {
            let Some(window) = &mut self.pairing else {
                return;
            };
            let tell = |event| drop(window.events.try_send(event));
            match effect {
                SponsorEffect::Send { .. } | SponsorEffect::Close { .. } => {
                    self.effects.push(Effect::Pair(effect));
                }
                SponsorEffect::Joining { name, platform, .. } => {
                    tell(PairEvent::Joining { name, platform });
                }
                SponsorEffect::Word { word } => tell(PairEvent::Word { word }),
                SponsorEffect::AskWords => tell(PairEvent::Confirm {}),
                SponsorEffect::WordsWrong { left } => {
                    tell(PairEvent::Failed {
                        reason: "these are not the words the new device shows".into(),
                        attempts_left: left.into(),
                    });
                    tell(PairEvent::Confirm {});
                }
                SponsorEffect::Failed {
                    why, attempts_left, ..
                } => {
                    tell(PairEvent::Failed {
                        reason: why.to_string(),
                        attempts_left: attempts_left.into(),
                    });
                    let message = format!("somebody tried to join and failed: {why}");
                    self.write_down("pairing-failed", None, None, message);
                }
                SponsorEffect::Done { device } => {
                    let name = self.device_name(&device);
                    self.write_down(
                        "paired",
                        Some(&name),
                        None,
                        format!("{name} was let in here"),
                    );
                    if let Some(window) = &self.pairing {
                        drop(window.events.try_send(PairEvent::Paired { device: name }));
                    }
                }
                SponsorEffect::Closed { .. } => {
                    self.close_window();
                    return;
                }
                SponsorEffect::NeedEnrollment { join, path } => {
                    let answer = match self.admit(&join, path) {
                        Ok(enrollment) => {
                            self.pairing.as_mut().map(|w| w.session.enroll(enrollment))
                        }
                        Err(reason) => {
                            tracing::error!(reason, "the new device could not be admitted");
                            self.close_window();
                            return;
                        }
                    };
                    if let Some(effects) = answer {
                        self.perform_pairing(effects);
                    }
                }
            }
        }
    }

    /// The name it asks for, with a number if another device has that: `laptop-2`.
    fn free_name(&self, join: &JoinRequest) -> String {
        let id = join.card.public.device_id();
        let devices = &self.registry.view().devices;
        let taken = |name: &str| {
            let mut others = devices.iter().filter(|(other, _)| **other != id);
            others.any(|(other, entry)| entry.name == name || other.to_string() == name)
        };
        numbered(&join.name, taken)
    }

    /// Signs a device's admission and gathers what it needs to know.
    fn admit(&mut self, join: &JoinRequest, path: JoinPath) -> Result<Enrollment, String> {
        let at = seconds(self.seen_at);
        let mesh = self.registry.view().mesh_id;
        let keys = self.identity.keys.clone();
        let fail = |e: registry::StatementError| e.to_string();
        let root = self.pairing.as_mut().and_then(|window| window.root.take());
        let by = root.as_ref().map_or(By::Device(&keys), By::Root);
        let name = self.free_name(join);
        let device = registry::device(by, &mesh, &name, &join.platform, &join.card, path, at)
            .map_err(fail)?;
        let mut statements = vec![device.bytes().to_vec()];
        if root.is_some()
            || self
                .registry
                .view()
                .devices
                .get(&self.device)
                .is_some_and(|d| d.may_pass_on)
        {
            let id = join.card.public.device_id();
            statements.push(
                registry::delegation(by, &mesh, id, false, at)
                    .map_err(fail)?
                    .bytes()
                    .to_vec(),
            );
        }
        self.publish(statements).map_err(|e| e.to_string())?;
        let now = self.seen_at;
        self.grant_keys(now).map_err(|e| e.to_string())?;
        Ok(Enrollment {
            mesh_secret: self.mesh.clone(),
            statements: self
                .registry
                .statements()
                .map(|s| s.bytes().to_vec())
                .collect(),
            keyslots: self.identity.keyslots.clone(),
        })
    }
}

/// A name that is not taken: the name itself, or else with a number behind it, cut where that is too long.
fn numbered(name: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let room = MAX_NAME - "-99".len();
    let stem = &name[..name.floor_char_boundary(room)];
    let mut names = (2..100).map(|n| format!("{stem}-{n}"));
    // There are fewer devices than numbers.
    names
        .find(|name| !taken(name))
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_device_has_gets_a_number() {
        let long = "ä".repeat(MAX_NAME / 2);
        let taken = ["laptop", "laptop-2", long.as_str()];
        let free = |name: &str| numbered(name, |name| taken.contains(&name));
        assert_eq!(free("desktop"), "desktop");
        assert_eq!(free("laptop"), "laptop-3");
        let cut = free(&long);
        assert!(cut.ends_with("ä-2") && cut.len() <= MAX_NAME, "{cut}");
    }
}
