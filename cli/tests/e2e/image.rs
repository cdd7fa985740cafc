//! A disk of its own for a device, from which power can be taken: ext4 in an image file, in a mount namespace.
//!
//! What the kernel has not written to the image is lost when a copy of the image is taken: unsynced contents, renames, deletes. That is what
//! a real power loss leaves of ext4. The heuristics by which ext4 forgives programs that do not sync are off, and it commits on its own only
//! every ten minutes. Needs root and a loop device, because nothing less mounts ext4.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::device::Device;
use crate::lan::held;

/// Bytes of the image.
const SIZE: u64 = 192 << 20;
/// Copies taken until two of them are equal: the kernel may be writing.
const TRIES: usize = 20;

/// The disk; it ends with its namespace.
pub(crate) struct Image {
    holder: Child,
    dir: PathBuf,
    image: PathBuf,
    at: PathBuf,
    number: usize,
}

impl Image {
    /// Makes the disk and mounts it at the device's root, or says why this machine does not let it.
    pub(crate) fn under(device: &mut Device, dir: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting an image needs root".into());
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", "echo ready; exec cat"]);
        let holder = held(command)?;
        let image = dir.join(format!("{}-0.img", device.name));
        fs::File::create(&image)
            .and_then(|f| f.set_len(SIZE))
            .map_err(|e| e.to_string())?;
        let disk = Self {
            holder,
            dir: dir.to_owned(),
            image,
            at: device.root.clone(),
            number: 0,
        };
        let image = disk.image.to_string_lossy().into_owned();
        run(
            "mkfs.ext4",
            &[
                "-q",
                "-F",
                "-E",
                "lazy_itable_init=0,lazy_journal_init=0",
                &image,
            ],
        )?;
        disk.mount()?;
        device.mounts = Some(disk.holder.id());
        fs::create_dir(device.at("")).map_err(|e| e.to_string())?;
        Ok(disk)
    }

    fn inside(&self, words: &[&str]) -> Result<(), String> {
        let pid = self.holder.id().to_string();
        run("nsenter", &[&["-t", &pid, "-m", "--"], words].concat())
    }

    fn mount(&self) -> Result<(), String> {
        let (image, at) = (self.image.to_string_lossy(), self.at.to_string_lossy());
        self.inside(&[
            "mount",
            "-t",
            "ext4",
            "-o",
            "loop,noauto_da_alloc,commit=600",
            &image,
            &at,
        ])
    }

    /// Power is lost. The node has been killed; what was not synced is gone.
    pub(crate) fn lose_power(&mut self) {
        self.number += 1;
        let after = self
            .dir
            .join(format!("img-{}-{}", self.holder.id(), self.number));
        let mut last = Vec::new();
        let settled = (0..TRIES).any(|_| {
            let now = fs::read(&self.image).unwrap();
            std::mem::replace(&mut last, now) == last
        });
        assert!(settled, "the image is written to all the time");
        fs::write(&after, &last).unwrap();
        self.inside(&["umount", &self.at.to_string_lossy()])
            .unwrap();
        fs::remove_file(&self.image).unwrap();
        self.image = after;
        self.mount().unwrap();
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
