//! Makes a home: for a new mesh, or for a device that joins one.
//!
//! The order, so that a crash leaves a home that is complete or one that is made again:
//! `making` durable -> leftovers removed -> keyslots durable -> database durable -> `device.seed` durable -> `making` removed.
//! Nothing is written before everything has been drawn ([`Fresh`]), so that the user may read the phrase and walk away: then there is no mesh.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ownmesh_crypto::registry::{self, By, JoinPath, StatementError};
use ownmesh_crypto::{
    DeviceKeys, DeviceSeed, Keyslot, KeyslotFor, MasterKey, MeshId, MeshSecret, Phrase,
    WeakPassword,
};
use rand::CryptoRng;

use super::{Home, HomeError, HomeState, NodeLock, io_error, private};
use crate::command::{CommandError, Kind};
use crate::db::{self, DbError, NewMesh};

/// Why no home was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The home itself.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A device lives here already.
    #[error("{0} has a mesh already")]
    HasMesh(PathBuf),
    /// The directory holds something that is not mesh's.
    #[error("{0} is not empty: it holds \"{1}\"")]
    NotEmpty(PathBuf, String),
    /// The password is too easy to guess.
    #[error(transparent)]
    Password(#[from] WeakPassword),
    /// The device's name does not do.
    #[error("the name of a device or mesh: {0}")]
    Name(StatementError),
    /// The database could not be made.
    #[error("cannot make the database")]
    Database(PathBuf, #[source] DbError),
}

impl From<InitError> for CommandError {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Home(error) => error.into(),
            InitError::HasMesh(_) => CommandError::refused(error.to_string())
                .hint("mesh pair lets another device in; another --home DIR makes another device"),
            InitError::NotEmpty(..) => CommandError::refused(error.to_string())
                .hint("name an empty or new directory with --home"),
            InitError::Password(_) => CommandError::new(Kind::Usage, error.to_string()),
            InitError::Name(_) => {
                CommandError::usage(error.to_string()).hint("choose another with --name")
            }
            InitError::Database(path, error) => {
                let why = super::why_no_database(&error, &path);
                CommandError::failed(format!("cannot make the database: {why}"))
            }
        }
    }
}

/// A new mesh with this device as its first, drawn but not kept.
#[derive(Debug)]
pub struct Fresh {
    /// The recovery phrase, to be shown once.
    pub phrase: Phrase,
    /// What names the mesh's spaces and items.
    pub mesh_secret: MeshSecret,
    /// Genesis, delegation and device statement, in this order.
    pub statements: Vec<Vec<u8>>,
    /// The master key, wrapped by phrase and, if one was set, by password.
    pub keyslots: Vec<Keyslot>,
    /// The mesh.
    pub mesh_id: MeshId,
    /// This device's name, the mesh's as well.
    pub device_name: String,
    seed: DeviceSeed,
}

impl Fresh {
    /// Draws a mesh. With a password it takes about a second and 64 MiB.
    pub fn draw<R: CryptoRng + ?Sized>(
        name: &str,
        password: Option<&str>,
        rng: &mut R,
    ) -> Result<Self, InitError> {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        let seed = DeviceSeed::random(rng);
        let keys = DeviceKeys::from_seed(&seed);
        let master = MasterKey::random(rng);
        let mut mesh_salt = [0; 16];
        rng.fill_bytes(&mut mesh_salt);
        let root = master.root(&mesh_salt, 0);
        let genesis = registry::genesis(&root, mesh_salt, name, now).map_err(InitError::Name)?;
        let mesh_id = genesis.mesh_id();
        let by = By::Root(&root);
        let device = registry::device(
            by,
            &mesh_id,
            name,
            platform(),
            &keys.card(),
            JoinPath::First,
            now,
        )
        .map_err(InitError::Name)?;
        let delegation = registry::delegation(by, &mesh_id, keys.device_id(), true, now)
            .map_err(InitError::Name)?;
        let phrase = Phrase::generate(rng);
        let of = KeyslotFor {
            mesh_id,
            mesh_salt,
            generation: 0,
        };
        let mut keyslots = vec![Keyslot::seal_phrase(&master, of.clone(), &phrase, rng)];
        if let Some(password) = password {
            keyslots.push(Keyslot::seal_password(&master, of, password, rng)?);
        }
        Ok(Self {
            phrase,
            mesh_secret: MeshSecret::random(rng),
            statements: [genesis, delegation, device]
                .iter()
                .map(|statement| statement.bytes().to_vec())
                .collect(),
            keyslots,
            mesh_id,
            device_name: name.to_owned(),
            seed,
        })
    }
}

