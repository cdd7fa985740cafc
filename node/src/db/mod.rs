//! The database of a device: one SQLite file in write-ahead mode, one writer.
//!
//! The engine's thread owns the writing connection; workers read through their own. Durability
//! has two levels, because a commit without a disk flush costs a hundredth of one with it:
//!
//! - [`Db::write`]: atomic. Power loss may take the last such commits away, never half of one.
//!   What it holds can be had again: from the folder (a scan) or from a peer (its log).
//! - [`Db::write_durable`]: flushed before it returns, with every commit before it. Whatever is
//!   announced to somebody else (a sealed batch, an acknowledgement) or promises something about
//!   the disk (`placing` rows) goes through here first (ARCHITECTURE.md, orders 1, 2 and 5).
//!
//! Only this folder names rusqlite. `docs/format/db.md` describes the tables.

pub mod base;
pub mod chunks;
pub mod dirty;
pub mod events;
pub mod foreign;
pub mod here;
pub mod ignored;
pub mod items;
pub mod logs;
pub mod marks;
pub mod placing;
pub mod schema;
pub mod settings;
pub mod spaces;

use std::path::{Path, PathBuf};

use ownmesh_crypto::{DeviceId, ItemId, MeshSecret};
pub use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::{OpenFlags, TransactionBehavior};

/// Why a database operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite said no: a full or read-only disk, or a damaged file.
    #[error("{}", if no_room(.0) { NO_ROOM } else { "the device's database could not be used" })]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer version of this program.
    #[error(
        "the database is of version {found}, this program knows up to {known}; install a newer mesh"
    )]
    TooNew {
        /// Version in the file.
        found: i64,
        /// Newest version this program reads.
        known: i64,
    },
    /// A row does not hold what was written there.
    #[error("the database holds a damaged {0}")]
    Damaged(&'static str),
    /// The file is not a mesh database, or was never finished.
    #[error("{0} is no database of a mesh device")]
    NotOurs(PathBuf),
}

impl DbError {
    /// Whether the disk is full, as far as SQLite says.
    #[must_use]
    pub fn no_room(&self) -> bool {
        matches!(self, Self::Sqlite(error) if no_room(error))
    }
}

/// What a full disk is called where it is not known which.
pub(crate) const NO_ROOM: &str = "no room left for the device's database";

