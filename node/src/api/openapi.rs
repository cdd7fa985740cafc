//! The description of the API, `GET /v1/openapi.json`.
//!
//! Paths come from the route table; schemas are written here by hand, and the tests hold them against the structs.

mod past;
mod told;

use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route};
use crate::command::{Kind, MODES};

/// The whole description, OpenAPI 3.1.
pub(super) fn description() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mesh, the local API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP/1.1 on the Unix socket HOME/api.sock, for the same user only. Every object has \"v\": 1. Streams are \
                            JSON objects, one per line, each with \"event\".",
        },
        "servers": [{ "url": "http://localhost", "description": "over the Unix socket" }],
        "paths": paths,
        "components": { "schemas": schemas() },
    })
}

fn operation(route: &Route) -> Value {
    let kind = if route.stream {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let mut parameters = Vec::new();
    if route.path.contains("{NAME}") {
        parameters.push(json!({ "name": "NAME", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    for name in route.query {
        parameters.push(json!({ "name": name, "in": "query", "required": false, "schema": { "type": "string" } }));
    }
    let mut operation = json!({
        "operationId": format!("{:?}", route.call),
        "summary": route.summary,
        "responses": {
            "200": { "description": "Done", "content": { kind: { "schema": reference(route.reply) } } },
            "default": { "description": "Not done", "content": { "application/json": { "schema": reference("Error") } } },
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if let Some(schema) = route.request {
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": reference(schema) } } });
    }
    operation
}

/// The schemas; `"name?"` in a table marks what may be null or absent.
fn schemas() -> Value {
    let Parts {
        text,
        count,
        flag,
        time,
        texts,
    } = parts();
    let kinds: Vec<_> = Kind::ALL.iter().map(|kind| json!(kind)).collect();
    let route = word(&[
        "lan", "direct", "punched", "relay", "mailbox", "bucket", "none",
    ]);
    let state = word(&["idle", "scanning", "syncing", "paused", "stopped", "error"]);
    let v = &count;
    let mut all = json!({
        "Status": object(&[("v", v), ("device", &one("ThisDevice")), ("mesh", &one("MeshInfo")), ("locked", &flag),
            ("peers", &list("Peer")), ("spaces", &list("SpaceStatus")), ("bucket?", &one("BucketStatus")),
            ("relays", &list("RelayStatus")), ("problems", &list("Problem")), ("limits?", &one("LimitsNow")), ("socket?", &text)]),
        "ThisDevice": object(&[("id", &text), ("name", &text), ("version", &text)]),
        "MeshInfo": object(&[("id", &text), ("name", &text), ("devices", &count)]),
        "Peer": object(&[("id", &text), ("name", &text), ("connected", &flag), ("route", &route), ("why", &text), ("last_seen?", &time),
            ("blocked", &flag)]),
        "SpaceStatus": object(&[("name", &text), ("path", &text), ("mode", &word(&MODES)), ("state", &state), ("paused_until?", &time), ("paused_by", &texts),
            ("stopped_on", &json!({ "type": "object", "additionalProperties": text })),
            ("kept_out_on", &json!({ "type": "object", "additionalProperties": count })), ("items", &count),
            ("files", &count), ("bytes", &count), ("missing_items", &count), ("missing_bytes", &count), ("conflicts", &count),
            ("only_here_items", &count), ("unconfirmed", &json!({ "type": "object", "additionalProperties": count })),
            ("problems", &list("Problem"))]),
        "Problem": object(&[("item?", &text), ("kind", &text), ("reason", &text), ("since?", &time)]),
        "BucketStatus": object(&[("url", &text), ("state", &text), ("queued_packs", &count), ("queued_bytes", &count),
            ("last_ok?", &time), ("last_error?", &text)]),
        "RelayStatus": object(&[("name", &text), ("state", &text), ("mailbox_bytes", &count)]),
        "Devices": object(&[("v", v), ("devices", &list("DeviceInfo"))]),
        "DeviceInfo": object(&[("id", &text), ("name", &text), ("platform", &text), ("version?", &text), ("this_device", &flag),
            ("connected", &flag), ("route", &route), ("last_seen?", &time), ("added_by?", &text), ("may_add", &flag),
            ("blocked", &flag)]),
        "Spaces": object(&[("v", v), ("spaces", &list("SpaceInfo"))]),
        "SpaceInfo": object(&[("name", &text), ("joined", &flag), ("path?", &text), ("mode?", &word(&MODES)), ("state?", &state),
            ("items", &count), ("files", &count), ("bytes", &count), ("devices", &texts)]),
        "Items": object(&[("v", v), ("space", &text), ("path", &text), ("items", &list("ItemInfo"))]),
        "ItemInfo": object(&[("item", &text), ("path", &text), ("kind", &word(&["file", "directory", "symlink"])), ("size", &count),
            ("mode?", &count), ("mtime?", &time), ("target?", &text), ("tier", &word(&["hot", "warm", "cold"])),
            ("residency", &word(&["local", "cached", "remote"])), ("conflict", &flag), ("ignored", &flag), ("local_name?", &text)]),
        "Conflicts": object(&[("v", v), ("conflicts", &list("ConflictInfo"))]),
        "ConflictInfo": object(&[("item", &text), ("space", &text), ("path", &text), ("versions", &list("ConflictVersion"))]),
        "ConflictVersion": object(&[("device", &text), ("size", &count), ("mtime?", &time), ("copy_path?", &text), ("diff?", &one("VersionDiff"))]),
        "VersionDiff": object(&[("kind", &word(&["text", "same", "binary", "too_large", "not_here"])), ("text?", &text)]),
        "AddRequest": object(&[("path", &text), ("name?", &text), ("mode?", &word(&MODES)), ("merge?", &flag)]),
        "AddReply": object(&[("v", v), ("space", &text), ("path", &text), ("joined", &flag), ("mode", &word(&MODES)),
            ("merged?", &one("AddPreview"))]),
        "AddPreview": object(&[("equal", &count), ("differing", &count), ("only_here", &count), ("only_there", &count)]),
        "ModeRequest": object(&[("mode", &word(&MODES))]),
        "ResolveRequest": object(&[("item", &text), ("keep", &word(&["here", "there", "both"]))]),
        "WaitRequest": object(&[("timeout_s?", &count), ("space?", &text), ("device?", &text), ("all?", &flag)]),
        "WaitReply": object(&[("v", v), ("done", &flag), ("reasons", &texts)]),
        "PairRequest": object(&[("trust_code?", &flag), ("password?", &text)]),
        "ConfirmRequest": object(&[("words", &text)]),
        "PairEvent": object(&[("v", v), ("event", &word(&["window", "joining", "confirm", "word", "paired", "failed", "closed"])),
            ("code?", &text), ("ticket?", &text), ("expires_in_s?", &count), ("addresses?", &texts), ("word?", &text), ("name?", &text), ("platform?", &text), ("device?", &text),
            ("reason?", &text), ("attempts_left?", &count)]),
        "Event": object(&[("v", v), ("event", &text)]),
        "Done": object(&[("v", v), ("done", &flag)]),
        "OpenApi": json!({ "type": "object" }),
        "Error": object(&[("v", v), ("error", &one("CommandError"))]),
        "CommandError": object(&[("kind", &json!({ "type": "string", "enum": kinds })), ("message", &text), ("hint", &text),
            ("retry", &flag), ("item?", &text), ("preview?", &one("AddPreview"))]),
    });
    for (name, schema) in told::schemas() {
        all[name] = schema;
    }
    for more in [past::schemas(), ignoring()] {
        if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
    }
    all
}

/// What schemas are put together from.
struct Parts {
    text: Value,
    /// Never negative.
    count: Value,
    flag: Value,
    time: Value,
    texts: Value,
}

fn parts() -> Parts {
    let text = json!({ "type": "string" });
    Parts {
        count: json!({ "type": "integer", "minimum": 0 }),
        flag: json!({ "type": "boolean" }),
        time: json!({ "type": "string", "format": "date-time" }),
        texts: json!({ "type": "array", "items": text }),
        text,
    }
}

fn one(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(name: &str) -> Value {
    json!({ "type": "array", "items": one(name) })
}

fn word(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// The schemas of the ignore rules.
fn ignoring() -> Value {
    let Parts {
        text,
        count,
        flag,
        texts,
        ..
    } = parts();
    let v = &count;
    json!({
        "Ignore": object(&[("v", v), ("space", &text), ("rules", &list("IgnoreRule")), ("problems", &texts), ("held_items", &count)]),
        "IgnoreRule": object(&[("file", &text), ("line", &count), ("pattern", &text)]),
        "IgnoreChange": object(&[("pattern", &text), ("device?", &flag), ("remove?", &flag)]),
        "IgnoreChanged": object(&[("v", v), ("space", &text), ("file", &text), ("changed", &flag), ("stops", &one("IgnoredItems")),
            ("resumes", &one("IgnoredItems"))]),
        "IgnoredItems": object(&[("items", &count), ("files", &count), ("bytes", &count), ("names", &texts)]),
        "IgnoreTest": object(&[("path?", &text), ("pattern?", &text), ("device?", &flag)]),
        "IgnoreTested": object(&[("v", v), ("space", &text), ("path?", &one("IgnoreVerdict")), ("stops?", &one("IgnoredItems"))]),
        "IgnoreVerdict": object(&[("path", &text), ("exists", &flag), ("ignored", &flag), ("rule?", &one("IgnoreRule")), ("at?", &text)]),
    })
}

fn object(fields: &[(&str, &Value)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema) in fields {
        let plain = name.trim_end_matches('?');
        properties.insert(plain.to_owned(), (*schema).clone());
        if plain == *name {
            required.push(plain);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::Serialize;

    use super::*;
    use crate::command::ignore::*;
    use crate::command::*;
    use crate::doctor::{Check, Doctor};
    use crate::limits::{Limits, LimitsNow};
    use crate::status::*;
    use crate::told::*;
    use crate::why::{OnDisk, Why, WhyDevice};

    #[test]
    fn the_description_and_the_table_agree() {
        let description = description();
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let table: BTreeSet<_> = ROUTES
            .iter()
            .map(|route| (route.method.to_string(), route.path.to_owned()))
            .collect();
        assert_eq!(described, table);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        fn walk(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(map) => {
                    map.iter()
                        .for_each(|(key, value)| match (key.as_str(), value) {
                            ("$ref", Value::String(text)) => {
                                found.insert(
                                    text.trim_start_matches("#/components/schemas/").to_owned(),
                                );
                            }
                            _ => walk(value, found),
                        });
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let description = description();
        let mut found = BTreeSet::new();
        walk(&description, &mut found);
        let known: BTreeSet<_> = description["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(found, known);
    }

    /// The fields of a value that has none absent are those of the schema, but for `"v"`, which the reply adds.
    pub(super) fn same<T: Serialize>(name: &str, value: &T) {
        let fields = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .filter(|key| *key != "v")
                .cloned()
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(
            fields(&schemas()[name]["properties"]),
            fields(&serde_json::to_value(value).unwrap()),
            "{name}"
        );
    }

    #[test]
    fn the_schemas_and_the_structs_agree() {
        let text = || Some(String::new());
        same("ThisDevice", &ThisDevice::default());
        same("MeshInfo", &MeshInfo::default());
        same("SpaceStatus", &SpaceStatus::default());
        same("DeviceInfo", &DeviceInfo::default());
        same("SpaceInfo", &SpaceInfo::default());
        same(
            "ItemInfo",
            &ItemInfo {
                target: text(),
                local_name: text(),
                ..ItemInfo::default()
            },
        );
        same("Items", &ItemsReply::default());
        same("Ignore", &IgnoreReply::default());
        same("IgnoreRule", &IgnoreRule::default());
        same("IgnoreChange", &IgnoreChange::default());
        same("IgnoreChanged", &IgnoreChanged::default());
        same("IgnoredItems", &IgnoredItems::default());
        same("IgnoreTest", &IgnoreTest::default());
        let verdict = IgnoreVerdict {
            rule: Some(IgnoreRule::default()),
            at: text(),
            ..IgnoreVerdict::default()
        };
        same("IgnoreVerdict", &verdict);
        same(
            "IgnoreTested",
            &IgnoreTested {
                path: Some(verdict),
                stops: Some(IgnoredItems::default()),
                ..IgnoreTested::default()
            },
        );
        same("ConflictInfo", &ConflictInfo::default());
        let diff = VersionDiff {
            text: Some(String::new()),
            ..VersionDiff::default()
        };
        same("VersionDiff", &diff);
        same(
            "ConflictVersion",
            &ConflictVersion {
                diff: Some(diff),
                ..ConflictVersion::default()
            },
        );
        same("AddRequest", &AddRequest::default());
        same(
            "AddReply",
            &AddReply {
                merged: Some(AddPreview::default()),
                ..AddReply::default()
            },
        );
        same("AddPreview", &AddPreview::default());
        same("PauseRequest", &PauseRequest::default());
        same("ResumeRequest", &ResumeRequest::default());
        same("SpacesReply", &SpacesReply::default());
        same("Limits", &Limits::default());
        same("LimitsNow", &LimitsNow::default());
        same("RenameRequest", &RenameRequest::default());
        same("BlockRequest", &BlockRequest::default());
        same("Why", &Why::default());
        same("OnDisk", &OnDisk::default());
        same("WhyDevice", &WhyDevice::default());
        same("Doctor", &Doctor::default());
        same("Check", &Check::default());
        same("WaitRequest", &WaitRequest::default());
        same("WaitReply", &WaitReply::default());
        same(
            "PairRequest",
            &PairRequest {
                password: text(),
                ..PairRequest::default()
            },
        );
        same(
            "ConfirmRequest",
            &ConfirmRequest {
                words: String::new(),
            },
        );
        same(
            "ModeRequest",
            &ModeRequest {
                mode: String::new(),
            },
        );
        same(
            "ResolveRequest",
            &ResolveRequest {
                item: String::new(),
                keep: Keep::Both,
            },
        );
        same(
            "CommandError",
            &CommandError::failed("")
                .about("")
                .preview(AddPreview::default()),
        );
        same(
            "Problem",
            &Problem {
                item: None,
                kind: String::new(),
                reason: String::new(),
                since: None,
            },
        );
    }
}
