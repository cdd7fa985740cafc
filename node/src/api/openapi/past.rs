//! The schemas of trash, history, undo and the operation log.

use serde_json::{Value, json};

use super::{Parts, list, object, parts, word};

/// These schemas, under their names.
pub(super) fn schemas() -> Value {
    let Parts {
        text,
        count,
        flag,
        time,
        texts,
    } = parts();
    let v = &count;
    json!({
        "Trash": object(&[("v", v), ("trash", &list("TrashEntry"))]),
        "TrashEntry": object(&[("item", &text), ("space", &text), ("path", &text), ("at", &time),
            ("why", &word(&["deleted", "replaced", "set-aside"])), ("device?", &text), ("size", &count)]),
        "RestoreRequest": object(&[("item", &text), ("to?", &text)]),
        "RestoreReply": object(&[("v", v), ("space", &text), ("path", &text)]),
        "EmptyRequest": object(&[("space?", &text), ("before?", &time), ("confirm?", &flag)]),
        "EmptyReply": object(&[("v", v), ("done", &flag), ("entries", &count), ("bytes", &count)]),
        "HistoryReply": object(&[("v", v), ("space", &text), ("path", &text), ("versions", &list("Version"))]),
        "Version": object(&[("version", &text), ("item", &text), ("at?", &time), ("device", &text), ("what", &texts), ("path", &text),
            ("from?", &text), ("size?", &count), ("mode?", &count), ("content", &word(&["here", "trash", "elsewhere", "none"]))]),
        "RevertRequest": object(&[("path", &text), ("version", &text), ("to?", &text)]),
        "UndoRequest": object(&[("device?", &text), ("since?", &time), ("path?", &text), ("confirm?", &flag)]),
        "UndoReply": object(&[("v", v), ("done", &flag), ("since", &time), ("items", &list("UndoItem")), ("left", &list("UndoLeft")),
            ("missing", &list("UndoLeft")), ("left_out", &list("UndoLeftOut"))]),
        "UndoItem": object(&[("space", &text), ("path", &text),
            ("what", &word(&["returned", "content", "renamed", "mode", "touched", "removed"])), ("to?", &text), ("size", &count)]),
        "UndoLeft": object(&[("space", &text), ("path", &text), ("why", &text), ("may_have?", &texts)]),
        "UndoLeftOut": object(&[("space", &text), ("why", &text), ("next", &text)]),
        "Log": object(&[("v", v), ("entries", &list("LogEntry"))]),
        "LogEntry": object(&[("seq", &count), ("at", &time), ("kind", &text), ("device?", &text), ("space?", &text), ("message", &text)]),
        "LogVerified": object(&[("v", v), ("whole", &flag), ("first", &count), ("last", &count), ("seq?", &count), ("wrong?", &text)]),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::same;
    use crate::command::*;
    use crate::status::Time;

    #[test]
    fn the_schemas_and_the_structs_agree() {
        let text = || Some(String::new());
        let entry = || TrashEntry {
            item: String::new(),
            space: String::new(),
            path: String::new(),
            at: Time::from_millis(0),
            why: String::new(),
            device: text(),
            size: 0,
        };
        same("TrashEntry", &entry());
        same("RestoreRequest", &RestoreRequest::default());
        same("RestoreReply", &RestoreReply::default());
        same("EmptyRequest", &EmptyRequest::default());
        same("EmptyReply", &EmptyReply::default());
        same("HistoryReply", &HistoryReply::default());
        same(
            "Version",
            &Version {
                version: String::new(),
                item: String::new(),
                at: Some(Time::from_millis(0)),
                device: String::new(),
                what: Vec::new(),
                path: String::new(),
                from: text(),
                size: Some(0),
                mode: Some(0),
                content: String::new(),
            },
        );
        same("RevertRequest", &RevertRequest::default());
        same("UndoRequest", &UndoRequest::default());
        same(
            "UndoReply",
            &UndoReply {
                done: false,
                since: Time::from_millis(0),
                items: Vec::new(),
                left: Vec::new(),
                missing: Vec::new(),
                left_out: Vec::new(),
            },
        );
        same("UndoLeftOut", &UndoLeftOut::default());
        same(
            "UndoItem",
            &UndoItem {
                to: text(),
                ..UndoItem::default()
            },
        );
        same(
            "UndoLeft",
            &UndoLeft {
                may_have: vec![String::new()],
                ..UndoLeft::default()
            },
        );
        same(
            "LogEntry",
            &LogEntry {
                seq: 0,
                at: Time::from_millis(0),
                kind: String::new(),
                device: text(),
                space: text(),
                message: String::new(),
            },
        );
        same(
            "LogVerified",
            &LogVerified {
                seq: Some(0),
                wrong: text(),
                ..LogVerified::default()
            },
        );
    }
}
