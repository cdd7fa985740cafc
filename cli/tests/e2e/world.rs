//! A temporary place for devices, how long to wait, and what to do when the machine cannot do a test.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::device::Device;
use crate::lan::Lan;

/// How long anything may take before a test calls it stuck. Tens of times what a slow machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How long nothing at all may go on before two devices count as stuck.
const STALL: Duration = Duration::from_secs(60);

/// Between two looks at something that cannot be waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Everything a test makes, gone when it ends. Make it before its devices, so that they end before it.
pub(crate) struct World {
    dir: TempDir,
    lan: Option<Rc<Lan>>,
    sides: Cell<usize>,
}

impl World {
    /// Devices on this machine, which find each other by its loopback.
    pub(crate) fn loopback() -> Self {
        let world = Self {
            dir: TempDir::with_prefix("mesh-e2e-").unwrap(),
            lan: None,
            sides: Cell::new(0),
        };
        for name in ["run", "user"] {
            std::fs::create_dir(world.path(name)).unwrap();
        }
        world
    }

    /// Devices with a network namespace each, on one wire; nothing where the machine forbids that.
    pub(crate) fn lan() -> Option<Self> {
        Self::on(Lan::new())
    }

    /// The same with as many devices as `sides`, on a switch.
    pub(crate) fn switched(sides: usize) -> Option<Self> {
        Self::on(Lan::switched(sides))
    }

    fn on(lan: Result<Lan, String>) -> Option<Self> {
        match lan {
            Ok(lan) => Some(Self {
                lan: Some(Rc::new(lan)),
                ..Self::loopback()
            }),
            Err(why) => {
                skip(&format!("no network namespaces: {why}"));
                None
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The next device. On a wire it has its own end of it and its own runtime directory.
    pub(crate) fn device(&self, name: &'static str) -> Device {
        let side = self.sides.get();
        self.sides.set(side + 1);
        let run = if self.lan.is_some() {
            let run = self.path(&format!("run-{name}"));
            std::fs::create_dir(&run).unwrap();
            run
        } else {
            self.path("run")
        };
        let mut device = Device::new(name, &self.path(name), run, self.path("user"));
        device.side = self.lan.clone().map(|lan| (lan, side));
        device
    }

    /// Two devices in one mesh, their nodes running.
    pub(crate) fn pair(&self) -> (Device, Device) {
        let (mut laptop, mut desktop) = (self.device("laptop"), self.device("desktop"));
        laptop.init();
        laptop.let_in(&mut desktop);
        (laptop, desktop)
    }

    /// Two devices with the space `docs` between their folders, which hold the same.
    pub(crate) fn joined(&self, fill: impl FnOnce(&Device)) -> (Device, Device) {
        let (laptop, desktop) = self.pair();
        fill(&laptop);
        laptop.add();
        desktop.add();
        settle(&laptop, &desktop, "the first sync");
        (laptop, desktop)
    }
}

/// Waits until both devices are done with everything and their folders are the same. A slow machine has all the time it needs, as long as
/// something goes on.
#[track_caller]
pub(crate) fn settle(a: &Device, b: &Device, what: &str) {
    let (mut begun, mut last) = (Instant::now(), Vec::new());
    loop {
        let waits = [a, b].map(|d| d.mesh(&["wait", "--all", "--timeout", "15"]));
        let differences = a.tree().differences(&b.tree());
        if differences.is_empty() && waits.iter().all(|w| w.code == 0) {
            return;
        }
        let now: Vec<_> = waits.iter().map(|w| w.stdout.clone()).collect();
        if now != last {
            (begun, last) = (Instant::now(), now);
        }
        assert!(
            begun.elapsed() < STALL,
            "{what}: nothing goes on for {STALL:?}, but it is not settled\nwaits: {last:#?}\ndifferences: {differences:#?}\n{}: {:#}\n{}: {:#}",
            a.name,
            a.json(&["status"]),
            b.name,
            b.json(&["status"]),
        );
    }
}

/// Waits until something holds; `seen` tells what holds instead.
#[track_caller]
pub(crate) fn until<S: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> Result<(), S>) {
    let begun = Instant::now();
    while let Err(seen) = look() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: still not after {PATIENCE:?}, but {seen:?}"
        );
        std::thread::sleep(LOOK);
    }
}

/// Waits until a device has a connection to another, or has none.
#[track_caller]
pub(crate) fn connected(device: &Device, name: &str, wanted: bool) {
    until("the connection", || {
        let peer = device.peer(name);
        check(peer["connected"] == wanted, peer)
    });
}

/// Ok if `holds`, otherwise what was seen.
pub(crate) fn check<S>(holds: bool, seen: S) -> Result<(), S> {
    if holds { Ok(()) } else { Err(seen) }
}

/// Says that a test was not run; in CI that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "in CI nothing is skipped, but {why}"
    );
    eprintln!("SKIPPED: {why}");
}

/// Whether the Shows run as large as the issue says.
pub(crate) fn full() -> bool {
    std::env::var_os("MESH_E2E_FULL").is_some_and(|v| v == "1")
}

/// Reproducible numbers; the seed is part of every message that depends on them.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.below(u64::MAX).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