fn no_room(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// What a new home's database starts with.
#[derive(Debug)]
pub struct NewMesh {
    /// Secret every device of the mesh holds.
    pub mesh_secret: MeshSecret,
    /// The registry so far, genesis first.
    pub statements: Vec<Vec<u8>>,
    /// This device.
    pub device: DeviceId,
    /// Its name.
    pub device_name: String,
}

/// The writing connection.
#[derive(Debug)]
pub struct Db {
    conn: Connection,
    path: Option<PathBuf>,
    durable_commits: u64,
    /// Whether there are commits that a loss of power could take away.
    loose: bool,
    /// Images since the last durable commit, if somebody wants them ([`Db::record`]).
    images: Option<Vec<Vec<u8>>>,
}

/// Makes the database of a new home at `path`, flushed to the disk when this returns.
///
/// # Errors
/// Fails if the file cannot be made; what is left is removed by the next try.
pub fn create(path: &Path, mesh: &NewMesh) -> Result<(), DbError> {
    let mut db = Db::open(path)?;
    db.found(mesh)
}

impl Db {
    /// Opens the database at `path`, making or upgrading its tables.
    ///
    /// # Errors
    /// [`DbError::TooNew`] for a file of a newer program, which is left as it is.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let conn = Connection::open(path)?;
        conn.pragma_update(None, "page_size", 8192)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        Self::prepare(conn, Some(path.to_owned()))
    }

    /// A database in memory, for the simulator: the same tables, the same code.
    ///
    /// # Errors
    /// Fails only if SQLite does.
    pub fn memory() -> Result<Self, DbError> {
        Self::prepare(Connection::open_in_memory()?, None)
    }

    fn prepare(mut conn: Connection, path: Option<PathBuf>) -> Result<Self, DbError> {
        conn.set_prepared_statement_cache_capacity(128);
        // Plans must not depend on bound values: with partial indexes around, SQLite otherwise
        // prepares statements anew at each call (a sixth of the time of a first sync).
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        // 16 MiB of page cache: a node's resident set has a budget, and the system caches the file.
        conn.pragma_update(None, "cache_size", -16_384)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        conn.pragma_update(None, "wal_autocheckpoint", 2_000)?;
        schema::upgrade(&mut conn)?;
        Ok(Self {
            conn,
            path,
            durable_commits: 0,
            loose: false,
            images: None,
        })
    }

    /// Puts a new mesh into an empty database.
    ///
    /// # Errors
    /// Fails if the database cannot be written.
    pub fn found(&mut self, mesh: &NewMesh) -> Result<(), DbError> {
        self.write_durable(|tx| {
            marks::put(tx, "mesh_secret", mesh.mesh_secret.expose())?;
            marks::put(tx, "device", mesh.device.as_bytes())?;
            marks::put(tx, "device_name", mesh.device_name.as_bytes())?;
            for bytes in &mesh.statements {
                marks::put_statement(tx, bytes)?;
            }
            Ok(())
        })
    }

    /// The connection, for reading.
    #[must_use]
    pub fn read(&self) -> &Connection {
        &self.conn
    }

    /// Runs `work` in one transaction; see the module's head for what survives what.
    ///
    /// # Errors
    /// Whatever `work` returns, or the commit's failure; nothing is kept then.
    pub fn write<R, E: From<DbError>>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<R, E>,
    ) -> Result<R, E> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(DbError::from)?;
        let done = work(&tx)?;
        tx.commit().map_err(DbError::from)?;
        self.loose = true;
        if self.images.is_some() {
            let image = self.image()?;
            self.images.get_or_insert_default().push(image);
        }
        Ok(done)
    }

    /// [`Db::write`], flushed to the disk (with all commits before it) when this returns.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_durable<R, E: From<DbError>>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<R, E>,
    ) -> Result<R, E> {
        self.conn
            .pragma_update(None, "synchronous", "FULL")
            .map_err(DbError::from)?;
        let done = self.write(|tx| {
            let done = work(tx)?;
            // A commit that changes no page is not flushed: this row makes sure one does.
            marks::count(tx, "durable")?;
            Ok(done)
        });
        self.conn
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(DbError::from)?;
        self.durable_commits += u64::from(done.is_ok());
        self.loose &= done.is_err();
        if let Some(images) = self.images.as_mut().filter(|_| done.is_ok()) {
            images.drain(..images.len().saturating_sub(1));
        }
        done
    }

    /// [`Db::write_durable`] or [`Db::write`].
    ///
    /// # Errors
    /// As these.
    pub fn write_as<R, E: From<DbError>>(
        &mut self,
        durable: bool,
        work: impl FnOnce(&Connection) -> Result<R, E>,
    ) -> Result<R, E> {
        if durable {
            self.write_durable(work)
        } else {
            self.write(work)
        }
    }

    /// Flushes what is committed, if anything is not flushed.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn flush(&mut self) -> Result<(), DbError> {
        if self.loose && !ownmesh_crdt::mutated!(AckBeforeDurable) {
            self.write_durable(|_| Ok::<(), DbError>(()))?;
        }
        Ok(())
    }

    /// From now on keeps an image of every commit that a loss of power could take away, and of the
    /// durable one before them: for the simulator.
    ///
    /// # Errors
    /// Fails if SQLite does.
    pub fn record(&mut self) -> Result<(), DbError> {
        self.images = Some(vec![self.image()?]);
        Ok(())
    }

    /// What a loss of power can leave, oldest first; empty if nothing was recorded.
    pub fn recorded(&mut self) -> Vec<Vec<u8>> {
        self.images.take().unwrap_or_default()
    }

    /// How many durable commits were made through this handle: the simulator takes its power-loss
    /// images there.
    #[must_use]
    pub fn durable_commits(&self) -> u64 {
        self.durable_commits
    }

    /// A second connection that only reads, for a worker. In memory there is none.
    ///
    /// # Errors
    /// Fails if the file cannot be opened.
    pub fn reader(path: &Path) -> Result<Connection, DbError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(std::time::Duration::from_secs(10))?;
        conn.pragma_update(None, "cache_size", -2_048)?;
        Ok(conn)
    }

    /// Where the file lies; `None` in memory.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// A copy of all bytes, for the simulator's restored backups and power losses.
    ///
    /// # Errors
    /// Fails if SQLite does.
    pub fn image(&mut self) -> Result<Vec<u8>, DbError> {
        Ok(self.conn.serialize("main")?.to_vec())
    }

    /// A database in memory from [`Db::image`].
    ///
    /// # Errors
    /// Fails if the bytes are no database.
    pub fn from_image(image: &[u8]) -> Result<Self, DbError> {
        let mut conn = Connection::open_in_memory()?;
        conn.deserialize_read_exact("main", image, image.len(), false)?;
        Self::prepare(conn, None)
    }
}

/// A blob column as an id of fixed length.
pub(crate) fn id<T: for<'a> TryFrom<&'a [u8]>>(
    bytes: &[u8],
    what: &'static str,
) -> Result<T, DbError> {
    T::try_from(bytes).map_err(|_| DbError::Damaged(what))
}

/// What a query with one column of item ids finds.
fn ids(
    conn: &Connection,
    sql: &str,
    args: &[&dyn rusqlite::ToSql],
) -> Result<Vec<ItemId>, DbError> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(args)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(id(&row.get::<_, Vec<u8>>(0)?, "item id")?);
    }
    Ok(out)
}
