//! The existing device's side of a pairing window, driven by events.
//!
//! Frames and times in, [`SponsorEffect`]s out. Holds the rules that need counting: one pairing at a time, at most
//! [`ATTEMPTS`] attempts, one success, five minutes, half a minute for every answer that needs no person. When any of them is
//! used up the window is dead, and with it the ticket; nothing revives it. Counter and ticket live in this one value, so two joiners
//! cannot both win.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ownmesh_crypto::pairing::{
    Enrollment, JoinRequest, PairError, Sponsor, SponsorOutput, Ticket, TicketError, Window,
    WordsWrong,
};
use ownmesh_crypto::{DeviceId, DeviceKeys, DevicePublic, MeshId};
use rand::CryptoRng;

use super::window_name;
use crate::net::PairStream;

/// Handshakes a ticket allows.
pub const ATTEMPTS: u8 = 5;
/// How long a window is open.
pub const WINDOW_TIME: Duration = Duration::from_secs(300);
/// Ended streams remembered: at most four strangers are connected, each with one.
const ENDED_MAX: usize = 16;
/// How long a message may take that needs no person.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// What the engine does next.
#[derive(Clone, PartialEq, Debug)]
pub enum SponsorEffect {
    /// `NetHandle::pair_send`.
    Send {
        /// On this stream.
        stream: PairStream,
        /// These bytes.
        bytes: Vec<u8>,
    },
    /// `NetHandle::pair_close`.
    Close {
        /// This stream.
        stream: PairStream,
    },
    /// Show who wants to join.
    Joining {
        /// The name it gives itself.
        name: String,
        /// What it says it runs on.
        platform: String,
        /// Its keys.
        public: DevicePublic,
    },
    /// Ask for the words it shows; answer by [`SponsorSession::confirm_words`].
    AskWords,
    /// They were wrong; ask again.
    WordsWrong {
        /// Tries left.
        left: u8,
    },
    /// Sign its admission, keep it pending, and answer by [`SponsorSession::enroll`].
    NeedEnrollment {
        /// What it sent, verified.
        join: JoinRequest,
    },
    /// It has committed: publish, pin, tell.
    Done {
        /// The new device.
        device: DeviceId,
    },
    /// The attempt came to nothing.
    Failed {
        /// Why.
        why: Failure,
        /// Attempts left; none after the window is closed.
        attempts_left: u8,
        /// A device that may hold its enrolment without our knowing: keep its admission pending.
        unconfirmed: Option<DeviceId>,
    },
    /// The window is dead: `NetHandle::close_window`.
    Closed {
        /// Why.
        end: WindowEnd,
    },
}

/// Why an attempt failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The other side broke the protocol or has another ticket.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// The words typed were wrong twice.
    #[error("the words were wrong")]
    Words,
    /// It went away.
    #[error("the other device went away")]
    Gone,
    /// It did not answer in time.
    #[error("the other device did not answer in time")]
    Slow,
    /// The window was closed.
    #[error("the window was closed")]
    Closed,
}

/// Why a window ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WindowEnd {
    /// A device came in.
    Used,
    /// All attempts are used up, or the words were wrong.
    Attempts,
    /// Five minutes are over.
    Expired,
    /// The user closed it.
    Cancelled,
}

/// One window.
#[derive(Debug)]
pub struct SponsorSession {
    keys: Arc<DeviceKeys>,
    trust_code: bool,
    window: Option<Window>,
    until: Instant,
    attempts: u8,
    current: Option<Attempt>,
    /// Streams that were ended: what is still on its way from them is no new attempt.
    ended: VecDeque<PairStream>,
}

#[derive(Debug)]
struct Attempt {
    stream: PairStream,
    machine: Sponsor,
    /// When the joiner's machine must have answered; `None`: people are asked.
    answer_by: Option<Instant>,
    /// Whose enrolment is on its way.
    device: Option<DeviceId>,
    enrolled: bool,
}

impl SponsorSession {
    /// Draws a new window. With `trust_code` the words are not asked for.
    pub fn open<R: CryptoRng + ?Sized>(
        mesh_id: MeshId,
        keys: Arc<DeviceKeys>,
        trust_code: bool,
        now: Instant,
        rng: &mut R,
    ) -> Self {
        let window = Some(Window::new(mesh_id, rng));
        Self {
            keys,
            trust_code,
            window,
            until: now + WINDOW_TIME,
            attempts: 0,
            current: None,
            ended: VecDeque::new(),
        }
    }

    /// The ticket to show; `None` once the window is dead.
    pub fn ticket(&self, hints: Vec<String>) -> Option<Result<Ticket, TicketError>> {
        self.window
            .as_ref()
            .map(|window| window.ticket(&self.keys.public(), hints))
    }

