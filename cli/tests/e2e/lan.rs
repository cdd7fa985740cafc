//! A wire between two network namespaces, made without being root.
//!
//! Two processes that do nothing hold the namespaces; both belong to one user namespace, in which the tester is root.
//! When they end, everything ends with them: addresses, links, mounts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Two ends of a wire.
pub(crate) struct Lan {
    holders: [Child; 2],
}

impl Lan {
    /// Lays the wire, or says why this machine does not let it.
    pub(crate) fn new() -> Result<Self, String> {
        let hold = "echo ready; exec cat";
        let mut first = Command::new("unshare");
        first.args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--",
            "sh",
            "-c",
            hold,
        ]);
        let first = held(first)?;
        let mut second = Command::new("nsenter");
        second.args([
            "-t",
            &first.id().to_string(),
            "-U",
            "-m",
            "--preserve-credentials",
            "--",
        ]);
        second.args(["unshare", "--net", "--mount", "--", "sh", "-c", hold]);
        let second = held(second)?;
        let lan = Self {
            holders: [first, second],
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
