//! The first words on a control stream: each side says who it is and proves it.
//!
//! ```text
//! both   Hello: version, suite, {mesh id, device id, signing key, instance, challenge, port}
//! both   proof: signature by the signing key over both challenges, both transport keys, the role and the mesh id
//! ```
//!
//! The channel has proved the transport key; this proves the signing key and binds the two. Guards against a device that kept its
//! PeerId but not its keys, against replay and reflection (the signature covers fresh challenges and the role), and against meshes
//! and versions meeting by mistake. Nothing is believed before the proof, and nothing is ever re-keyed here.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use minicbor::{Decode, Encode};
use ownmesh_crypto::hello::{self, Role};
use ownmesh_crypto::{DeviceId, DeviceKeys, MeshId};
use tokio::time::timeout;

use super::WIRE_VERSION;
use super::frame::{self, Frame, FrameError, FrameReader, HELLO_MAX};

/// The only suite of signatures there is: Ed25519.
const SUITE: u8 = 1;
/// Both messages both ways.
pub(crate) const HELLO_TIME: Duration = Duration::from_secs(10);
/// A proof's length, bytes.
const PROOF: usize = 64;

/// What we say, on every connection alike.
#[derive(Clone)]
pub(crate) struct Ours {
    pub(crate) keys: Arc<DeviceKeys>,
    pub(crate) mesh_id: MeshId,
    pub(crate) instance: u64,
}

/// What we know before the first word.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) device: DeviceId,
    pub(crate) sign: [u8; 32],
    pub(crate) transport: [u8; 32],
    /// Whether this end opened the connection.
    pub(crate) dialer: bool,
    /// Where we listen; 0: nowhere.
    pub(crate) own_port: u16,
}

/// What the peer told of itself, proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) instance: u64,
    pub(crate) port: u16,
}

/// Why the peer was not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the peer speaks version {0}")]
    Version(u8),
    #[error("the peer belongs to another mesh")]
    WrongMesh,
    #[error("the peer shows another key than pinned")]
    WrongKey { shown: [u8; 32] },
    #[error("the peer's hello cannot be read or is not proved")]
    Bad,
    #[error("the stream ended before hello was over")]
    Ended,
}

impl From<FrameError> for HelloError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(_) => Self::Ended,
            FrameError::TooLong { .. } | FrameError::Stalled => Self::Bad,
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Body {
    #[n(0)]
    mesh_id: MeshId,
    #[n(1)]
    device: DeviceId,
    #[cbor(n(2), with = "minicbor::bytes")]
    sign: [u8; 32],
    #[n(3)]
    instance: u64,
    #[cbor(n(4), with = "minicbor::bytes")]
    challenge: [u8; 32],
    #[n(5)]
    port: u16,
}

/// Says hello and hears it.
pub(crate) async fn exchange<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    ours: &Ours,
    expected: &Expected,
) -> Result<Proven, HelloError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    timeout(HELLO_TIME, exchange_untimed(reader, writer, ours, expected))
        .await
        .map_err(|_| HelloError::Bad)?
}

async fn exchange_untimed<R, W>(
    reader: &mut FrameReader<R>,
    writer: &mut W,
    ours: &Ours,
    expected: &Expected,
) -> Result<Proven, HelloError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge).map_err(|_| HelloError::Bad)?;
    let public = ours.keys.public();
    let said = Body {
        mesh_id: ours.mesh_id,
        device: public.device_id(),
        sign: public.sign,
        instance: ours.instance,
        challenge,
        port: expected.own_port,
    };
    frame::write(writer, &encode(&said)).await?;
    frame::flush(writer).await?;

    let heard = decode(&data(reader.next(HELLO_MAX).await?)?)?;
    if heard.mesh_id != ours.mesh_id {
        return Err(HelloError::WrongMesh);
    }
    if heard.sign != expected.sign || heard.device != expected.device {
        return Err(HelloError::WrongKey { shown: heard.sign });
    }

    let view = hello::Hello {
        mesh_id: ours.mesh_id,
        role: if expected.dialer {
            Role::Dialer
        } else {
            Role::Listener
        },
        challenge_peer: heard.challenge,
        challenge_own: challenge,
        transport_peer: expected.transport,
        transport_own: public.transport,
    };
    frame::write(writer, &hello::sign(&ours.keys, &view)).await?;
    frame::flush(writer).await?;
    let proof: [u8; PROOF] = data(reader.next(PROOF).await?)?
        .try_into()
        .map_err(|_| HelloError::Bad)?;
    hello::verify(&expected.sign, &view, &proof).map_err(|_| HelloError::Bad)?;
    Ok(Proven {
        instance: heard.instance,
        port: heard.port,
    })
}

