//! A device's home: one directory, readable by its owner alone, that holds everything the device is.
//!
//! ```text
//! HOME/            0700
//!   device.seed    0600, 32 bytes: the device itself; its presence says that the home is complete
//!   mesh.db        everything else the node knows
//!   keyslots/ID    the master key, wrapped by phrase or password
//!   node.lock      held by whoever runs or makes this home; names the process
//!   api.sock       the local API, while the node runs
//!   log/node.log   what a node in the background says
//!   phrase-out     where the phrase was written to, until that file is gone
//!   making         a home is being made; a crash has left it if nobody holds the lock
//! ```
//!
//! Dangers guarded against: two nodes on one home ([`NodeLock`]), a seed that others can read, a home half made by a crash (made again)
//! taken for one whose seed was lost (never touched), a socket path longer than the system takes. What makes a home is in
//! `home/make.rs`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ownmesh_crypto::{DeviceSeed, Keyslot, KeyslotError};

use crate::command::{CommandError, Kind};

mod make;
mod private;

pub use make::{Fresh, InitError, Joined, Vacant, looks_like_home, platform, random_u64, rng};

pub use private::runtime_dir;
pub(crate) use private::same;

/// Longest socket path: `sun_path` has 104 bytes on the BSDs and macOS, 108 on Linux, one of them the final zero.
const MAX_SOCKET_PATH: usize = 103;

/// How often the lock is tried: [`Home::holder`] takes it for a moment, which must not look like a node.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// What [`Home::state`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HomeState {
    /// Nothing of a mesh is here.
    Blank,
    /// Making it was interrupted; it may be made again.
    HalfMade,
    /// A device lives here.
    Mesh,
    /// A database without a seed, and nobody was making it: something was lost.
    SeedLost,
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// The system said no.
    #[error("cannot {what} {path}")]
    Io {
        /// The verb.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is no directory for data, and none was named.
    #[error("no data directory is known")]
    Nowhere,
    /// A home or seed belongs to another user.
    #[error("{0} belongs to another user")]
    Owner(PathBuf),
    /// Group or others may read the seed.
    #[error("{0} can be read by other users")]
    Exposed(PathBuf),
    /// The file has no 32 bytes, or is a link.
    #[error("{0} is not a device seed")]
    NotASeed(PathBuf),
    /// There is no device here.
    #[error("there is no mesh in {0}")]
    NoMesh(PathBuf),
    /// A database without its seed.
    #[error("{0} holds a database, but its device.seed is gone")]
    SeedLost(PathBuf),
    /// Somebody holds the lock.
    #[error("{}", held(.path, *.pid))]
    Held {
        /// The home.
        path: PathBuf,
        /// The process, if it has written its number.
        pid: Option<u32>,
    },
    /// A keyslot cannot be read.
    #[error("keyslot {path}")]
    Keyslot {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyslotError,
    },
}

fn held(path: &Path, pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("{} is in use by process {pid}", path.display()),
        None => format!("{} is in use", path.display()),
    }
}

impl From<HomeError> for CommandError {
    fn from(error: HomeError) -> Self {
        let message = with_sources(&error);
        match &error {
            HomeError::Io { .. } => CommandError::failed(message),
            HomeError::Nowhere => {
                CommandError::usage(message).hint("name one with --home DIR or MESH_HOME")
            }
            HomeError::Owner(_) => CommandError::refused(message)
                .hint("run mesh as the user who owns it, or name another --home"),
            HomeError::Exposed(path) => CommandError::refused(message).hint(format!(
                "if nobody has copied it: chmod 600 {}",
                path.display()
            )),
            HomeError::NotASeed(_) | HomeError::SeedLost(_) => CommandError::refused(message).hint(
                "bring the file back from a copy of the home, or start over with another --home",
            ),
            HomeError::NoMesh(_) => CommandError::new(Kind::NotFound, message)
                .hint("mesh init makes one, mesh pair - joins one that another device has"),
            HomeError::Held { .. } => {
                CommandError::refused(message).hint("mesh down stops the node")
            }
            HomeError::Keyslot { .. } => CommandError::new(Kind::WrongSecret, message),
        }
    }
}

