//! A folder on a disk of another kind, in a mount namespace: what a stick, a Mac or a Windows machine has.
//!
//! Each kind is tried with the kernel's own driver and then with one outside of it, since few machines
//! have all. Needs root and the programs named here.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use crate::device::Device;
use crate::lan::held;

/// What a disk is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Neither symlinks nor modes, case does not count, and Windows' names: FAT or exFAT.
    Stick,
    /// Symlinks and modes, and case does not count: ext4 with casefold, or NTFS.
    Folding,
}

/// Ways to such a disk: the filesystem, how it is made and how it is mounted.
const WAYS: [(Kind, &str, &str, &str); 4] = [
    (
        Kind::Stick,
        "vfat",
        "mkfs.vfat IMAGE",
        "mount -t vfat -o loop,utf8=1 IMAGE AT",
    ),
    (
        Kind::Stick,
        "exfat",
        "mkfs.exfat IMAGE",
        "mount -t exfat-fuse -o loop IMAGE AT",
    ),
    (
        Kind::Folding,
        "ext4",
        "mkfs.ext4 -q -F -O casefold IMAGE",
        "mount -t ext4 -o loop IMAGE AT",
    ),
    (
        Kind::Folding,
        "ntfs",
        "mkfs.ntfs -F -Q IMAGE",
        "mount -t lowntfs-3g -o loop,ignore_case,permissions IMAGE AT",
    ),
];

/// Bytes of the image.
const SIZE: u64 = 512 << 20;

/// The disk; it ends with its namespace.
pub(crate) struct Foreign {
    holder: Child,
    /// Which filesystem it is.
    pub(crate) name: &'static str,
}

impl Foreign {
    /// Puts the folder of a device on such a disk, or says why this machine does not let it.
    pub(crate) fn under(kind: Kind, device: &mut Device, dir: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("mounting an image needs root".into());
        }
        let mut why = Vec::new();
        for (_, name, make, mount) in WAYS.into_iter().filter(|way| way.0 == kind) {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--", "sh", "-c", "echo ready; exec cat"]);
            let disk = Self {
                holder: held(command)?,
                name,
            };
            let image = dir.join(format!("{}-{name}.img", device.name));
            fs::File::create(&image)
                .and_then(|f| f.set_len(SIZE))
                .map_err(|e| e.to_string())?;
            let image = image.to_string_lossy().into_owned();
            let at = device.folder.to_string_lossy().into_owned();
            let mut lines = vec![make.replace("IMAGE", &image)];
            lines.push(mount.replace("IMAGE", &image).replace("AT", &at));
            if name == "ext4" {
                lines.push(format!("mkdir {at}/in"));
                lines.push(format!("chattr +F {at}/in"));
                lines.push(format!("mount --bind {at}/in {at}"));
            }
            match lines.iter().try_for_each(|line| disk.run(line)) {
                Ok(()) => {
                    device.mounts = Some(disk.holder.id());
                    return Ok(disk);
                }
                Err(error) => why.push(error),
            }
        }
        Err(why.join("; "))
    }

    fn run(&self, line: &str) -> Result<(), String> {
        let pid = self.holder.id().to_string();
        let output = Command::new("nsenter")
            .args(["-t", &pid, "-m", "--"])
            .args(line.split(' '))
            .output()
            .map_err(|e| format!("{line}: {e}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("{line}: {said}"))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}
