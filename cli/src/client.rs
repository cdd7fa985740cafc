//! Speaks to the node: HTTP/1.1 over its Unix socket, one connection a request.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use ownmesh_node::command::{CommandError, ErrorReply};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Result;

/// Where a node answers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Where it answers.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether somebody listens at all.
    pub(crate) async fn listens(&self) -> bool {
        connect(&self.socket).await.is_ok()
    }

    /// Asks for something.
    pub(crate) async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R> {
        self.request(Method::GET, path, None::<&()>).await
    }

    /// Orders something.
    pub(crate) async fn post<R: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<R> {
        self.request(Method::POST, path, body).await
    }

    /// Orders something that is done without an answer worth reading.
    pub(crate) async fn order(&self, path: &str) -> Result<()> {
        self.request::<Value>(Method::POST, path, None::<&()>)
            .await
            .map(drop)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn request<R: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<R> {
        let response = self.send(method, path, body).await?;
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(broken)?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| {
            CommandError::failed(format!("the node's answer does not fit: {error}"))
        })
    }

    /// Sends a request and reads the answer line by line. Dropping the lines ends the request.
    pub(crate) async fn lines(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Lines> {
        Ok(Lines {
            body: self.send(method, path, body).await?.into_body(),
            buffer: Vec::new(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>> {
        let bytes = match body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|error| CommandError::failed(format!("cannot ask: {error}")))?,
            None => Vec::new(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost");
        if !bytes.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|error| CommandError::usage(format!("cannot ask for {path}: {error}")))?;
        let stream = connect(&self.socket).await.map_err(|_| not_running())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(broken)?;
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(broken)?
            .to_bytes();
        match serde_json::from_slice::<ErrorReply>(&bytes) {
            Ok(reply) => Err(reply.error),
            Err(_) => Err(CommandError::failed(format!("the node answered {status}"))),
        }
    }
}

/// An answer that goes on: one JSON object a line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next object; `None` when the node has ended the answer.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|error| {
                    CommandError::failed(format!("the node's answer does not fit: {error}"))
                });
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(unix)]
async fn connect(
    socket: &Path,
) -> std::io::Result<hyper_util::rt::TokioIo<tokio::net::UnixStream>> {
    tokio::net::UnixStream::connect(socket)
        .await
        .map(hyper_util::rt::TokioIo::new)
}

#[cfg(not(unix))]
async fn connect(_: &Path) -> std::io::Result<hyper_util::rt::TokioIo<tokio::net::TcpStream>> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

/// No node answers.
pub(crate) fn not_running() -> CommandError {
    CommandError::not_running("the node is not running").hint("mesh up starts it")
}

fn broken(_: hyper::Error) -> CommandError {
    CommandError::not_running("the node went away before it answered")
        .hint("mesh up starts it; its log says what happened")
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_stay_one_segment() {
        assert_eq!(super::segment("my docs/ä.1"), "my%20docs%2F%C3%A4.1");
    }
}
