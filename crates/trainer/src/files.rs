//! What loggers and reports do with files: append whole records, replace a file at once, put an earlier run's aside.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::atomic::replace_file;
use crate::{Error, Result};

/// Says which file an error of the system is about.
pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// A file that grows by whole records.
#[derive(Debug)]
pub(crate) struct Appended {
    path: PathBuf,
    file: File,
}

impl Appended {
    /// Opens a file, or creates it and the folders above it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        create_parent(path)?;
        let file = at(path, OpenOptions::new().create(true).append(true).open(path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends a record in one call to the system: a process that is killed leaves it whole or not at all.
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<()> {
        at(&self.path, self.file.write_all(record))
    }

    /// Returns once the system has everything on its disk.
    pub(crate) fn sync(&self) -> Result<()> {
        at(&self.path, self.file.sync_data())
    }
}

fn create_parent(path: &Path) -> Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => at(folder, fs::create_dir_all(folder)),
        None => Ok(()),
    }
}

/// Puts `content` in the place of the file at once, and makes the folders above it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    create_parent(path)?;
    replace_file(path, content)
}

/// The content of a file; `None` where there is none or it is empty.
pub(crate) fn content(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content).filter(|content| !content.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => at(path, Err(error)),
    }
}

/// Renames `metrics.csv` to `metrics.earlier-1.csv`, or the first number that is free, if it is there.
pub(crate) fn put_aside(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    at(path, fs::rename(path, free(|number| beside(path, &format!("earlier-{number}")))))
}

/// The first of the numbered paths, from 1, at which nothing is.
pub(crate) fn free(numbered: impl Fn(usize) -> PathBuf) -> PathBuf {
    let mut number = 1;
    while numbered(number).exists() {
        number += 1;
    }
    numbered(number)
}

/// `metrics.<what>.csv` for `metrics.csv`.
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("{what}.{}", extension.to_string_lossy())),
        None => path.with_extension(what),
    }
}

/// The lines that were written to their end. What a crash of the machine left of the last one is not one of them.
pub(crate) fn whole_lines(content: &[u8]) -> &[u8] {
    let end = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    &content[..end]
}
