//! The directory of a store: private to its owner, locked, and known to have held a store.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::error::StoreError;

/// The lock of a directory.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone is not enough while a process that was just forked holds the file too.
        let _ = self.0.unlock();
    }
}

/// Whether a store is or was here, whatever has become of its data file: a store is made elsewhere
/// and comes to its place whole, so that LMDB's lock file is never here before the first one.
pub(super) fn has_past(directory: &Path) -> bool {
    [MARK_FILE, ENGINE_LOCK_FILE]
        .iter()
        .any(|name| directory.join(name).exists())
}

/// Makes the directory if there is none. One that others may enter becomes the owner's alone if
/// there is nothing in it but a store; else it has other uses, and is refused.
pub(super) fn make_private(directory: &Path) -> Result<(), StoreError> {
    let failed = |what| {
        move |source| StoreError::Io {
            path: directory.to_owned(),
            what,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(directory)
        .map_err(failed("the directory cannot be made"))?;
    let metadata = fs::metadata(directory).map_err(failed("the directory cannot be read"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    if let Some(name) = other_file(directory).map_err(failed("the directory cannot be read"))? {
        return Err(StoreError::Shared {
            path: directory.to_owned(),
            mode,
            name,
        });
    }
    fs::set_permissions(directory, Permissions::from_mode(OWNER_ONLY))
        .map_err(failed("the directory cannot be made private to its owner"))?;
    tracing::warn!(
        directory = %directory.display(),
        mode = format_args!("{mode:04o}"),
        "others could enter the directory of the store: from now on its owner alone can"
    );
    Ok(())
}

/// Something in the directory that is no part of a store.
fn other_file(directory: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !OWN_FILES.iter().any(|it| name == **it) {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

impl Lock {
    /// Refuses a second process, whose number the file names.
    pub(super) fn of(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(LOCK_FILE);
        let failed = |source: io::Error| StoreError::Io {
            path: path.clone(),
            what: "the lock file cannot be used",
            source,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(StoreError::Locked {
                    path: directory.to_owned(),
                    owner: text.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }
}

/// From now on an empty directory is a loss, not a beginning.
pub(super) fn mark(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(MARK_FILE);
    if path.exists() {
        return Ok(());
    }
    let text = "This directory holds a store of Tidewire. Do not edit its files.\n";
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(directory)?.sync_all()?;
        // The directory itself may be new as well.
        File::open(directory.join(".."))?.sync_all()
    };
    write().map_err(|source| StoreError::Io {
        path: path.clone(),
        what: "it cannot be written",
        source,
    })
}

pub(super) const DATA_FILE: &str = "data.mdb";
/// Being compacted.
pub(super) const COPY_FILE: &str = "data.mdb.copy";
const LOCK_FILE: &str = "tidewire.lock";
const ENGINE_LOCK_FILE: &str = "lock.mdb";
const MARK_FILE: &str = "README";
/// Below it a store is made.
pub(super) const CREATION_DIRECTORY: &str = "creating";
/// What may lie in a directory that is the store's alone; a new file system brings the last.
const OWN_FILES: [&str; 7] = [
    DATA_FILE,
    COPY_FILE,
    CREATION_DIRECTORY,
    LOCK_FILE,
    ENGINE_LOCK_FILE,
    MARK_FILE,
    "lost+found",
];
pub(super) const OWNER_ONLY: u32 = 0o700;
