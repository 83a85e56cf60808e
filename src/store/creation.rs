//! A store that is being made, beside its place: a part of one never passes for the whole.
//!
//! Everything is written below [`CREATION_DIRECTORY`] and moved to its place by one rename. So a
//! process that is killed on the way leaves nothing that the next one could not begin anew.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::directory::{CREATION_DIRECTORY, DATA_FILE, OWNER_ONLY, mark};
use super::environment::Environment;
use super::error::StoreError;

/// A new store in a locked directory; without [`Creation::finish`] it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Creation<'a> {
    directory: &'a Path,
    environment: Option<Environment>,
}

impl<'a> Creation<'a> {
    /// With empty tables. What a killed process has left of its own is removed.
    pub(super) fn begin(directory: &'a Path, map_bytes: u64) -> Result<Self, StoreError> {
        remove_begun(directory)?;
        let place = place_of(directory);
        let made = DirBuilder::new().mode(OWNER_ONLY).create(&place);
        made.map_err(failed(&place, "the directory cannot be made"))?;
        let mut creation = Self {
            directory,
            environment: None,
        };
        creation.environment = Some(Environment::create(&place, map_bytes)?);
        Ok(creation)
    }

    pub(super) fn environment(&self) -> &Environment {
        let environment = self.environment.as_ref();
        environment.expect("only the end takes it")
    }

    /// Moves it to its place, where an empty store may be.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        if let Some(environment) = self.environment.take() {
            environment.close();
        }
        let made = place_of(self.directory).join(DATA_FILE);
        replace_data(&made, self.directory)?;
        mark(self.directory)
    }
}

impl Drop for Creation<'_> {
    fn drop(&mut self) {
        if let Some(environment) = self.environment.take() {
            environment.close();
        }
        // What is left is removed by the next start.
        let _ = remove_begun(self.directory);
    }
}

/// Moves a whole data file to its place, in one step that survives a power cut.
pub(super) fn replace_data(from: &Path, directory: &Path) -> Result<(), StoreError> {
    File::open(from)
        .and_then(|file| file.sync_all())
        .map_err(failed(from, "it cannot be flushed"))?;
    fs::rename(from, directory.join(DATA_FILE))
        .map_err(failed(from, "it cannot take its place"))?;
    File::open(directory)
        .and_then(|it| it.sync_all())
        .map_err(failed(directory, "the directory cannot be flushed"))
}

/// Removes what a killed process has left of a store that it was making.
pub(super) fn remove_begun(directory: &Path) -> Result<(), StoreError> {
    let place = place_of(directory);
    match fs::remove_dir_all(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(&place, "it cannot be removed")(error))
        }
        _ => Ok(()),
    }
}

fn place_of(directory: &Path) -> PathBuf {
    directory.join(CREATION_DIRECTORY)
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, what, source }
}
