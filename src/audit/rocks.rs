//! The log in RocksDB.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `records` | index, 8 bytes big-endian | record bytes |
//! | `nodes` | level, 1 byte; position, 8 bytes big-endian | hash, 32 bytes |
//! | `checkpoints` | size, 8 bytes big-endian | signed note |
//! | `policies` | a policy's epoch, 32 bytes | its text, whose hash the epoch is |
//! | `open` | index of an allow, 8 bytes big-endian | empty |
//! | `meta` | `format`, `origin`, `vkey`, `latest`, `cosigned`, `tip` | `1`; text; text; signed note; signed note; leaf hash, 32 bytes |
//! | `meta` | `keys` | indexes of the records that changed the log's key, 8 bytes big-endian each; absent if none did |
//!
//! Each commit is one write batch over all of them, so a crash leaves all of it or nothing.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options, ReadOptions, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::hash::Hash;
use super::merkle::NodeId;
use super::storage::{Batch, Durability, LogIdentity, Store, StoreError, Visit, Walk};

/// A log's store in one RocksDB directory.
pub struct RocksStore {
    db: DB,
    write: WriteOptions,
    /// Whether a commit has failed.
    failed: AtomicBool,
    // The working directory RocksDB wants of a secondary; removed with it.
    _scratch: Option<Scratch>,
}

/// What a store may use, and how long its commits wait.
#[derive(Clone, Copy, Debug)]
pub struct RocksOptions {
    /// What a commit waits for.
    pub durability: Durability,
    /// Memory for all write buffers together, bytes.
    pub write_buffer: usize,
    /// Memory for all cached blocks together, bytes.
    pub block_cache: usize,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { durability: Durability::Fsync, write_buffer: 64 << 20, block_cache: 32 << 20 }
    }
}

/// Why a log's directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no log there.
    #[error("there is no log in {0}; create it once with `portcullis audit create`")]
    Absent(PathBuf),
    /// There is a log there already.
    #[error("{0} holds a log already; a log is created once and never over another")]
    Present(PathBuf),
    /// Another process has it open.
    #[error(
        "the log in {path} is in use by another process{}: one log has one writer, and each replica an origin and a log \
         of its own ({source})",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Locked {
        /// The log's directory.
        path: PathBuf,
        /// The process that has it, if that can be seen from here.
        pid: Option<i32>,
        /// RocksDB's word.
        source: rocksdb::Error,
    },
    /// Its disk has no room for what opening it takes.
    #[error(
        "the log in {path} cannot be opened, since its disk is full: make room there, as much as log.memory.write_buffer \
         and better log.disk.low, without touching the log's own files, and start again; nothing is lost ({source})"
    )]
    NoRoom {
        /// The log's directory.
        path: PathBuf,
        /// RocksDB's word.
        source: rocksdb::Error,
    },
    /// The directory could not be made or read.
    #[error("{path}: {source}")]
    Io {
        /// The path concerned.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// RocksDB could not open it.
    #[error("the log in {path} cannot be opened: {source}")]
    Engine {
        /// The log's directory.
        path: PathBuf,
        /// RocksDB's word.
        source: rocksdb::Error,
    },
    /// The directory has no write-ahead log, which RocksDB keeps one of at all times and would not miss.
    #[error(
        "the write-ahead log (*.log) in {0} is missing, and with it the log's last records: bring the file back, or \
         restore the directory whole"
    )]
    NoWriteAhead(PathBuf),
    /// A layout this version does not know.
    #[error("the log in {path} has format {found:?}; this version reads format \"1\"")]
    Format {
        /// The log's directory.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
}