fn data(frame: Frame) -> Result<Vec<u8>, HelloError> {
    match frame {
        Frame::Data(bytes) => Ok(bytes),
        Frame::End => Err(HelloError::Ended),
        Frame::Ping | Frame::Pong => Err(HelloError::Bad),
    }
}

fn encode(body: &Body) -> Vec<u8> {
    let mut out = vec![WIRE_VERSION, SUITE];
    // Writing to memory cannot fail; were it to, the peer would refuse the short Hello.
    let _ = minicbor::encode(body, &mut out);
    out
}

fn decode(bytes: &[u8]) -> Result<Body, HelloError> {
    match bytes {
        [WIRE_VERSION, SUITE, body @ ..] => minicbor::decode(body).map_err(|_| HelloError::Bad),
        [WIRE_VERSION, ..] | [] => Err(HelloError::Bad),
        [version, ..] => Err(HelloError::Version(*version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::DeviceSeed;
    use tokio::io::{DuplexStream, split};

    // tokio's in-memory pipe under the futures traits.
    struct Pipe(DuplexStream);

    impl AsyncRead for Pipe {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &mut [u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let mut buf = tokio::io::ReadBuf::new(buf);
            std::task::ready!(tokio::io::AsyncRead::poll_read(
                std::pin::Pin::new(&mut self.0),
                cx,
                &mut buf
            ))?;
            std::task::Poll::Ready(Ok(buf.filled().len()))
        }
    }

    impl AsyncWrite for Pipe {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            tokio::io::AsyncWrite::poll_write(std::pin::Pin::new(&mut self.0), cx, buf)
        }

        fn poll_flush(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            tokio::io::AsyncWrite::poll_flush(std::pin::Pin::new(&mut self.0), cx)
        }

        fn poll_close(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(&mut self.0), cx)
        }
    }

    fn device(seed: u8, instance: u64) -> Ours {
        let keys = Arc::new(DeviceKeys::from_seed(&DeviceSeed::from_bytes([seed; 32])));
        Ours {
            keys,
            mesh_id: MeshId::from_bytes([1; 16]),
            instance,
        }
    }

    fn expects(other: &Ours, dialer: bool) -> Expected {
        let public = other.keys.public();
        Expected {
            device: public.device_id(),
            sign: public.sign,
            transport: public.transport,
            dialer,
            own_port: 7,
        }
    }

    async fn say(ours: &Ours, expected: &Expected, io: DuplexStream) -> Result<Proven, HelloError> {
        let (read, mut write) = futures::io::AsyncReadExt::split(Pipe(io));
        exchange(&mut FrameReader::new(read), &mut write, ours, expected).await
    }

    #[tokio::test]
    async fn two_devices_prove_themselves() {
        let (laptop, nas) = (device(1, 10), device(2, 20));
        let (a, b) = tokio::io::duplex(4096);
        let (to_nas, to_laptop) = (expects(&nas, true), expects(&laptop, false));
        let (heard, answered) = tokio::join!(say(&laptop, &to_nas, a), say(&nas, &to_laptop, b));
        assert_eq!(
            heard.unwrap(),
            Proven {
                instance: 20,
                port: 7
            }
        );
        assert_eq!(
            answered.unwrap(),
            Proven {
                instance: 10,
                port: 7
            }
        );
    }

    /// Security test 28.
    #[tokio::test]
    async fn another_key_mesh_role_or_version_is_refused() {
        let (laptop, nas, other) = (device(1, 10), device(2, 20), device(3, 30));
        let stranger = Ours {
            mesh_id: MeshId::from_bytes([2; 16]),
            ..nas.clone()
        };
        let cases: [(&Ours, bool, fn(&HelloError) -> bool); 3] = [
            (&other, false, |e| matches!(e, HelloError::WrongKey { .. })),
            (&stranger, false, |e| matches!(e, HelloError::WrongMesh)),
            // both claim to be the dialer: a reflected proof
            (&nas, true, |e| {
                matches!(e, HelloError::Bad | HelloError::Ended)
            }),
        ];
        for (peer, dialer, right) in cases {
            let (a, b) = tokio::io::duplex(4096);
            let (to_nas, to_laptop) = (expects(&nas, true), expects(&laptop, dialer));
            let (heard, _) = tokio::join!(say(&laptop, &to_nas, a), say(peer, &to_laptop, b));
            let error = heard.unwrap_err();
            assert!(right(&error), "{error:?}");
        }
        let mut bytes = Vec::new();
        frame::write(&mut bytes, &[9, 9, 9]).await.unwrap();
        let (a, b) = tokio::io::duplex(4096);
        let (_keep, mut raw) = split(b);
        tokio::io::AsyncWriteExt::write_all(&mut raw, &bytes)
            .await
            .unwrap();
        assert!(matches!(
            say(&laptop, &expects(&nas, true), a).await,
            Err(HelloError::Version(9))
        ));
    }
}
