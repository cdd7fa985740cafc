//! A wire between two network namespaces, made without being root.
//!
//! Two processes that do nothing hold the namespaces; both belong to one user namespace, in which the tester is root.
//! When they end, everything ends with them: addresses, links, mounts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Two ends of a wire; or more ends of a switch, which is the last holder's.
pub(crate) struct Lan {
    holders: Vec<Child>,
}

impl Lan {
    /// Lays the wire, or says why this machine does not let it.
    pub(crate) fn new() -> Result<Self, String> {
        let first = first_namespace()?;
        let second = another_namespace(&first)?;
        let lan = Self {
            holders: vec![first, second],
        };
        let there = lan.holder(1).to_string();
        lan.run(
            0,
            &format!("ip link add eth0 type veth peer name eth0 netns {there}"),
        )?;
        for side in 0..2 {
            lan.run(side, "ip link set lo up")?;
            lan.run(
                side,
                &format!("ip address add 10.77.0.{}/24 dev eth0", side + 1),
            )?;
            lan.run(side, "ip link set eth0 up")?;
        }
        Ok(lan)
    }

    /// `sides` ends at a switch, each with an address of its own.
    pub(crate) fn switched(sides: usize) -> Result<Self, String> {
        let mut holders = vec![first_namespace()?];
        for _ in 0..sides {
            holders.push(another_namespace(&holders[0])?);
        }
        let lan = Self { holders };
        lan.run(
            sides,
            "ip link add br0 type bridge mcast_snooping 0; ip link set br0 up",
        )?;
        for side in 0..sides {
            let there = lan.holder(side);
            lan.run(
                sides,
                &format!(
                    "ip link add port{side} type veth peer name eth0 netns {there}
                     ip link set port{side} master br0 up"
                ),
            )?;
            lan.run(
                side,
                &format!(
                    "ip link set lo up
                     ip address add 10.77.0.{}/16 dev eth0
                     ip link set eth0 up",
                    side + 1
                ),
            )?;
        }
        Ok(lan)
    }

    /// The process that holds a side.
    pub(crate) fn holder(&self, side: usize) -> u32 {
        self.holders[side].id()
    }

    /// Words to put before a command that is to run on a side.
    pub(crate) fn enter(&self, side: usize) -> Vec<String> {
        let pid = self.holder(side).to_string();
        let words = [
            "nsenter",
            "-t",
            &pid,
            "-U",
            "-n",
            "-m",
            "--preserve-credentials",
            "--",
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Runs a line on a side.
    pub(crate) fn run(&self, side: usize, line: &str) -> Result<String, String> {
        let mut words = self.enter(side);
        words.extend(["sh", "-ec", line].map(str::to_owned));
        let output = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", words[0]))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!(
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))
    }

    /// Gives both sides addresses of another network.
    pub(crate) fn renumber(&self, network: &str) {
        for side in 0..2 {
            let address = format!("{network}.{}/24", side + 1);
            self.run(
                side,
                &format!("ip address flush dev eth0; ip address add {address} dev eth0"),
            )
            .unwrap();
        }
    }

    /// Cuts the wire.
    pub(crate) fn cut(&self) {
        self.run(0, "ip link set eth0 down").unwrap();
        self.run(1, "ip link set eth0 down").unwrap();
    }

    /// Mends it.
    pub(crate) fn mend(&self) {
        self.run(0, "ip link set eth0 up").unwrap();
        self.run(1, "ip link set eth0 up").unwrap();
    }

    /// Lets the first two ends of a switch hear everybody but each other, or each other too.
    pub(crate) fn part(&self, apart: bool) {
        let apart = if apart { "on" } else { "off" };
        let line = format!(
            "ip link set port0 type bridge_slave isolated {apart}
             ip link set port1 type bridge_slave isolated {apart}"
        );
        self.run(self.holders.len() - 1, &line).unwrap();
    }

    /// Established TCP connections from other machines at a side.
    pub(crate) fn connections(&self, side: usize) -> usize {
        let table = self.run(side, "cat /proc/net/tcp").unwrap();
        let from_afar = |line: &&str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.get(3) == Some(&"01") && words.get(2).is_some_and(|to| to.contains("094D0A"))
        };
        table.lines().filter(from_afar).count()
    }

    /// Bytes that a side has sent and received, frames and all.
    pub(crate) fn counters(&self, side: usize) -> (u64, u64) {
        let read = |what: &str| -> u64 {
            let line =
                format!("cat /proc/net/dev | grep eth0: | tr -s ' :' ' ' | cut -d' ' -f{what}");
            self.run(side, &line).unwrap().trim().parse().unwrap()
        };
        (read("11"), read("3"))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _gone = holder.kill();
            let _gone = holder.wait();
        }
    }
}

/// What a holder does: it says that it is there, and waits for its end.
const HOLD: &str = "echo ready; exec cat";

fn first_namespace() -> Result<Child, String> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--"]);
    command.args(["sh", "-c", HOLD]);
    held(command)
}

/// One in the same user namespace.
fn another_namespace(first: &Child) -> Result<Child, String> {
    let mut command = Command::new("nsenter");
    let first = first.id().to_string();
    command.args(["-t", &first, "-U", "-m", "--preserve-credentials", "--"]);
    command.args(["unshare", "--net", "--mount", "--", "sh", "-c", HOLD]);
    held(command)
}

/// Starts a holder; it has said that it is there when this returns.
pub(crate) fn held(mut command: Command) -> Result<Child, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("unshare: {error}"))?;
    let mut line = String::new();
    let said = child
        .stdout
        .take()
        .map(BufReader::new)
        .map(|mut out| out.read_line(&mut line));
    if said.is_some_and(|said| said.is_ok()) && line == "ready\n" {
        return Ok(child);
    }
    let _gone = child.kill();
    let output = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
