//! The control stream of one connection: Hello, then messages both ways until it ends.
//!
//! One task per connection. It is the only one that touches the stream; the driver decides what becomes of it (see
//! [`super::links`]). Messages wait for the engine without holding up anybody else. Guards against silence, against a peer that
//! reads too slowly and against frames beyond the limits: each ends this connection and nothing more.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::counters::Tally;
use super::frame::{self, Frame, FrameError, FrameReader};
use super::hello::{self, Expected, HELLO_TIME, HelloError, Ours, Proven};
use super::links::Ended;
use super::outbox::{Next, Outbox};
use super::{CONTROL_MAX, Loss, NetEvent, OpenError, PairStream};

/// Nothing heard for this long: ask for a sign of life.
const QUIET: Duration = Duration::from_secs(10);
/// Unanswered questions before the peer counts as gone: half a minute in all.
const QUESTIONS: u32 = 2;
/// How long the other side may take to finish once we have.
const FINISH: Duration = Duration::from_secs(5);

/// What the driver tells a session.
#[derive(Debug)]
pub(crate) enum Ctl {
    /// Carry messages from and to here.
    Adopt(Arc<Outbox>),
    /// Ask for a sign of life; report [`Report::Alive`].
    Probe,
    /// End at a frame boundary.
    Retire,
    /// End now.
    Kill(Loss),
}

/// What a session tells the driver.
#[derive(Debug)]
pub(crate) enum Report {
    Proven(ConnectionId, Proven),
    Failed(ConnectionId, HelloError),
    Alive(ConnectionId),
    Ended(ConnectionId, Ended),
    PairEnded(PairStream),
}

/// One connection's session.
pub(crate) struct Session {
    pub(crate) connection: ConnectionId,
    pub(crate) ours: Ours,
    pub(crate) expected: Expected,
    pub(crate) tally: Arc<Tally>,
    pub(crate) ctl: mpsc::Receiver<Ctl>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) events: mpsc::Sender<NetEvent>,
}

impl Session {
    /// Runs until the stream, which may still be on its way, or the driver ends it.
    pub(crate) async fn run(self, stream: oneshot::Receiver<Result<Stream, OpenError>>) {
        let Self {
            connection,
            ours,
            expected,
            tally,
            mut ctl,
            reports,
            events,
        } = self;
        let Ok(Ok(Ok(stream))) = timeout(HELLO_TIME, stream).await else {
            let _ = reports
                .send(Report::Failed(connection, HelloError::Ended))
                .await;
            return;
        };
        let (read, mut write) = stream.split();
        let mut reader = FrameReader::new(read);
        match hello::exchange(&mut reader, &mut write, &ours, &expected).await {
            Ok(proven) => {
                if reports
                    .send(Report::Proven(connection, proven))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(error) => {
                let _ = reports.send(Report::Failed(connection, error)).await;
                return;
            }
        }
        let how = match adopted(&mut ctl).await {
            Err(how) => how,
            Ok(outbox) => {
                outbox.reopen();
                let lines = Lines {
                    connection,
                    expected: &expected,
                    tally: &tally,
                    reports: &reports,
                    events: &events,
                    outbox: &outbox,
                };
                lines.carry(reader, write, &mut ctl).await
            }
        };
        let _ = reports.send(Report::Ended(connection, how)).await;
    }
}

/// Waits until the driver wants this connection. Nothing is read meanwhile, so the other side's messages wait in its own queue.
async fn adopted(ctl: &mut mpsc::Receiver<Ctl>) -> Result<Arc<Outbox>, Ended> {
    loop {
        match ctl.recv().await {
            Some(Ctl::Adopt(outbox)) => return Ok(outbox),
            Some(Ctl::Probe) => {}
            Some(Ctl::Retire) => return Err(Ended::Clean),
            Some(Ctl::Kill(why)) => return Err(Ended::Lost(why)),
            None => return Err(Ended::Lost(Loss::Closed)),
        }
    }
}

/// What both directions need.
struct Lines<'a> {
    connection: ConnectionId,
    expected: &'a Expected,
    tally: &'a Tally,
    reports: &'a mpsc::Sender<Report>,
    events: &'a mpsc::Sender<NetEvent>,
    outbox: &'a Outbox,
}