impl RocksStore {
    /// Creates a log, empty and without checkpoint, in `dir`, which must not hold one.
    ///
    /// # Errors
    /// [`OpenError::Present`] if it does; otherwise what the disk or RocksDB says.
    pub fn create(dir: &Path, identity: &LogIdentity, options: RocksOptions) -> Result<Self, OpenError> {
        if Self::is_at(dir) {
            return Err(OpenError::Present(dir.to_owned()));
        }
        private_dir(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let engine = |source| OpenError::Engine { path: dir.to_owned(), source };
        let mut database = database_options(options);
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        let db = DB::open_cf_descriptors(&database, dir, families(options)).map_err(engine)?;
        let mut batch = WriteBatch::default();
        let meta = db.cf_handle(META).ok_or_else(|| OpenError::Absent(dir.to_owned()))?;
        batch.put_cf(meta, FORMAT_KEY, FORMAT);
        batch.put_cf(meta, ORIGIN_KEY, &identity.origin);
        batch.put_cf(meta, VKEY_KEY, &identity.vkey);
        db.write_opt(batch, &write_options(Durability::Fsync)).map_err(engine)?;
        Ok(Self::over(db, options.durability, None))
    }

    /// Opens the log in `dir` for writing. RocksDB's lock keeps any other process from doing the same.
    ///
    /// # Errors
    /// [`OpenError::Absent`], [`OpenError::Locked`], [`OpenError::Format`], or what the disk or RocksDB says.
    pub fn open(dir: &Path, options: RocksOptions) -> Result<Self, OpenError> {
        present(dir)?;
        let mut database = database_options(options);
        // Those that logs from before do not have.
        database.create_missing_column_families(true);
        // Not of a secondary's: RocksDB does not support it there.
        database.set_track_and_verify_wals_in_manifest(true);
        let mut families = families(options);
        // Whatever a later version has added is left alone; RocksDB must have all of them open.
        for name in DB::list_cf(&database, dir).unwrap_or_default() {
            if !families.iter().any(|family| family.name() == name) {
                families.push(ColumnFamilyDescriptor::new(name, Options::default()));
            }
        }
        let db = DB::open_cf_descriptors(&database, dir, families).map_err(|source| {
            let path = dir.to_owned();
            // RocksDB has no code of its own for a held lock or a full disk; it says so in an IO error.
            let text = source.to_string();
            if text.contains("No space left") {
                OpenError::NoRoom { path, source }
            } else if is_locked(source.kind(), &text) {
                let here = text.contains("current process");
                OpenError::Locked { pid: if here { None } else { holder(&path) }, path, source }
            } else {
                OpenError::Engine { path, source }
            }
        })?;
        Self::over(db, options.durability, None).checked(dir)
    }

    /// Opens the log in `dir` for reading, whether or not a gate is writing to it, as of this moment.
    ///
    /// # Errors
    /// As [`RocksStore::open`], less the lock.
    pub fn open_read_only(dir: &Path) -> Result<Self, OpenError> {
        present(dir)?;
        let options = RocksOptions::default();
        let mut database = database_options(options);
        // A secondary must keep every file open, since the primary may delete one at any time.
        database.set_max_open_files(-1);
        let scratch = Scratch::new().map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let engine = |source| OpenError::Engine { path: dir.to_owned(), source };
        let there = DB::list_cf(&database, dir).map_err(engine)?;
        let families =
            families(options).into_iter().filter(|family| there.iter().any(|name| name == family.name()));
        let db =
            DB::open_cf_descriptors_as_secondary(&database, dir, &scratch.0, families).map_err(engine)?;
        Self::over(db, Durability::Fsync, Some(scratch)).checked(dir)
    }

    /// Whether `dir` holds a log.
    pub fn is_at(dir: &Path) -> bool {
        dir.join("CURRENT").exists()
    }

    fn over(db: DB, durability: Durability, scratch: Option<Scratch>) -> Self {
        Self { db, write: write_options(durability), failed: AtomicBool::new(false), _scratch: scratch }
    }

    fn checked(self, dir: &Path) -> Result<Self, OpenError> {
        match self.meta(FORMAT_KEY) {
            Ok(Some(format)) if format.as_bytes() == FORMAT => Ok(self),
            Ok(found) => Err(OpenError::Format { path: dir.to_owned(), found: found.unwrap_or_default() }),
            Err(StoreError::Engine(source)) => Err(OpenError::Engine { path: dir.to_owned(), source }),
            Err(_) => Err(OpenError::Format { path: dir.to_owned(), found: "not text".into() }),
        }
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or(StoreError::Missing(name))
    }

    fn meta(&self, key: &'static str) -> Result<Option<String>, StoreError> {
        let value = self.db.get_cf(self.family(META)?, key)?;
        value.map(|bytes| String::from_utf8(bytes).map_err(|_| StoreError::Malformed(key))).transpose()
    }
}

impl RocksStore {
    /// Hands on every policy that is kept: its epoch, and the text, which may be another's.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    pub fn policies(&self, visit: &mut dyn FnMut(Hash, &[u8])) -> Result<(), StoreError> {
        let Some(policies) = self.db.cf_handle(POLICIES) else { return Ok(()) };
        for entry in self.db.iterator_cf(policies, IteratorMode::Start) {
            let (epoch, text) = entry?;
            let epoch = epoch.as_ref().try_into().map_err(|_| StoreError::Malformed("policy"))?;
            visit(Hash(epoch), &text);
        }
        Ok(())
    }
}

