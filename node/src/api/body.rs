//! What arrives: a JSON body of bounded length, or none.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Request};
use serde::de::DeserializeOwned;

use crate::command::{CommandError, Kind};

/// Longest body, bytes: the longest that makes sense, a path and some names, is a hundredth of it.
const MAX_BODY: usize = 1 << 20;

/// A request's body, read and checked.
pub(super) struct Body(Vec<u8>);

impl Body {
    /// Reads the whole body. One that is not empty must be called `application/json`, which a form in a web page cannot do.
    pub(super) async fn read(request: Request<Incoming>) -> Result<Self, CommandError> {
        let (head, body) = request.into_parts();
        let collected = Limited::new(body, MAX_BODY)
            .collect()
            .await
            .map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    CommandError::new(
                        Kind::TooLarge,
                        format!("the body is longer than {MAX_BODY} bytes"),
                    )
                } else {
                    CommandError::usage("the body did not arrive whole")
                }
            })?;
        let bytes = collected.to_bytes().to_vec();
        if !bytes.is_empty() && !is_json(&head.headers) {
            return Err(CommandError::new(
                Kind::MediaType,
                "the body must be application/json",
            ));
        }
        Ok(Self(bytes))
    }

    /// Reads it as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        let bytes = if self.0.is_empty() {
            b"{}"
        } else {
            &self.0[..]
        };
        serde_json::from_slice(bytes)
            .map_err(|error| CommandError::usage(format!("the body does not fit: {error}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    value
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
