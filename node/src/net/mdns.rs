//! Adverts on the local network by multicast DNS. The only file that names mdns-sd.
//!
//! Names are random and last as long as the process, so that a device cannot be followed from network to network by them. Guards
//! against adverts of others: what is heard is handed on only if the caller's test accepts its text, and the text proves no more
//! than membership.

use std::net::{IpAddr, SocketAddr};

use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::sync::mpsc;

use super::PairAdvert;
use super::discovery::{Found, Sought};
use super::runtime_files::{bytes, hex};

/// Adverts of a mesh's devices.
const MESH: &str = "_mesh._tcp.local.";
/// Adverts of open pairing windows.
const PAIR: &str = "_mesh-pair._tcp.local.";
/// How often changes of the interfaces are looked for, seconds: a new network is joined within this.
const INTERFACES_EVERY: u32 = 5;

/// The adverts of one process; withdrawn when dropped.
pub(crate) struct Mdns {
    daemon: ServiceDaemon,
    host: String,
    pair: Option<String>,
}

/// A test for the text of an advert, nonce and tag.
type IsOurs = Box<dyn Fn(&[u8; 16], &[u8; 16]) -> bool + Send>;

impl Mdns {
    /// Starts the multicast thread. Without any usable interface it waits for one.
    pub(crate) fn start() -> Result<Self, String> {
        let daemon = ServiceDaemon::new().map_err(|e| e.to_string())?;
        // Nodes on one machine use the runtime directory.
        let _ = daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6]);
        let _ = daemon.set_ip_check_interval(INTERFACES_EVERY);
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|e| e.to_string())?;
        Ok(Self {
            daemon,
            host: hex(&name),
            pair: None,
        })
    }

    /// Announces this device to its mesh.
    pub(crate) fn announce(
        &self,
        port: u16,
        nonce: &[u8; 16],
        tag: &[u8; 16],
    ) -> Result<(), String> {
        let (nonce, tag) = (hex(nonce), hex(tag));
        self.register(MESH, port, &[("v", "0"), ("n", &nonce), ("t", &tag)])
            .map(drop)
    }

    /// Announces an open window, or no longer.
    pub(crate) fn announce_pairing(
        &mut self,
        port: u16,
        pairing: Option<&PairAdvert>,
    ) -> Result<(), String> {
        if let Some(name) = self.pair.take() {
            let _ = self.daemon.unregister(&name);
        }
        if let Some(pairing) = pairing {
            let text = pair_text(pairing);
            let text: Vec<(&str, &str)> = text.iter().map(|(key, of)| (*key, &**of)).collect();
            self.pair = Some(self.register(PAIR, port, &text)?);
        }
        Ok(())
    }

    /// Looks for devices of the mesh; a blocking thread until [`Mdns`] is dropped.
    pub(crate) fn browse(&self, is_ours: IsOurs, found: mpsc::Sender<Found>) -> Result<(), String> {
        self.listen(MESH, found, move |text| {
            let nonce = bytes(text("n")?)?;
            is_ours(&nonce, &bytes(text("t")?)?).then_some(())
        })
    }

    /// Looks for the sponsor of this window.
    pub(crate) fn browse_pairing(
        &self,
        sought: Sought,
        found: mpsc::Sender<Found>,
    ) -> Result<(), String> {
        self.listen(PAIR, found, move |text| {
            let window = text("s").and_then(bytes);
            let nameplate = text("c").and_then(|digits| digits.parse().ok());
            sought.fits(window, nameplate).then_some(())
        })
    }

    fn register(&self, service: &str, port: u16, text: &[(&str, &str)]) -> Result<String, String> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|e| e.to_string())?;
        let host = format!("{}.local.", self.host);
        let info = ServiceInfo::new(service, &hex(&name), &host, "", port, text)
            .map_err(|e| e.to_string())?
            .enable_addr_auto();
        let fullname = info.get_fullname().to_owned();
        self.daemon.register(info).map_err(|e| e.to_string())?;
        Ok(fullname)
    }

    fn listen(
        &self,
        service: &str,
        found: mpsc::Sender<Found>,
        accept: impl for<'a> Fn(&dyn Fn(&str) -> Option<&'a str>) -> Option<()> + Send + 'static,
    ) -> Result<(), String> {
        let events = self.daemon.browse(service).map_err(|e| e.to_string())?;
        let own_host = format!("{}.local.", self.host);
        let hear = move || {
            // Ends when the daemon does, or when nobody listens any more.
            while let Ok(event) = events.recv() {
                let news = match event {
                    ServiceEvent::ServiceResolved(service) => {
                        let text = |key: &str| service.get_property_val_str(key);
                        if service.get_hostname() == own_host
                            || text("v") != Some("0")
                            || accept(&text).is_none()
                        {
                            continue;
                        }
                        let at = |ip: IpAddr| SocketAddr::new(ip, service.get_port());
                        let addresses = service
                            .get_addresses()
                            .iter()
                            .map(|ip| at(ip.to_ip_addr()))
                            .collect();
                        Found::At {
                            source: service.get_fullname().to_owned(),
                            addresses,
                        }
                    }
                    ServiceEvent::ServiceRemoved(_, fullname) => Found::Gone { source: fullname },
                    _ => continue,
                };
                if found.blocking_send(news).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("mesh-mdns".into())
            .spawn(hear)
            .map(drop)
            .map_err(|e| e.to_string())
    }
}

/// The text of a window's advert. All of it is public: the code's secret digits are nowhere near.
fn pair_text(pairing: &PairAdvert) -> Vec<(&'static str, String)> {
    let mut text = vec![("v", "0".to_owned()), ("s", hex(&pairing.window))];
    text.extend(pairing.nameplate.map(|digits| ("c", digits.to_string())));
    text
}

impl Drop for Mdns {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::pairing::Nameplate;

    /// The exact text that docs/format/wire.md promises.
    #[test]
    fn a_windows_advert() {
        let shown = |nameplate| {
            let window = [0xab; 8];
            let text = pair_text(&PairAdvert { window, nameplate });
            let line = |(key, of)| format!("{key}={of}");
            text.into_iter().map(line).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(Nameplate::new(7)), "v=0 s=abababababababab c=007");
        assert_eq!(shown(None), "v=0 s=abababababababab");
    }
}