impl Store for RocksStore {
    /// After an error nothing is written any more, whatever RocksDB would take. On a full disk it would: it keeps looking
    /// for room from a thread of its own, and when there is some, it writes out what it has in memory, begins another
    /// write-ahead log and takes writes again, leaving the batch that failed behind. That makes no difference to who
    /// opens the log next, since it may find that batch or not either way; to a writer that went on it would.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed);
        }
        // What it will hold, roughly, so that it need not grow by doubling.
        let mut write = WriteBatch::with_capacity_bytes(batch.bytes() + 64 * (batch.len() + 8));
        let (records, nodes, open) = (self.family(RECORDS)?, self.family(NODES)?, self.family(OPEN)?);
        for (index, bytes) in batch.records() {
            write.put_cf(records, index.to_be_bytes(), bytes);
        }
        for (id, hash) in &batch.nodes {
            write.put_cf(nodes, node_key(*id), hash.0);
        }
        for index in &batch.opened {
            write.put_cf(open, index.to_be_bytes(), []);
        }
        for index in &batch.closed {
            write.delete_cf(open, index.to_be_bytes());
        }
        let meta = self.family(META)?;
        write.put_cf(meta, LATEST_KEY, &batch.checkpoint);
        if let Some(tip) = &batch.tip {
            write.put_cf(meta, TIP_KEY, tip.0);
        }
        if let Some(index) = batch.rotated {
            let mut keys = self.db.get_cf(meta, KEYS_KEY)?.unwrap_or_default();
            keys.extend_from_slice(&index.to_be_bytes());
            write.put_cf(meta, KEYS_KEY, keys);
        }
        if let Some(size) = batch.keep {
            write.put_cf(self.family(CHECKPOINTS)?, size.to_be_bytes(), &batch.checkpoint);
        }
        // That a compaction finds no room is no error here: RocksDB tries it again later, and takes writes meanwhile.
        self.db.write_opt(write, &self.write).map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error.into()
        })
    }

    fn identity(&self) -> Result<LogIdentity, StoreError> {
        Ok(LogIdentity {
            origin: self.meta(ORIGIN_KEY)?.ok_or(StoreError::Missing(ORIGIN_KEY))?,
            vkey: self.meta(VKEY_KEY)?.ok_or(StoreError::Missing(VKEY_KEY))?,
        })
    }

    fn last_index(&self) -> Result<Option<u64>, StoreError> {
        match self.db.iterator_cf(self.family(RECORDS)?, IteratorMode::End).next() {
            None => Ok(None),
            Some(entry) => Ok(Some(index_of(&entry?.0)?)),
        }
    }

    fn record(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.get_cf(self.family(RECORDS)?, index.to_be_bytes())?)
    }

    fn scan(&self, walk: Walk, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        read.set_readahead_size(2 << 20);
        let mut records = self.db.raw_iterator_cf_opt(self.family(RECORDS)?, read);
        match walk {
            Walk::Up(from) => records.seek(from.to_be_bytes()),
            Walk::Down(from) => records.seek_for_prev(from.to_be_bytes()),
        }
        // Key and value lie in the table's block: nothing is copied.
        while let Some((key, bytes)) = records.item() {
            if let ControlFlow::Break(()) = visit(index_of(key)?, bytes) {
                return Ok(());
            }
            match walk {
                Walk::Up(_) => records.next(),
                Walk::Down(_) => records.prev(),
            }
        }
        Ok(records.status()?)
    }

    fn tip(&self) -> Result<Option<Hash>, StoreError> {
        self.db.get_cf(self.family(META)?, TIP_KEY)?.map(|bytes| hash_of(bytes, TIP_KEY)).transpose()
    }

    fn latest_checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.meta(LATEST_KEY)
    }

    fn kept_checkpoints(&self) -> Result<Vec<(u64, String)>, StoreError> {
        self.kept_checkpoints_from(0, usize::MAX)
    }

    fn kept_checkpoints_from(&self, from: u64, most: usize) -> Result<Vec<(u64, String)>, StoreError> {
        let start = from.to_be_bytes();
        self.db
            .iterator_cf(self.family(CHECKPOINTS)?, IteratorMode::From(&start, Direction::Forward))
            .take(most)
            .map(|entry| {
                let (key, note) = entry?;
                let note =
                    String::from_utf8(note.into_vec()).map_err(|_| StoreError::Malformed("checkpoint"))?;
                Ok((index_of(&key)?, note))
            })
            .collect()
    }

    /// Not synced: it rides with the next commit's sync. It is one more record in the write-ahead log all the same, so a
    /// failure stops commits, too.
    fn keep_cosigned(&self, size: u64, note: &str, keep: bool) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed);
        }
        let mut write = WriteBatch::default();
        write.put_cf(self.family(META)?, COSIGNED_KEY, note);
        if keep {
            write.put_cf(self.family(CHECKPOINTS)?, size.to_be_bytes(), note);
        }
        self.db.write_opt(write, &write_options(Durability::Os)).map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error.into()
        })
    }

    fn latest_cosigned(&self) -> Result<Option<String>, StoreError> {
        self.meta(COSIGNED_KEY)
    }

    fn keep_policy(&self, epoch: Hash, text: &[u8]) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(StoreError::Failed);
        }
        let policies = self.family(POLICIES)?;
        match self.db.get_cf(policies, epoch.0)? {
            Some(kept) if kept == text => return Ok(()),
            // The name is the hash, so it is known which of the two is right.
            Some(_) => {
                tracing::warn!(%epoch, "what was kept as the text of this policy is not it; it is put right")
            }
            None => {}
        }
        self.db.put_cf_opt(policies, epoch.0, text, &self.write).map_err(|error| {
            self.failed.store(true, Ordering::Release);
            error.into()
        })
    }

    fn policy(&self, epoch: Hash) -> Result<Option<Vec<u8>>, StoreError> {
        // A log that no gate has been started on since they are kept has none.
        let Some(policies) = self.db.cf_handle(POLICIES) else { return Ok(None) };
        Ok(self.db.get_cf(policies, epoch.0)?)
    }

    fn key_records(&self) -> Result<Vec<u64>, StoreError> {
        let keys = self.db.get_cf(self.family(META)?, KEYS_KEY)?.unwrap_or_default();
        keys.chunks(8).map(index_of).collect()
    }

    fn open_allows(&self) -> Result<Vec<u64>, StoreError> {
        self.db
            .iterator_cf(self.family(OPEN)?, IteratorMode::Start)
            .map(|entry| index_of(&entry?.0))
            .collect()
    }

    fn node(&self, id: NodeId) -> Result<Option<Hash>, StoreError> {
        let value = self.db.get_cf(self.family(NODES)?, node_key(id))?;
        value.map(|bytes| hash_of(bytes, "node")).transpose()
    }
}