/// What a device has when it has joined a mesh, to be kept.
#[derive(Debug)]
pub struct Joined {
    /// The seed it joined with.
    pub seed: DeviceSeed,
    /// What names the mesh's spaces and items.
    pub mesh_secret: MeshSecret,
    /// The whole registry, genesis first.
    pub statements: Vec<Vec<u8>>,
    /// The name it has there.
    pub device_name: String,
    /// Copies of the keyslots, as they were handed over.
    pub keyslots: Vec<Vec<u8>>,
}

/// A home that this process holds and in which no device lives, or one that is to be replaced.
#[derive(Debug)]
pub struct Vacant {
    lock: NodeLock,
}

impl Vacant {
    /// Keeps a new mesh. Afterwards the home is complete and still held.
    pub fn keep(self, fresh: &Fresh) -> Result<NodeLock, InitError> {
        let slots: Vec<_> = fresh
            .keyslots
            .iter()
            .map(|slot| (slot.slot_id().as_slice(), slot.to_bytes()))
            .collect();
        self.make(
            &fresh.seed,
            &slots,
            &fresh.mesh_secret,
            &fresh.statements,
            &fresh.device_name,
        )
    }

    /// Keeps what a device has when it has joined. A keyslot that cannot be read is left out; the device it came from has it.
    pub fn join(self, joined: &Joined) -> Result<NodeLock, InitError> {
        let slots: Vec<_> = joined
            .keyslots
            .iter()
            .filter_map(|bytes| Keyslot::parse(bytes).ok())
            .collect();
        let slots: Vec<_> = slots
            .iter()
            .map(|slot| (slot.slot_id().as_slice(), slot.to_bytes()))
            .collect();
        self.make(
            &joined.seed,
            &slots,
            &joined.mesh_secret,
            &joined.statements,
            &joined.device_name,
        )
    }

    fn make(
        self,
        seed: &DeviceSeed,
        slots: &[(&[u8], Vec<u8>)],
        mesh_secret: &MeshSecret,
        statements: &[Vec<u8>],
        name: &str,
    ) -> Result<NodeLock, InitError> {
        let home = self.lock.home();
        private::write_durably(&home.making_path(), b"")?;
        home.set_aside()?;
        home.discard()?;
        private::create_dir(&home.keyslots_dir())?;
        for (id, bytes) in slots {
            private::write_new(&home.keyslots_dir().join(hex(id)), bytes)?;
        }
        let mesh = NewMesh {
            mesh_secret: mesh_secret.clone(),
            statements: statements.to_vec(),
            device: DeviceKeys::from_seed(seed).device_id(),
            device_name: name.to_owned(),
        };
        // Made first, so that it and what SQLite puts beside it are the owner's alone.
        private::write_new(&home.db_path(), b"")?;
        let path = home.db_path();
        db::create(&path, &mesh).map_err(|error| InitError::Database(path, error))?;
        private::sync_dir(home.root())?;
        private::write_durably(&home.seed_path(), seed.expose())?;
        private::remove(&home.making_path())?;
        Ok(self.lock)
    }
}

impl Home {
    /// Makes a new mesh with this device as its first. What comes back holds the phrase, which nothing can show again.
    pub fn init<R: CryptoRng + ?Sized>(
        &self,
        name: &str,
        password: Option<&str>,
        rng: &mut R,
    ) -> Result<Fresh, InitError> {
        let vacant = self.claim()?;
        let fresh = Fresh::draw(name, password, rng)?;
        vacant.keep(&fresh)?;
        Ok(fresh)
    }

