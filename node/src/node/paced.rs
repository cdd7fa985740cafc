//! The road of contents with the user's limits on it.
//!
//! A stream passes in slices, each of which the [`Pacer`] lets through or asks to wait; and it ends when its
//! space is told to rest, as if the connection had been lost, so that what came of a large content is kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use ownmesh_crypto::DeviceId;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use crate::content::road::{ContentRoad, Duplex, RoadError};
use crate::engine::Engine;
use crate::limits::{Lane, Pacer};
use crate::net::NetHandle;

/// What a stream carries before it counts as bulk, bytes: a small file's content and more.
const SMALL: u64 = 64 << 10;

/// Limits, and the moment their time counts from.
#[derive(Clone)]
pub(super) struct Pace {
    pub(super) pacer: Arc<Pacer>,
    pub(super) origin: Instant,
}

impl Pace {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl super::Runner {
    pub(super) fn pace(&self, engine: &Engine) -> Pace {
        Pace {
            pacer: engine.pacer().clone(),
            origin: self.clock.origin,
        }
    }
}

/// Opens streams that keep to the limits.
pub(super) struct PacedRoad {
    pub(super) net: NetHandle,
    pub(super) pace: Pace,
    /// Turns true when the space is to rest.
    pub(super) rest: watch::Receiver<bool>,
}

impl ContentRoad for PacedRoad {
    fn open<'a>(&'a self, peer: &'a DeviceId) -> BoxFuture<'a, Result<Box<dyn Duplex>, RoadError>> {
        Box::pin(async {
            if *self.rest.borrow() {
                return Err(RoadError::NotConnected);
            }
            let stream = ContentRoad::open(&self.net, peer).await?;
            let mut rest = self.rest.clone();
            let rested = Box::pin(async move {
                if rest.wait_for(|rest| *rest).await.is_err() {
                    // Nobody is left who could ask for it.
                    std::future::pending::<()>().await;
                }
            });
            let paced = Paced::new(stream, self.pace.clone(), Some(rested));
            Ok(Box::new(paced) as Box<dyn Duplex>)
        })
    }
}

/// A stream that keeps to the limits.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    rested: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    reading: Half,
    writing: Half,
}

#[derive(Default)]
struct Half {
    passed: u64,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Half {
    fn lane(&self) -> Lane {
        if self.passed < SMALL {
            Lane::Small
        } else {
            Lane::Bulk
        }
    }

    /// Ready with what may pass.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        may: impl Fn(Lane) -> Result<usize, u64>,
    ) -> Poll<usize> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match may(self.lane()) {
                Ok(slice) => return Poll::Ready(slice),
                Err(wait) => self.waiting = Some(Box::pin(sleep(Duration::from_millis(wait)))),
            }
        }
    }
}

impl<S> Paced<S> {
    pub(super) fn new(
        stream: S,
        pace: Pace,
        rested: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ) -> Self {
        Self {
            stream,
            pace,
            rested,
            reading: Half::default(),
            writing: Half::default(),
        }
    }

    fn check_rest(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let rested = self.rested.as_mut();
        if rested.is_some_and(|rested| rested.as_mut().poll(cx).is_ready()) {
            // Polled no more: it is over.
            self.rested = Some(Box::pin(std::future::ready(())));
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.check_rest(cx)?;
        let pace = &this.pace;
        let may = |lane| pace.pacer.may_receive(pace.now(), lane);
        let slice = ready!(this.reading.poll(cx, may)).min(buf.len());
        let polled = Pin::new(&mut this.stream).poll_read(cx, &mut buf[..slice]);
        if let Poll::Ready(Ok(n)) = polled {
            this.reading.passed += n as u64;
            this.pace.pacer.received(this.pace.now(), n);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.check_rest(cx)?;
        let pace = &this.pace;
        let may = |lane| pace.pacer.may_send(pace.now(), lane);
        let slice = ready!(this.writing.poll(cx, may)).min(buf.len());
        let polled = Pin::new(&mut this.stream).poll_write(cx, &buf[..slice]);
        if let Poll::Ready(Ok(n)) = polled {
            this.writing.passed += n as u64;
            this.pace.pacer.sent(this.pace.now(), n);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, Cursor};

    use super::*;
    use crate::limits::Limits;

    fn pace(up: u64) -> Pace {
        let pacer = Arc::new(Pacer::default());
        let limits = Limits {
            up: Some(up),
            ..Limits::default()
        };
        pacer.set(0, limits);
        Pace {
            pacer,
            origin: Instant::now(),
        }
    }

    #[tokio::test]
    async fn a_small_answer_passes_at_once_and_a_large_one_in_its_time() {
        let pace = pace(256 << 10);
        let begun = Instant::now();
        let mut small = Paced::new(Cursor::new(Vec::new()), pace.clone(), None);
        small.write_all(&[1; 32 << 10]).await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(250));
        let mut large = Paced::new(Cursor::new(Vec::new()), pace, None);
        large.write_all(&vec![1; 512 << 10]).await.unwrap();
        // 544 KiB at 256 KiB/s, a quarter of a second's burst and one slice of debt aside.
        assert!(begun.elapsed() > Duration::from_millis(1_500));
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_space_rests() {
        let (told, rest) = watch::channel(false);
        let mut rest = rest;
        let rested = Box::pin(async move { drop(rest.wait_for(|r| *r).await) });
        let mut paced = Paced::new(Cursor::new(vec![7; 100]), pace(1 << 20), Some(rested));
        let mut buf = [0; 10];
        paced.read_exact(&mut buf).await.unwrap();
        told.send_replace(true);
        assert!(paced.read_exact(&mut buf).await.is_err());
        assert!(paced.read_exact(&mut buf).await.is_err());
    }
}