impl Lines<'_> {
    async fn carry(
        &self,
        reader: FrameReader<ReadHalf<Stream>>,
        write: WriteHalf<Stream>,
        ctl: &mut mpsc::Receiver<Ctl>,
    ) -> Ended {
        let (reading, writing) = (self.read(reader), self.write(write));
        tokio::pin!(reading, writing);
        let (mut read_done, mut write_done) = (false, false);
        let mut deadline = None;
        loop {
            tokio::select! {
                word = ctl.recv() => match word {
                    Some(Ctl::Adopt(_)) => {}
                    Some(Ctl::Probe) => self.outbox.ping(),
                    Some(Ctl::Retire) => {
                        self.outbox.finish();
                        deadline.get_or_insert(Instant::now() + FINISH);
                    }
                    Some(Ctl::Kill(why)) => return Ended::Lost(why),
                    None => return Ended::Lost(Loss::Closed),
                },
                end = &mut writing, if !write_done => match end {
                    Ok(()) => write_done = true,
                    Err(why) => return Ended::Lost(why),
                },
                end = &mut reading, if !read_done => match end {
                    // The other side has finished: so do we, and keep what waits for the next connection.
                    Ok(()) => {
                        read_done = true;
                        self.outbox.finish();
                        deadline.get_or_insert(Instant::now() + FINISH);
                    }
                    Err(why) => return Ended::Lost(why),
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Ended::Lost(Loss::Closed);
                }
            }
            if read_done && write_done {
                return Ended::Clean;
            }
        }
    }

    async fn read(&self, mut reader: FrameReader<ReadHalf<Stream>>) -> Result<(), Loss> {
        let device = self.expected.device;
        let mut questions = 0;
        loop {
            match timeout(QUIET, reader.wait()).await {
                Err(_) if questions >= QUESTIONS => return Err(Loss::Silent),
                Err(_) => {
                    questions += 1;
                    self.outbox.ping();
                    continue;
                }
                Ok(Err(_)) => return Err(Loss::Closed),
                Ok(Ok(_)) => questions = 0,
            }
            match reader.next(CONTROL_MAX).await.map_err(loss)? {
                Frame::End => return Ok(()),
                Frame::Ping => self.outbox.pong(),
                Frame::Pong => {
                    if self
                        .reports
                        .send(Report::Alive(self.connection))
                        .await
                        .is_err()
                    {
                        return Err(Loss::Closed);
                    }
                }
                Frame::Data(bytes) => {
                    self.tally.received(bytes.len());
                    if self
                        .events
                        .send(NetEvent::Message { device, bytes })
                        .await
                        .is_err()
                    {
                        return Err(Loss::Closed);
                    }
                }
            }
        }
    }

    async fn write(&self, mut write: WriteHalf<Stream>) -> Result<(), Loss> {
        loop {
            let next = match self.outbox.take() {
                Some(next) => next,
                None => {
                    frame::flush(&mut write).await.map_err(loss)?;
                    self.outbox.next().await
                }
            };
            match next {
                Next::Ping => frame::write_word(&mut write, frame::PING)
                    .await
                    .map_err(loss)?,
                Next::Pong => frame::write_word(&mut write, frame::PONG)
                    .await
                    .map_err(loss)?,
                Next::Finish => {
                    frame::flush(&mut write).await.map_err(loss)?;
                    return timeout(FINISH, write.close())
                        .await
                        .map_err(|_| Loss::Stalled)?
                        .map_err(|_| Loss::Closed);
                }
                Next::Frames { frames, writable } => {
                    for body in frames {
                        frame::write(&mut write, &body).await.map_err(loss)?;
                        self.tally.sent(body.len());
                    }
                    let device = self.expected.device;
                    if writable
                        && self
                            .events
                            .send(NetEvent::Writable { device })
                            .await
                            .is_err()
                    {
                        return Err(Loss::Closed);
                    }
                }
            }
        }
    }
}

fn loss(error: FrameError) -> Loss {
    match error {
        FrameError::TooLong { .. } => Loss::Protocol,
        FrameError::Stalled => Loss::Stalled,
        FrameError::Io(_) => Loss::Closed,
    }
}
