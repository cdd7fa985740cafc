//! What leaves: one JSON object with `"v": 1`, or a stream of them, one per line.

use std::convert::Infallible;

use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::command::{CommandError, ErrorReply};
use crate::status::VERSION;

/// Every response of the API.
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A value as an object with `"v"`. What is not an object, or cannot be one, is a bug and becomes an empty one.
pub(super) fn versioned<T: Serialize>(value: &T) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or(Value::Null);
    if !value.is_object() {
        value = json!({});
    }
    value["v"] = json!(VERSION);
    value
}

/// Answers with one object.
pub(super) fn object<T: Serialize>(value: &T) -> Reply {
    respond(StatusCode::OK, "application/json", one(&versioned(value)))
}

/// Answers with a list under its name.
pub(super) fn list<T: Serialize>(name: &str, values: &[T]) -> Reply {
    object(&json!({ name: values }))
}

/// Answers with an error, with the status of its kind.
pub(super) fn error(error: CommandError) -> Reply {
    let status =
        StatusCode::from_u16(error.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(
        status,
        "application/json",
        one(&versioned(&ErrorReply { v: VERSION, error })),
    )
}

/// Answers with objects as they come.
pub(super) fn lines(values: impl Stream<Item = Value> + Send + 'static) -> Reply {
    let frames = values.map(|value| Ok(Frame::data(line(&value))));
    respond(
        StatusCode::OK,
        "application/x-ndjson",
        BodyExt::boxed_unsync(StreamBody::new(frames)),
    )
}

fn one(value: &Value) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(line(value)).boxed_unsync()
}

fn line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}

fn respond(
    status: StatusCode,
    kind: &'static str,
    body: UnsyncBoxBody<Bytes, Infallible>,
) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    reply.headers_mut().insert(
        CACHE_CONTROL,
        hyper::header::HeaderValue::from_static("no-store"),
    );
    reply
}
