//! What can be asked of the node, what it answers, and how it says no.
//!
//! One [`CommandError`] serves the HTTP API and the command line: its [`Kind`] decides the HTTP status and the exit code, here and nowhere
//! else. Messages say what happened; the hint says what to type.

mod past;

use serde::{Deserialize, Serialize};

pub use self::past::*;

use crate::status::ItemInfo;

pub mod ignore;

/// Why something was not done. Each kind has one HTTP status and one exit code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was tried and failed.
    Failed,
    /// The request makes no sense.
    Usage,
    /// The body is longer than the API takes.
    TooLarge,
    /// The body is not `application/json`.
    MediaType,
    /// The path exists, but not with this method.
    Method,
    /// No node answers.
    NotRunning,
    /// Refused for safety.
    Refused,
    /// It would be done if it were confirmed.
    NeedsConfirmation,
    /// The database was made by a newer version.
    NewerVersion,
    /// A wrong key, phrase, password, ticket or credential.
    WrongSecret,
    /// A password has to be given first.
    Locked,
    /// No such device, space, item or path.
    NotFound,
    /// Not finished in the time given.
    NotFinished,
}

impl Kind {
    /// All of them, for the API's description.
    pub const ALL: [Kind; 13] = [
        Kind::Failed,
        Kind::Usage,
        Kind::TooLarge,
        Kind::MediaType,
        Kind::Method,
        Kind::NotRunning,
        Kind::Refused,
        Kind::NeedsConfirmation,
        Kind::NewerVersion,
        Kind::WrongSecret,
        Kind::Locked,
        Kind::NotFound,
        Kind::NotFinished,
    ];

    /// The HTTP status and the exit code.
    const fn codes(self) -> (u16, u8) {
        match self {
            Kind::Failed => (500, 1),
            Kind::Usage => (400, 2),
            Kind::TooLarge => (413, 2),
            Kind::MediaType => (415, 2),
            Kind::Method => (405, 2),
            Kind::NotRunning => (503, 3),
            Kind::Refused | Kind::NeedsConfirmation => (409, 4),
            Kind::NewerVersion => (500, 4),
            Kind::WrongSecret => (403, 5),
            Kind::Locked => (423, 5),
            Kind::NotFound => (404, 6),
            Kind::NotFinished => (504, 7),
        }
    }

    /// The status the API answers with.
    pub const fn http_status(self) -> u16 {
        self.codes().0
    }

    /// The code the command line ends with.
    pub const fn exit_code(self) -> u8 {
        self.codes().1
    }
}

/// Why a command was not done, for scripts and for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// What kind of no it is.
    pub kind: Kind,
    /// What happened, one sentence without a full stop.
    pub message: String,
    /// What to do about it; empty if nothing is known.
    #[serde(default)]
    pub hint: String,
    /// Whether the same command may succeed later.
    #[serde(default)]
    pub retry: bool,
    /// The item, space or device it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// What would happen, where a confirmation is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<AddPreview>,
}

impl CommandError {
    /// An error without hint, retry or item.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: String::new(),
            retry: false,
            item: None,
            preview: None,
        }
    }

    /// It was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The request makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// No node answers, or it is stopping.
    pub fn not_running(message: impl Into<String>) -> Self {
        Self {
            retry: true,
            ..Self::new(Kind::NotRunning, message)
        }
    }

    /// Refused for safety.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// It would be done if it were confirmed.
    pub fn needs_confirmation(message: impl Into<String>) -> Self {
        Self::new(Kind::NeedsConfirmation, message)
    }

    /// A wrong key, phrase, password, ticket or credential.
    pub fn wrong_secret(message: impl Into<String>) -> Self {
        Self::new(Kind::WrongSecret, message)
    }

    /// No such thing: `what` is a noun, `name` what was asked for.
    pub fn not_found(what: &str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            item: Some(name.clone()),
            ..Self::new(Kind::NotFound, format!("there is no {what} \"{name}\""))
        }
    }

    /// Not finished in the time given.
    pub fn not_finished(message: impl Into<String>) -> Self {
        Self {
            retry: true,
            ..Self::new(Kind::NotFinished, message)
        }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Names what it is about.
    #[must_use]
    pub fn about(mut self, item: impl Into<String>) -> Self {
        self.item = Some(item.into());
        self
    }

    /// Says that the same may succeed later.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Shows what a confirmation would do.
    #[must_use]
    pub fn preview(mut self, preview: AddPreview) -> Self {
        self.preview = Some(preview);
        self
    }
}

/// The envelope of every error: `{"v": 1, "error": {..}}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorReply {
    /// [`VERSION`](crate::status::VERSION).
    pub v: u32,
    /// The error.
    pub error: CommandError,
}

/// How a device takes part in a space. The engine may refuse a mode it cannot keep yet.
pub const MODES: [&str; 1] = ["full"];

/// `mesh add`: make a space of a folder, or join the one of that name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRequest {
    /// The folder, absolute.
    pub path: String,
    /// The space's name; the folder's own name if none is given.
    #[serde(default)]
    pub name: Option<String>,
    /// One of [`MODES`]; `full` if none is given.
    #[serde(default)]
    pub mode: Option<String>,
    /// Whether a folder that is not empty may be merged with what the space holds.
    #[serde(default)]
    pub merge: bool,
}

