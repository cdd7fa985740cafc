//! What the system and the network allow.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::Check;
use crate::db::{Connection, base, marks};

/// How long this machine may take to answer itself.
const ANSWER: Duration = Duration::from_millis(500);
/// Where devices on a LAN announce themselves (RFC 6762).
const MDNS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// Directories to be watched against what the system allows.
pub(super) fn watches(conn: &Connection) -> Check {
    let directories = base::directories(conn).unwrap_or(0);
    if !cfg!(target_os = "linux") {
        return Check::fine("watches", format!("{directories} directories are watched"));
    }
    let text = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
    compare(directories, text.ok().and_then(|t| t.trim().parse().ok()))
}

fn compare(directories: u64, allowed: Option<u64>) -> Check {
    let Some(allowed) = allowed else {
        let finding = format!("how many of {directories} directories may be watched is not known");
        return Check::note("watches", finding, "");
    };
    let finding = format!("{directories} directories, of {allowed} that the system lets you watch");
    // Other programs of the same user watch too.
    let wanted = (directories * 2).next_power_of_two().max(1 << 19);
    let remedy = format!("sudo sysctl fs.inotify.max_user_watches={wanted}");
    if directories >= allowed {
        Check::wrong("watches", finding, remedy)
    } else if directories * 10 >= allowed * 8 {
        Check::note("watches", finding, remedy)
    } else {
        Check::fine("watches", finding)
    }
}

/// Whether devices on the local network can be found without being told where they are.
pub(super) fn multicast() -> Check {
    let joined = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.join_multicast_v4(&MDNS, &Ipv4Addr::UNSPECIFIED));
    match joined {
        Ok(()) => Check::fine("multicast", "devices on the local network can be found"),
        Err(error) => Check::note(
            "multicast",
            format!("no multicast here ({error}): others are found at their last addresses only"),
            "pair with mesh pair CODE --at HOST:PORT; in a container, use the network of the host",
        ),
    }
}

/// Whether the port that others dial is open on this machine.
pub(super) fn port(conn: &Connection, running: bool) -> Option<Check> {
    let stored = marks::get(conn, "port").ok().flatten()?;
    let port = u16::from_be_bytes(stored.try_into().ok()?);
    if !running {
        return None;
    }
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Some(match TcpStream::connect_timeout(&here, ANSWER) {
        Ok(_) => Check::fine(
            "port",
            format!(
                "TCP port {port} answers on this machine; a firewall must let the others reach it"
            ),
        ),
        // It may listen on one address only.
        Err(error) => Check::note(
            "port",
            format!("TCP port {port} does not answer on 127.0.0.1: {error}"),
            "if --listen names an address that is right; else: mesh down, then mesh up",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn too_few_watches_name_the_number_to_ask_for() {
        assert_eq!(compare(10, Some(8_192)).level, Level::Ok);
        assert_eq!(compare(7_000, Some(8_192)).level, Level::Note);
        let wrong = compare(600_000, Some(65_536));
        assert_eq!(wrong.level, Level::Wrong);
        assert_eq!(
            wrong.remedy,
            "sudo sysctl fs.inotify.max_user_watches=2097152"
        );
        assert_eq!(compare(10, None).level, Level::Note);
    }
}