    /// Keeps what this device has when it has joined a mesh.
    pub fn join(&self, joined: &Joined) -> Result<(), InitError> {
        self.claim()?.join(joined).map(drop)
    }

    /// Takes a home in which nobody lives: a new or empty directory, or one whose making was interrupted.
    pub fn claim(&self) -> Result<Vacant, InitError> {
        // Before the lock, which writes: a directory that is not mesh's is left as it is.
        self.check_ours()?;
        if self.state() == HomeState::Mesh {
            return Err(InitError::HasMesh(self.root.clone()));
        }
        let lock = self.lock()?;
        match self.state() {
            HomeState::Mesh => Err(InitError::HasMesh(self.root.clone())),
            HomeState::SeedLost => Err(HomeError::SeedLost(self.root.clone()).into()),
            HomeState::Blank | HomeState::HalfMade => Ok(Vacant { lock }),
        }
    }

    /// Takes a home to replace the device that lives there. It is set aside in `HOME/replaced-N`, not deleted.
    ///
    /// The caller has made sure that it takes part in no space and that the user wants this.
    pub fn claim_replacing(&self) -> Result<Vacant, InitError> {
        self.check_ours()?;
        match self.lock() {
            Ok(lock) => Ok(Vacant { lock }),
            Err(error) => Err(error.into()),
        }
    }

    fn check_ours(&self) -> Result<(), InitError> {
        if self.state() != HomeState::Blank || self.lock_path().exists() {
            return Ok(());
        }
        match fs::read_dir(&self.root) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(entry) => {
                    let name = entry
                        .map_err(io_error("read", &self.root))?
                        .file_name()
                        .to_string_lossy()
                        .into_owned();
                    Err(InitError::NotEmpty(self.root.clone(), name))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(HomeError::Io {
                what: "read",
                path: self.root.clone(),
                source,
            }
            .into()),
        }
    }

    /// Moves a device that lives here aside; its seed first, so that a crash in between leaves no device without a database.
    fn set_aside(&self) -> Result<(), HomeError> {
        if self.state() != HomeState::Mesh {
            return Ok(());
        }
        let free = |n: &u32| !self.root.join(format!("replaced-{n}")).exists();
        let dir = self
            .root
            .join(format!("replaced-{}", (1..).find(free).unwrap_or(0)));
        private::create_dir(&dir)?;
        let mut parts = vec![self.seed_path()];
        parts.extend(self.database_files());
        parts.push(self.keyslots_dir());
        for path in parts {
            let Some(name) = path.file_name() else {
                continue;
            };
            match fs::rename(&path, dir.join(name)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(HomeError::Io {
                        what: "rename",
                        path,
                        source,
                    });
                }
                _ => {}
            }
        }
        private::sync_dir(&dir)?;
        private::sync_dir(&self.root)
    }

    /// Removes what an interrupted making left.
    fn discard(&self) -> Result<(), HomeError> {
        for path in self.database_files() {
            private::remove(&path)?;
        }
        let dir = self.keyslots_dir();
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HomeError::Io {
                what: "remove",
                path: dir,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    fn database_files(&self) -> [PathBuf; 3] {
        ["mesh.db", "mesh.db-wal", "mesh.db-shm"].map(|name| self.root.join(name))
    }
}

/// The operating system and machine, as other devices show it.
pub fn platform() -> &'static str {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux x86_64",
        ("linux", "aarch64") => "linux aarch64",
        ("macos", "aarch64") => "macos aarch64",
        ("macos", _) => "macos",
        ("windows", _) => "windows",
        (os, _) => os,
    }
}

/// The system's own source of randomness, for those that draw a mesh or a device.
pub fn rng() -> impl CryptoRng {
    rand::rng()
}

/// A random number, for what is no secret: which words of the phrase are asked for.
pub fn random_u64() -> u64 {
    rand::random()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a directory could be a home: used to refuse it as a folder of a space.
pub fn looks_like_home(path: &Path) -> bool {
    path.join("device.seed").symlink_metadata().is_ok()
}