/// An error's message followed by those of its sources.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// The home of one device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The home a user means: the directory named, else the platform's data directory. Nothing is made yet.
    pub fn locate(named: Option<&Path>) -> Result<Self, HomeError> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            None => default_root().ok_or(HomeError::Nowhere)?,
        };
        let root = std::path::absolute(&path).map_err(io_error("find", &path))?;
        Ok(Self {
            root: canonical(&root),
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn db_path(&self) -> PathBuf {
        self.root.join("mesh.db")
    }

    /// The seed.
    pub fn seed_path(&self) -> PathBuf {
        self.root.join("device.seed")
    }

    /// The directory of the wrapped master keys.
    pub fn keyslots_dir(&self) -> PathBuf {
        self.root.join("keyslots")
    }

    /// The log of a node in the background.
    pub fn log_path(&self) -> PathBuf {
        self.root.join("log").join("node.log")
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("node.lock")
    }

    fn reminder_path(&self) -> PathBuf {
        self.root.join("phrase-out")
    }

    fn making_path(&self) -> PathBuf {
        self.root.join("making")
    }

    /// Where the API listens: `HOME/api.sock`, or in the runtime directory if that path is too long for a socket.
    pub fn socket(&self) -> Result<PathBuf, HomeError> {
        let plain = self.root.join("api.sock");
        if plain.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(plain);
        }
        Ok(runtime_dir()?.join(format!("{:016x}.sock", short_hash(&self.root))))
    }

    /// Whether [`socket`](Self::socket) is another than `HOME/api.sock`.
    pub fn socket_elsewhere(&self) -> bool {
        self.root.join("api.sock").as_os_str().len() > MAX_SOCKET_PATH
    }

    /// Looks at what is here.
    pub fn state(&self) -> HomeState {
        if self.seed_path().symlink_metadata().is_ok() {
            HomeState::Mesh
        } else if self.making_path().exists() {
            HomeState::HalfMade
        } else if self.db_path().exists() {
            HomeState::SeedLost
        } else {
            HomeState::Blank
        }
    }

    /// Refuses a home without a device.
    pub fn require_mesh(&self) -> Result<(), HomeError> {
        match self.state() {
            HomeState::Mesh => Ok(()),
            HomeState::Blank | HomeState::HalfMade => Err(HomeError::NoMesh(self.root.clone())),
            HomeState::SeedLost => Err(HomeError::SeedLost(self.root.clone())),
        }
    }

    /// Takes the home for this process, for as long as the value lives. Makes the directory if need be.
    pub fn lock(&self) -> Result<NodeLock, HomeError> {
        private::create_dir(&self.root)?;
        let path = self.lock_path();
        let mut file = private::options()
            .read(true)
            .write(true)
            .create(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let mut tries = LOCK_TRIES;
        while let Err(error) = file.try_lock() {
            tries -= 1;
            match error {
                fs::TryLockError::WouldBlock if tries > 0 => std::thread::sleep(LOCK_PAUSE),
                fs::TryLockError::WouldBlock => {
                    let pid = self.holder_pid();
                    return Err(HomeError::Held {
                        path: self.root.clone(),
                        pid,
                    });
                }
                fs::TryLockError::Error(source) => {
                    return Err(HomeError::Io {
                        what: "lock",
                        path,
                        source,
                    });
                }
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        written.map_err(io_error("write", &path))?;
        if self.state() == HomeState::Mesh {
            // The seed is the last thing made, so a mark beside it only means that the process ended before removing it.
            let _ = fs::remove_file(self.making_path());
        }
        Ok(NodeLock {
            file,
            home: self.clone(),
        })
    }

    /// Who holds the home, if anybody does.
    pub fn holder(&self) -> Option<HomeError> {
        let file = File::open(self.lock_path()).ok()?;
        file.try_lock_shared().is_err().then(|| HomeError::Held {
            path: self.root.clone(),
            pid: self.holder_pid(),
        })
    }

    fn holder_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.lock_path()).ok()?;
        text.trim().parse().ok()
    }

    /// Reads the seed. Refuses one that others can read, own, or have replaced by a link.
    pub fn load_seed(&self) -> Result<DeviceSeed, HomeError> {
        self.require_mesh()?;
        let path = self.seed_path();
        let mut file = private::open_no_follow(&path)?;
        private::check_secret(&file, &path)?;
        let mut bytes = [0; 32];
        let mut rest = [0; 1];
        let whole = file.read_exact(&mut bytes).is_ok() && matches!(file.read(&mut rest), Ok(0));
        if whole {
            Ok(DeviceSeed::from_bytes(bytes))
        } else {
            Err(HomeError::NotASeed(path))
        }
    }

    /// Reads the wrapped master keys. Only the first device and those that were given them have any.
    pub fn keyslots(&self) -> Result<Vec<Keyslot>, HomeError> {
        let dir = self.keyslots_dir();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(HomeError::Io {
                    what: "read",
                    path: dir,
                    source,
                });
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(io_error("read", &dir))?.path());
        }
        paths.sort();
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(io_error("read", &path))?;
            Keyslot::parse(&bytes).map_err(|source| HomeError::Keyslot { path, source })
        };
        paths.into_iter().map(read).collect()
    }

    /// The file the phrase was written to, as long as it exists.
    pub fn phrase_reminder(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.reminder_path()).ok()?;
        let path = PathBuf::from(text.trim_end_matches('\n'));
        if path.exists() {
            return Some(path);
        }
        let _ = fs::remove_file(self.reminder_path());
        None
    }

    /// Remembers where the phrase was written to.
    pub fn remind_of_phrase(&self, file: &Path) -> Result<(), HomeError> {
        let file = std::path::absolute(file).map_err(io_error("find", file))?;
        private::write_durably(
            &self.reminder_path(),
            format!("{}\n", file.display()).as_bytes(),
        )
    }

    /// Opens the log for appending, made anew when it has grown past `max` bytes (the old one is kept as `node.log.1`).
    pub fn open_log(&self, max: u64) -> Result<File, HomeError> {
        let path = self.log_path();
        private::create_dir(&self.root.join("log"))?;
        if path.metadata().is_ok_and(|meta| meta.len() > max) {
            fs::rename(&path, path.with_extension("log.1")).map_err(io_error("rename", &path))?;
        }
        private::options()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io_error("open", &path))
    }
}