/// What `mesh add` did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AddReply {
    /// The space's name.
    pub space: String,
    /// The folder.
    pub path: String,
    /// Whether the space existed in the mesh before.
    pub joined: bool,
    /// How this device takes part.
    pub mode: String,
    /// What was merged, where the folder was not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<AddPreview>,
}

/// Both sides of a folder that is not empty and a space that is not either, in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AddPreview {
    /// The same path and the same bytes.
    pub equal: u64,
    /// The same path, other bytes: both are kept, as conflicts.
    pub differing: u64,
    /// Only in the folder.
    pub only_here: u64,
    /// Only in the space.
    pub only_there: u64,
}

/// `mesh mode`: another way to take part.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeRequest {
    /// One of [`MODES`].
    pub mode: String,
}

/// `mesh wait`: until what is on the disk now is confirmed elsewhere and nothing known is missing here.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// How long; without end if none is given.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    /// This space only.
    #[serde(default)]
    pub space: Option<String>,
    /// Confirmed by this device.
    #[serde(default)]
    pub device: Option<String>,
    /// Confirmed by every lasting device; by one that keeps items out by its own ignore rules all others, if
    /// another one has confirmed everything.
    #[serde(default)]
    pub all: bool,
}

/// How `mesh wait` ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WaitReply {
    /// Whether everything asked for holds.
    pub done: bool,
    /// What does not hold, in sentences.
    pub reasons: Vec<String>,
}

/// Which side of a conflict stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The content under the item's own name on this device.
    Here,
    /// The other one.
    There,
    /// Both: the copy becomes a file of its own.
    Both,
}

/// `mesh conflicts resolve`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The item's id, or `SPACE:PATH`.
    pub item: String,
    /// Which side stays.
    pub keep: Keep,
}

/// `mesh pair`: open the window.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairRequest {
    /// Whether the code or ticket is enough, without words.
    #[serde(default)]
    pub trust_code: bool,
    /// The mesh's password: its root key admits the new device, so that a device may let others in which else may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// The words the new device shows, typed on this one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// Both words, separated by blanks.
    pub words: String,
}

/// What happens at the window, seen by the device that opened it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PairEvent {
    /// It is open.
    Window {
        /// The nine digits; none after too many guesses in one hour.
        code: Option<String>,
        /// The ticket.
        ticket: String,
        /// How long it stays open.
        expires_in_s: u64,
        /// Where this device listens, the best first: for `--at`, where the two do not find each other.
        #[serde(default)]
        addresses: Vec<String>,
    },
    /// A device that has the ticket or the code is there.
    Joining {
        /// The name it gave itself.
        name: String,
        /// Its operating system.
        platform: String,
    },
    /// The words it shows are wanted.
    Confirm {},
    /// To be typed on the new device, which asks for it.
    Word {
        /// One word.
        word: String,
    },
    /// It is a device of this mesh now.
    Paired {
        /// Its name.
        device: String,
    },
    /// An attempt failed.
    Failed {
        /// Why.
        reason: String,
        /// How many of its kind are left before the window closes: five with the ticket, three with the code.
        attempts_left: u32,
    },
    /// The window is closed.
    Closed {},
}

/// What happens while this device joins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum JoinEvent {
    /// The mesh that ticket or code lead to.
    Found {
        /// Its name.
        mesh: String,
        /// How many devices it has.
        devices: u64,
    },
    /// To be typed on the device that shows the ticket.
    Words {
        /// Both words.
        words: String,
    },
    /// Its own user is asked whether to join: an answer is awaited, with `--json` as a line on standard input.
    Confirm {
        /// `word`: the word that the other device shows. `yes`: whether to join, `yes` or `no`.
        ask: String,
    },
    /// This device belongs to the mesh.
    Paired {
        /// The name of the mesh.
        mesh: String,
        /// The name of this device there.
        device: String,
    },
}

/// `mesh ls`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ItemsReply {
    /// The space.
    pub space: String,
    /// The path asked for.
    pub path: String,
    /// The items, in order of path.
    pub items: Vec<ItemInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_promised_exit_code() {
        for kind in Kind::ALL {
            assert!((1..=7).contains(&kind.exit_code()), "{kind:?}");
            assert!((400..600).contains(&kind.http_status()), "{kind:?}");
        }
    }

    #[test]
    fn errors_have_the_promised_shape() {
        let error = CommandError::not_found("space", "docs").hint("mesh spaces");
        assert_eq!(
            serde_json::to_value(&error).unwrap(),
            serde_json::json!({"kind": "not_found", "message": "there is no space \"docs\"", "hint": "mesh spaces", "retry": false,
                "item": "docs"})
        );
    }

    #[test]
    fn events_are_tagged() {
        let window = PairEvent::Window {
            code: None,
            ticket: "MESH1:A".into(),
            expires_in_s: 300,
            addresses: vec!["192.0.2.1:4001".into()],
        };
        assert_eq!(
            serde_json::to_value(window).unwrap(),
            serde_json::json!({"event": "window", "code": null, "ticket": "MESH1:A", "expires_in_s": 300,
                "addresses": ["192.0.2.1:4001"]})
        );
        assert_eq!(
            serde_json::to_value(PairEvent::Confirm {}).unwrap(),
            serde_json::json!({"event": "confirm"})
        );
    }
}