fn index_of(key: &[u8]) -> Result<u64, StoreError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| StoreError::Malformed("key"))
}

fn hash_of(bytes: Vec<u8>, what: &'static str) -> Result<Hash, StoreError> {
    bytes.try_into().map(Hash).map_err(|_| StoreError::Malformed(what))
}

fn node_key(id: NodeId) -> [u8; 9] {
    let mut key = [0; 9];
    let (level, position) = key.split_at_mut(1);
    level.copy_from_slice(&[id.level]);
    position.copy_from_slice(&id.index.to_be_bytes());
    key
}

fn write_options(durability: Durability) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(durability == Durability::Fsync);
    options
}

fn database_options(options: RocksOptions) -> Options {
    let mut database = Options::default();
    // A torn tail is a commit that was never acknowledged; anything else that is wrong with the write-ahead log is
    // an error at open.
    database.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    database
        .set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(options.write_buffer, false));
    database.set_max_background_jobs(2);
    // Tables go to the disk as they are written, so that no commit's sync waits behind a whole one.
    database.set_bytes_per_sync(1 << 20);
    database.set_keep_log_file_num(4);
    database.set_max_log_file_size(4 << 20);
    database.set_max_total_wal_size(2 * options.write_buffer as u64);
    database.set_paranoid_checks(true);
    database
}

