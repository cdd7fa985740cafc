//! Schemas of what a person tells this device, and asks it, from day to day.

use serde_json::{Value, json};

use super::{Parts, list, object, one, parts, word};

/// By name.
pub(super) fn schemas() -> [(&'static str, Value); 12] {
    let Parts {
        text,
        count,
        flag,
        time,
        texts,
    } = parts();
    let state = word(&[
        "outside", "private", "unknown", "odd_kind", "ignored", "paused", "stopped", "problem",
        "new", "changed", "waiting", "deleted", "conflict", "in_sync",
    ]);
    let rates = [("up?", &count), ("down?", &count)];
    [
        (
            "PauseRequest",
            object(&[("space?", &text), ("seconds?", &count)]),
        ),
        ("ResumeRequest", object(&[("space?", &text)])),
        ("SpacesReply", object(&[("v", &count), ("spaces", &texts)])),
        (
            "Limits",
            object(&[rates[0], rates[1], ("schedule?", &texts)]),
        ),
        (
            "LimitsNow",
            object(&[
                ("v?", &count),
                rates[0],
                rates[1],
                ("schedule", &texts),
                ("active", &flag),
            ]),
        ),
        (
            "RenameRequest",
            object(&[("device", &text), ("name", &text)]),
        ),
        (
            "BlockRequest",
            object(&[("device", &text), ("blocked", &flag)]),
        ),
        (
            "Why",
            object(&[
                ("v", &count),
                ("path", &text),
                ("space?", &text),
                ("item?", &text),
                ("state", &state),
                ("on_disk?", &one("OnDisk")),
                ("changed_by?", &text),
                ("waits_for", &texts),
                ("devices", &list("WhyDevice")),
                ("conflict?", &one("ConflictInfo")),
                ("problem?", &one("Problem")),
                ("words", &texts),
                ("next", &text),
            ]),
        ),
        (
            "OnDisk",
            object(&[("kind", &text), ("size", &count), ("mtime?", &time)]),
        ),
        (
            "WhyDevice",
            object(&[
                ("device", &text),
                ("connected", &flag),
                ("confirmed?", &flag),
                ("heard?", &time),
                ("words", &text),
            ]),
        ),
        (
            "Doctor",
            object(&[("v", &count), ("ok", &flag), ("checks", &list("Check"))]),
        ),
        (
            "Check",
            object(&[
                ("name", &text),
                (
                    "level",
                    &json!({ "type": "string", "enum": ["ok", "note", "wrong"] }),
                ),
                ("finding", &text),
                ("remedy", &text),
                ("item?", &text),
            ]),
        ),
    ]
}
