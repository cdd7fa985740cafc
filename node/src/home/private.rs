//! Files and directories that only their owner may touch, written so that a crash leaves the old state or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{HomeError, io_error};

/// A directory for sockets and for what nodes of one user on one machine tell each other: `XDG_RUNTIME_DIR/mesh`, or one in the
/// temporary directory named after the user. Made if need be, 0700, refused if it is another user's.
pub fn runtime_dir() -> Result<PathBuf, HomeError> {
    let session = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute() && dir.is_dir());
    let dir = match session {
        Some(dir) => dir.join("mesh"),
        None => std::env::temp_dir().join(format!("mesh-{}", user())),
    };
    create_dir(&dir)?;
    Ok(dir)
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> String {
    std::env::var("USERNAME").unwrap_or_default()
}

/// How files of a home are opened: 0600, never through a link.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options
}

/// Whether two looks saw the same file.
pub(crate) fn same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (a.dev(), a.ino()) == (b.dev(), b.ino())
    }
    #[cfg(not(unix))]
    {
        a.created().ok() == b.created().ok()
    }
}

/// Opens for reading; a link at that place is refused.
pub(super) fn open_no_follow(path: &Path) -> Result<File, HomeError> {
    options()
        .read(true)
        .open(path)
        .map_err(io_error("open", path))
}

/// Makes a directory and those above it. It ends up 0700 and is refused if it is another user's, or a link to another's.
pub(super) fn create_dir(path: &Path) -> Result<(), HomeError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io_error("make", parent))?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            return Err(HomeError::Io {
                what: "make",
                path: path.to_path_buf(),
                source,
            });
        }
    }
    restrict_dir(path)
}

#[cfg(unix)]
fn restrict_dir(path: &Path) -> Result<(), HomeError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = open_no_follow(path)?;
    let meta = dir.metadata().map_err(io_error("look at", path))?;
    if !meta.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(HomeError::Io {
            what: "use",
            path: path.to_path_buf(),
            source,
        });
    }
    if meta.uid() != user() {
        return Err(HomeError::Owner(path.to_path_buf()));
    }
    if meta.mode() & 0o077 != 0 {
        dir.set_permissions(fs::Permissions::from_mode(0o700))
            .map_err(io_error("protect", path))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn restrict_dir(_: &Path) -> Result<(), HomeError> {
    Ok(())
}

/// Refuses a secret that belongs to somebody else or that somebody else may read.
#[cfg(unix)]
pub(super) fn check_secret(file: &File, path: &Path) -> Result<(), HomeError> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata().map_err(io_error("look at", path))?;
    if !meta.is_file() {
        return Err(HomeError::NotASeed(path.to_path_buf()));
    }
    if meta.uid() != user() {
        return Err(HomeError::Owner(path.to_path_buf()));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(HomeError::Exposed(path.to_path_buf()));
    }
    Ok(())
}

/// The directory's own protection is what there is here.
#[cfg(not(unix))]
pub(super) fn check_secret(_: &File, _: &Path) -> Result<(), HomeError> {
    Ok(())
}

/// Writes a file that must not exist, syncs it and its directory.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let mut file = options()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(io_error("make", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", path))?;
    sync_parent(path)
}

/// Replaces a file: the old bytes or the new ones are there after a crash.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let temp = path.with_extension("new");
    remove(&temp)?;
    write_new(&temp, bytes)?;
    fs::rename(&temp, path).map_err(io_error("rename", &temp))?;
    sync_parent(path)
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), HomeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(HomeError::Io {
            what: "remove",
            path: path.to_path_buf(),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), HomeError> {
    if cfg!(unix) {
        File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(io_error("sync", path))?;
    }
    Ok(())
}

fn sync_parent(path: &Path) -> Result<(), HomeError> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}
