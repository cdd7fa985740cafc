//! Length-prefixed frames on a stream: `u32` big-endian length, then that many bytes.
//!
//! Guards against lengths that would take memory (checked before any is given, and memory grows with what really arrives) and
//! against peers that stop in the middle of a frame or drip it.

use std::io;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

/// Before Hello is over, bytes: Hello takes about 100.
pub(crate) const HELLO_MAX: usize = 4 << 10;
/// A pairing message before the check words match, bytes.
pub(crate) const PAIR_MAX: usize = 16 << 10;
/// No byte for this long inside a frame ends the stream.
const STALL: Duration = Duration::from_secs(30);
/// Slowest pace of a long frame, bytes a second: 16 KiB/s takes 4 min for the longest; slower links are of no use to sync.
const PACE: u64 = 16 << 10;
/// Memory given ahead of what arrived, bytes.
const AHEAD: usize = 64 << 10;

/// Length word of a question for a sign of life. No frame has this length, so it needs no place inside messages.
pub(crate) const PING: u32 = u32::MAX;
/// Length word of the answer.
pub(crate) const PONG: u32 = u32::MAX - 1;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Data(Vec<u8>),
    Ping,
    Pong,
    /// The other side has finished, between two frames.
    End,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {len} bytes where {limit} are allowed")]
    TooLong { len: usize, limit: usize },
    #[error("the stream stalled inside a frame")]
    Stalled,
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

/// Reads frames. Waiting for the next one may be cancelled without losing anything; reading its body may not.
pub(crate) struct FrameReader<R> {
    io: R,
    head: [u8; 4],
    got: usize,
    stall: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            head: [0; 4],
            got: 0,
            stall: STALL,
        }
    }

    /// Waits, as long as it takes, until a frame begins; `false` when the other side has finished. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> io::Result<bool> {
        if self.got == 0 {
            self.got = self.io.read(&mut self.head).await?;
        }
        Ok(self.got > 0)
    }

    /// Reads the next frame of at most `limit` bytes.
    pub(crate) async fn next(&mut self, limit: usize) -> Result<Frame, FrameError> {
        if !self.wait().await? {
            return Ok(Frame::End);
        }
        let head = &mut self.head[self.got..];
        timeout(self.stall, self.io.read_exact(head))
            .await
            .map_err(|_| FrameError::Stalled)??;
        self.got = 0;
        let word = u32::from_be_bytes(self.head);
        match word {
            PING => return Ok(Frame::Ping),
            PONG => return Ok(Frame::Pong),
            _ => {}
        }
        let len = word as usize;
        if len > limit {
            return Err(FrameError::TooLong { len, limit });
        }
        self.body(len).await.map(Frame::Data)
    }

    async fn body(&mut self, len: usize) -> Result<Vec<u8>, FrameError> {
        let last = Instant::now() + self.stall + Duration::from_secs(len as u64 / PACE);
        let mut body = Vec::with_capacity(len.min(AHEAD));
        while body.len() < len {
            let from = body.len();
            body.resize(len.min(from + AHEAD.max(from)), 0);
            let mut at = from;
            while at < body.len() {
                let until = last.min(Instant::now() + self.stall);
                let n = timeout_at(until, self.io.read(&mut body[at..]))
                    .await
                    .map_err(|_| FrameError::Stalled)??;
                if n == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                at += n;
            }
        }
        Ok(body)
    }
}

/// Writes frames without flushing; a write that makes no progress for half a minute fails.
pub(crate) async fn write<W: AsyncWrite + Unpin>(
    io: &mut W,
    body: &[u8],
) -> Result<(), FrameError> {
    // One write for short messages, so that they take one record of the channel.
    if body.len() <= AHEAD {
        let mut joined = Vec::with_capacity(4 + body.len());
        joined.extend_from_slice(&(body.len() as u32).to_be_bytes());
        joined.extend_from_slice(body);
        return write_all(io, &joined).await;
    }
    write_word(io, body.len() as u32).await?;
    write_all(io, body).await
}

/// Writes a bare length word: [`PING`] or [`PONG`].
pub(crate) async fn write_word<W: AsyncWrite + Unpin>(
    io: &mut W,
    word: u32,
) -> Result<(), FrameError> {
    write_all(io, &word.to_be_bytes()).await
}

/// Flushes, within the same time.
pub(crate) async fn flush<W: AsyncWrite + Unpin>(io: &mut W) -> Result<(), FrameError> {
    Ok(timeout(STALL, io.flush())
        .await
        .map_err(|_| FrameError::Stalled)??)
}

async fn write_all<W: AsyncWrite + Unpin>(io: &mut W, mut bytes: &[u8]) -> Result<(), FrameError> {
    while !bytes.is_empty() {
        let n = timeout(STALL, io.write(bytes))
            .await
            .map_err(|_| FrameError::Stalled)??;
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = &bytes[n..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;

    #[tokio::test]
    async fn frames_come_back_in_order() {
        let mut wire = Vec::new();
        let long = vec![7; 300_000];
        write(&mut wire, b"first").await.unwrap();
        write_word(&mut wire, PING).await.unwrap();
        write(&mut wire, &long).await.unwrap();
        write(&mut wire, b"").await.unwrap();
        let mut reader = FrameReader::new(Cursor::new(wire));
        assert_eq!(
            reader.next(10).await.unwrap(),
            Frame::Data(b"first".to_vec())
        );
        assert_eq!(reader.next(10).await.unwrap(), Frame::Ping);
        assert_eq!(reader.next(300_000).await.unwrap(), Frame::Data(long));
        assert_eq!(reader.next(10).await.unwrap(), Frame::Data(vec![]));
        assert_eq!(reader.next(10).await.unwrap(), Frame::End);
    }

    /// Security test 77.
    #[tokio::test]
    async fn a_length_is_refused_before_memory_is_given() {
        let mut reader = FrameReader::new(Cursor::new([0x7f, 0xff, 0xff, 0xff, 1, 2, 3]));
        assert!(matches!(
            reader.next(100).await,
            Err(FrameError::TooLong { limit: 100, .. })
        ));
        let mut cut = FrameReader::new(Cursor::new([0, 0, 0, 9, 1]));
        assert!(matches!(cut.next(100).await, Err(FrameError::Io(_))));
    }

    /// Security test 77.
    #[tokio::test]
    async fn a_frame_that_stops_half_way_ends() {
        struct Half(bool);
        impl AsyncRead for Half {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<io::Result<usize>> {
                if std::mem::replace(&mut self.0, false) {
                    buf[..2].copy_from_slice(&[0, 0]);
                    return std::task::Poll::Ready(Ok(2));
                }
                std::task::Poll::Pending
            }
        }
        let mut reader = FrameReader::new(Half(true));
        reader.stall = Duration::from_millis(20);
        assert!(matches!(reader.next(100).await, Err(FrameError::Stalled)));
    }
}