/// The proof that this process has the home for itself. Dropping it gives the home back.
#[derive(Debug)]
pub struct NodeLock {
    file: File,
    home: Home,
}

impl NodeLock {
    /// The home that is held.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Whether the home on the disk is still the one that is held: it may have been removed, and another made in its
    /// place.
    pub fn stands(&self) -> bool {
        let (Ok(held), Ok(there)) = (self.file.metadata(), fs::metadata(self.home.lock_path()))
        else {
            return matches!(self.home.lock_path().try_exists(), Err(_) | Ok(true));
        };
        same(&held, &there)
    }
}

/// Bytes that are free for this user on the disk of a path; nothing where that is not known.
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(path).ok()?;
        // Some filesystems do not count.
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// With less than this free, bytes, a database that cannot be written is taken for one that has no room.
const FULL: u64 = 1 << 20;

/// Why a database at this path could not be used, with the path: a full disk is called that, whatever way SQLite met it.
pub fn why_no_database(error: &crate::db::DbError, path: &Path) -> String {
    let dir = path.parent().unwrap_or(path);
    if error.no_room() || free_bytes(dir).is_some_and(|free| free < FULL) {
        return format!("no room left on the disk of {}", path.display());
    }
    format!("{}: {}", path.display(), with_sources(error))
}

/// Writes a file that must not exist yet and that only its owner may read, durably. For the phrase.
pub fn write_new_secret(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    private::write_new(path, bytes)
}

pub(crate) fn io_error<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> HomeError + 'a {
    move |source| HomeError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}

/// The path without links, also of a directory that is still to be made: every process must name the same socket and lock.
fn canonical(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => canonical(parent).join(name),
        (Err(_), ..) => path.to_path_buf(),
    }
}

/// The platform's directory for an application's data.
fn default_root() -> Option<PathBuf> {
    let dir = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = if cfg!(windows) {
        dir("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        dir("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        dir("XDG_DATA_HOME").or_else(|| dir("HOME").map(|home| home.join(".local/share")))
    };
    base.map(|base| base.join("mesh"))
}

/// FNV-1a, 64 bits: a short name for a long path. Not a secret and not a defence; the socket's directory is.
pub(crate) fn short_hash(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(all(test, unix))]
mod tests;