    /// The window's public name, for `NetHandle::open_window`; `None` once it is dead.
    pub fn name(&self) -> Option<[u8; 8]> {
        self.window
            .as_ref()
            .map(|window| window_name(&window.session))
    }

    /// Whether a device can still come in.
    pub fn is_open(&self) -> bool {
        self.window.is_some()
    }

    /// A frame came on a pairing stream. The first on a new stream begins an attempt; while one runs, others are turned away.
    pub fn handle_frame<R: CryptoRng + ?Sized>(
        &mut self,
        now: Instant,
        rng: &mut R,
        stream: PairStream,
        remote_transport_pub: [u8; 32],
        bytes: &[u8],
    ) -> Vec<SponsorEffect> {
        let mut effects = self.handle_time(now);
        if self.ended.contains(&stream) {
            return effects;
        }
        let busy = self
            .current
            .as_ref()
            .is_some_and(|attempt| attempt.stream != stream);
        let Some(window) = self.window.as_ref().filter(|_| !busy) else {
            effects.push(self.dismiss(stream));
            return effects;
        };
        let (keys, trust, attempts) = (&self.keys, self.trust_code, &mut self.attempts);
        let attempt = self.current.get_or_insert_with(|| {
            *attempts += 1;
            let machine = Sponsor::new(window, keys, Some(remote_transport_pub), trust, rng);
            Attempt {
                stream,
                machine,
                answer_by: None,
                device: None,
                enrolled: false,
            }
        });
        attempt.answer_by = Some(now + MESSAGE_TIME);
        match attempt.machine.handle(bytes) {
            Ok(outputs) => effects.extend(self.take(outputs)),
            Err(error) => effects.extend(self.fail(error.into())),
        }
        effects
    }

    /// A pairing stream is gone.
    pub fn handle_closed(&mut self, stream: PairStream) -> Vec<SponsorEffect> {
        match &self.current {
            Some(attempt) if attempt.stream == stream => self.fail(Failure::Gone),
            _ => Vec::new(),
        }
    }

    /// The user typed the words.
    pub fn confirm_words(&mut self, typed: &str) -> Vec<SponsorEffect> {
        let Some(attempt) = &mut self.current else {
            return Vec::new();
        };
        match attempt.machine.confirm_words(typed) {
            Ok(outputs) => self.take(outputs),
            Err(WordsWrong { left: 0 }) => {
                self.attempts = ATTEMPTS;
                self.fail(Failure::Words)
            }
            Err(WordsWrong { left }) => vec![SponsorEffect::WordsWrong { left }],
        }
    }

    /// The admission is signed: hand it over.
    pub fn enroll(&mut self, enrollment: Enrollment) -> Vec<SponsorEffect> {
        let Some(attempt) = &mut self.current else {
            return Vec::new();
        };
        match attempt.machine.enroll(enrollment) {
            Ok(messages) => {
                attempt.enrolled = true;
                let stream = attempt.stream;
                messages
                    .into_iter()
                    .map(|bytes| SponsorEffect::Send { stream, bytes })
                    .collect()
            }
            Err(error) => self.fail(error.into()),
        }
    }

    /// The user closes the window.
    pub fn cancel(&mut self) -> Vec<SponsorEffect> {
        self.end(WindowEnd::Cancelled)
    }

