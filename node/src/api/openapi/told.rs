//! Schemas of what a person tells this device, and asks it, from day to day.

use serde_json::{Value, json};

use super::object;

/// By name.
pub(super) fn schemas() -> [(&'static str, Value); 7] {
    let (text, count, flag) = (
        json!({ "type": "string" }),
        json!({ "type": "integer", "minimum": 0 }),
        json!({ "type": "boolean" }),
    );
    let texts = json!({ "type": "array", "items": text });
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
    ]
}
