//! The existing device's side of a pairing window, driven by events.
//!
//! Frames and times in, [`SponsorEffect`]s out. Holds the rules that need counting: one pairing at a time, at most
//! [`ATTEMPTS`] attempts, among them at most [`GUESSES`] at the code, one success, five minutes, half a minute for every answer that needs no
//! person. When any of them is used up the window is dead, and with it ticket and code; nothing revives it. Counters and secrets live in
//! this one value, so two joiners cannot both win. A guess counts before the answer to it is sent: who hears that and goes away knows
//! whether it was right.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ownmesh_crypto::pairing::{
    Code, Enrollment, JoinRequest, PairError, Sponsor, SponsorOutput, Ticket, TicketError, Window,
    WordsWrong,
};
use ownmesh_crypto::registry::JoinPath;
use ownmesh_crypto::{DeviceId, DeviceKeys, DevicePublic};
use rand::CryptoRng;

use super::window_name;
use crate::net::{PairAdvert, PairStream};

/// Handshakes a window allows, whatever they come with.
pub const ATTEMPTS: u8 = 5;
/// Guesses at the code a window allows: three in a million.
pub const GUESSES: u8 = 3;
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
    /// Show this word, which is asked for on the new device.
    Word {
        /// It.
        word: String,
    },
    /// Sign its admission, keep it pending, and answer by [`SponsorSession::enroll`].
    NeedEnrollment {
        /// What it sent, verified.
        join: Box<JoinRequest>,
        /// What it had.
        path: JoinPath,
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
        /// Attempts of this kind that are left; none after the window is closed.
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
    /// It did not have the code, or went away having heard enough to know so: the two look alike from here.
    #[error("the code was wrong, or the connection broke")]
    WrongCode,
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
    guesses: u8,
    /// Whether a device came in.
    used: bool,
    current: Option<Attempt>,
    /// Streams that were ended: what is still on its way from them is no new attempt.
    ended: VecDeque<PairStream>,
}

#[derive(Debug)]
struct Attempt {
    stream: PairStream,
    machine: Sponsor,
    guess: Guess,
    /// When the joiner's machine must have answered; `None`: people are asked.
    answer_by: Option<Instant>,
    /// Whose enrolment is on its way.
    device: Option<DeviceId>,
    enrolled: bool,
}

/// How far an attempt with a code is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guess {
    /// It came with the ticket, or has not said anything yet.
    None,
    /// It has our answer and may know whether it was right.
    Made,
    /// It had the code.
    Right,
}

impl SponsorSession {
    /// Opens a window. With `trust_code` the words are not asked for.
    pub fn open(window: Window, keys: Arc<DeviceKeys>, trust_code: bool, now: Instant) -> Self {
        Self {
            keys,
            trust_code,
            window: Some(window),
            until: now + WINDOW_TIME,
            attempts: 0,
            guesses: 0,
            used: false,
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

    /// The code to show; `None` if the window has none, or is dead.
    pub fn code(&self) -> Option<&Code> {
        self.window.as_ref()?.code.as_ref()
    }

    /// What everybody may see, for `NetHandle::open_window`; `None` once the window is dead.
    pub fn advert(&self) -> Option<PairAdvert> {
        let window = self.window.as_ref()?;
        Some(PairAdvert {
            window: window_name(&window.session),
            nameplate: window.code.as_ref().map(Code::nameplate),
        })
    }

    /// Whether somebody guessed at the code and nobody has come in.
    pub fn was_guessed_at_in_vain(&self) -> bool {
        self.guesses > 0 && !self.used
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
                guess: Guess::None,
                answer_by: None,
                device: None,
                enrolled: false,
            }
        });
        attempt.answer_by = Some(now + MESSAGE_TIME);
        match attempt.machine.handle(bytes) {
            Ok(outputs) => {
                if attempt.guess == Guess::Made {
                    attempt.guess = Guess::Right;
                }
                effects.extend(self.take(outputs));
            }
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
                SponsorOutput::Guess => {
                    self.guesses += 1;
                    attempt.guess = Guess::Made;
                    continue;
                }
                SponsorOutput::Word(word) => SponsorEffect::Word { word },
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
                SponsorOutput::NeedEnrollment { join, path } => {
                    attempt.answer_by = None;
                    SponsorEffect::NeedEnrollment {
                        join: Box::new(join),
                        path,
                    }
                }
                SponsorOutput::Done { device } => {
                    done = true;
                    SponsorEffect::Done { device }
                }
            });
        }
        if done {
            self.used = true;
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
        let why = match (attempt.guess, why) {
            (Guess::Made, Failure::Gone | Failure::Slow)
            | (Guess::Made, Failure::Pair(PairError::WrongSecret)) => Failure::WrongCode,
            (_, why) => why,
        };
        let attempts = ATTEMPTS.saturating_sub(self.attempts);
        let guesses = GUESSES.saturating_sub(self.guesses);
        let spent = attempts.min(guesses) == 0 || unconfirmed.is_some();
        let attempts_left = if spent || self.window.is_none() {
            0
        } else if attempt.guess == Guess::None {
            attempts
        } else {
            attempts.min(guesses)
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
mod tests;
