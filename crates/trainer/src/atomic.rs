//! Files that appear whole or not at all, whenever the process or the machine stops.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Puts `bytes` in the place of the file at `path`: written beside it, synced, renamed, and the folder synced, so that there is
/// the old file or the new one and never a part.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let unfinished = beside(path);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // What was there before is still there; the part of the new one is of no use.
        let _ = std::fs::remove_file(&unfinished);
        return Err(failed(path)(error));
    }
    std::fs::rename(&unfinished, path).map_err(failed(path))?;
    sync_folder(path).map_err(failed(path))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

/// The rename outlives the machine's end only once its folder is on the disk.
#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = std::env::temp_dir().join(format!("trainer-atomic-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("state.safetensors");
        for content in [&b"old"[..], b"new"] {
            replace_file(&path, content).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        let missing = folder.join("no/such/folder/state.safetensors");
        let error = replace_file(&missing, b"new").unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path == &missing), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