    /// When [`handle_time`](Self::handle_time) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.window.as_ref()?;
        let answer = self.current.as_ref().and_then(|attempt| attempt.answer_by);
        Some(answer.map_or(self.until, |by| by.min(self.until)))
    }

    /// Ends what is overdue.
    pub fn handle_time(&mut self, now: Instant) -> Vec<SponsorEffect> {
        if self.window.is_none() {
            return Vec::new();
        }
        if now >= self.until {
            return self.end(WindowEnd::Expired);
        }
        match &self.current {
            Some(Attempt {
                answer_by: Some(by),
                ..
            }) if now >= *by => self.fail(Failure::Slow),
            _ => Vec::new(),
        }
    }

    fn take(&mut self, outputs: Vec<SponsorOutput>) -> Vec<SponsorEffect> {
        let Some(attempt) = &mut self.current else {
            return Vec::new();
        };
        let stream = attempt.stream;
        let mut effects = Vec::new();
        let mut done = false;
        for output in outputs {
            effects.push(match output {
                SponsorOutput::Send(bytes) => SponsorEffect::Send { stream, bytes },
                SponsorOutput::Joining {
                    name,
                    platform,
                    public,
                } => {
                    attempt.device = Some(public.device_id());
                    SponsorEffect::Joining {
                        name,
                        platform,
                        public,
                    }
                }
                SponsorOutput::AskWords => {
                    attempt.answer_by = None;
                    SponsorEffect::AskWords
                }
                SponsorOutput::NeedEnrollment { join } => {
                    attempt.answer_by = None;
                    SponsorEffect::NeedEnrollment { join }
                }
                SponsorOutput::Done { device } => {
                    done = true;
                    SponsorEffect::Done { device }
                }
            });
        }
        if done {
            self.current = None;
            effects.push(self.dismiss(stream));
            effects.extend(self.end(WindowEnd::Used));
        }
        effects
    }

    fn fail(&mut self, why: Failure) -> Vec<SponsorEffect> {
        let Some(attempt) = self.current.take() else {
            return Vec::new();
        };
        let unconfirmed = attempt.device.filter(|_| attempt.enrolled);
        let spent = self.attempts >= ATTEMPTS || unconfirmed.is_some();
        let attempts_left = if spent || self.window.is_none() {
            0
        } else {
            ATTEMPTS - self.attempts
        };
        let mut effects = vec![
            self.dismiss(attempt.stream),
            SponsorEffect::Failed {
                why,
                attempts_left,
                unconfirmed,
            },
        ];
        if spent {
            effects.extend(self.end(WindowEnd::Attempts));
        }
        effects
    }

    fn dismiss(&mut self, stream: PairStream) -> SponsorEffect {
        self.ended.push_back(stream);
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
        SponsorEffect::Close { stream }
    }

    fn end(&mut self, end: WindowEnd) -> Vec<SponsorEffect> {
        if self.window.take().is_none() {
            return Vec::new();
        }
        let mut effects = self.fail(Failure::Closed);
        effects.push(SponsorEffect::Closed { end });
        effects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::DeviceSeed;
    use ownmesh_crypto::pairing::Joiner;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    const MESH: MeshId = MeshId::from_bytes([7; 16]);

    fn keys(seed: u8) -> Arc<DeviceKeys> {
        Arc::new(DeviceKeys::from_seed(&DeviceSeed::from_bytes([seed; 32])))
    }

    fn closed(effects: &[SponsorEffect]) -> Option<WindowEnd> {
        effects.iter().find_map(|effect| match effect {
            SponsorEffect::Closed { end } => Some(*end),
            _ => None,
        })
    }

    #[test]
    fn a_window_ends_after_five_attempts_and_by_time() {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Instant::now();
        let mut session = SponsorSession::open(MESH, keys(1), false, now, &mut rng);
        for i in 0..u64::from(ATTEMPTS) {
            let effects = session.handle_frame(now, &mut rng, PairStream(i), [0; 32], b"junk");
            assert_eq!(closed(&effects).is_some(), i == 4, "{effects:?}");
        }
        assert!(
            !session.is_open() && session.deadline().is_none() && session.ticket(vec![]).is_none()
        );

        let mut session = SponsorSession::open(MESH, keys(1), false, now, &mut rng);
        let until = session.deadline().unwrap();
        assert_eq!(until - now, WINDOW_TIME);
        assert!(
            session
                .handle_time(until - Duration::from_secs(1))
                .is_empty()
        );
        assert_eq!(
            closed(&session.handle_time(until)),
            Some(WindowEnd::Expired)
        );
    }

    #[test]
    fn one_joiner_at_a_time_and_none_that_falls_asleep() {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Instant::now();
        let mut session = SponsorSession::open(MESH, keys(1), false, now, &mut rng);
        let ticket = session.ticket(vec![]).unwrap().unwrap();
        let phone = keys(2);
        let transport = phone.public().transport;
        let (_, first) =
            Joiner::new(&ticket, &phone, "phone", "linux", &transport, &mut rng).unwrap();
        let effects = session.handle_frame(now, &mut rng, PairStream(1), transport, &first);
        assert!(
            matches!(effects[..], [SponsorEffect::Send { .. }]),
            "{effects:?}"
        );
        let busy = session.handle_frame(now, &mut rng, PairStream(2), [9; 32], &first);
        assert_eq!(
            busy,
            [SponsorEffect::Close {
                stream: PairStream(2)
            }]
        );
        assert_eq!(session.deadline(), Some(now + MESSAGE_TIME));
        let effects = session.handle_time(now + MESSAGE_TIME);
        let slow = SponsorEffect::Failed {
            why: Failure::Slow,
            attempts_left: 4,
            unconfirmed: None,
        };
        assert_eq!(
            effects,
            [
                SponsorEffect::Close {
                    stream: PairStream(1)
                },
                slow
            ]
        );
        assert!(session.handle_closed(PairStream(1)).is_empty());
        assert_eq!(closed(&session.cancel()), Some(WindowEnd::Cancelled));
    }
}