fn families(options: RocksOptions) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_block_size(16 << 10);
    // Where each block lies is cached like the blocks themselves; else it stays in memory, and grows with the log.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    let mut plain = Options::default();
    plain.set_block_based_table_factory(&blocks);
    plain.set_write_buffer_size(options.write_buffer / 4);
    plain.set_compression_type(DBCompressionType::None);
    let mut policies = plain.clone();
    policies.set_compression_type(DBCompressionType::Zstd);
    let mut records = plain.clone();
    records.set_write_buffer_size(options.write_buffer / 2);
    records.set_compression_type(DBCompressionType::Zstd);
    // Level 1: on records it is faster than the usual 3 by two fifths, and makes them no larger.
    records.set_compression_options(-14, 1, 0, 0);
    records.set_bottommost_compression_type(DBCompressionType::Zstd);
    records.set_bottommost_compression_options(-14, 3, 0, 16 << 10, true);
    records.set_bottommost_zstd_max_train_bytes(100 * (16 << 10), true);
    vec![
        ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, plain.clone()),
        ColumnFamilyDescriptor::new(RECORDS, records),
        ColumnFamilyDescriptor::new(NODES, plain.clone()),
        ColumnFamilyDescriptor::new(CHECKPOINTS, plain.clone()),
        ColumnFamilyDescriptor::new(POLICIES, policies),
        ColumnFamilyDescriptor::new(OPEN, plain.clone()),
        ColumnFamilyDescriptor::new(META, plain),
    ]
}

/// Whether an error of RocksDB says that another has the lock. It has no code of its own for that; it is an IO error
/// whose text begins so (`LockFile` in its `env/fs_posix.cc`). Other texts that speak of locks and blocks are not this.
fn is_locked(kind: rocksdb::ErrorKind, text: &str) -> bool {
    let by_another = text.starts_with("IO error: While lock file: ")
        && ["Resource temporarily unavailable", "Permission denied"].iter().any(|why| text.ends_with(why));
    let by_this_process = text.starts_with("IO error: lock hold by current process, ");
    kind == rocksdb::ErrorKind::IOError && (by_another || by_this_process)
}

/// The process that holds the lock of the store in `dir`, unless it is this one. Not to be called while this process
/// has the store open: closing the file would give up its lock.
fn holder(dir: &Path) -> Option<i32> {
    use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};
    let file = std::fs::OpenOptions::new().write(true).open(dir.join("LOCK")).ok()?;
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()??;
    // Another namespace's process has no number here.
    lock.pid.map(Pid::as_raw_pid).filter(|pid| *pid > 0)
}

/// Whether `dir` holds a log with a write-ahead log. RocksDB opens one without as if its last records had never been;
/// of those before the last, its manifest knows.
fn present(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    if !RocksStore::is_at(dir) {
        return Err(OpenError::Absent(dir.to_owned()));
    }
    for entry in std::fs::read_dir(dir).map_err(io)? {
        if Path::new(&entry.map_err(io)?.file_name()).extension().is_some_and(|extension| extension == "log")
        {
            return Ok(());
        }
    }
    Err(OpenError::NoWriteAhead(dir.to_owned()))
}

/// Makes `dir` and its parents, open to this user only.
fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A directory that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
        let path = std::env::temp_dir().join(format!("portcullis-read-{:016x}", u64::from_ne_bytes(salt)));
        private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing in it is wanted; what cannot be removed here, the system's cleaning of temporary files will.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const RECORDS: &str = "records";
const NODES: &str = "nodes";
const CHECKPOINTS: &str = "checkpoints";
const OPEN: &str = "open";
const POLICIES: &str = "policies";
const META: &str = "meta";

const FORMAT_KEY: &str = "format";
const ORIGIN_KEY: &str = "origin";
const VKEY_KEY: &str = "vkey";
const LATEST_KEY: &str = "latest";
const COSIGNED_KEY: &str = "cosigned";
const TIP_KEY: &str = "tip";
const KEYS_KEY: &str = "keys";
const FORMAT: &[u8] = b"1";

#[cfg(test)]
mod tests;
