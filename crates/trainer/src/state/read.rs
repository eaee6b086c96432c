//! Reading a file that may be anything: what is wrong is told with the file's and the field's name, and nothing is allocated
//! beyond the file's size and the tensors in it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use super::file::{ABOUT, About, BUFFER, FORMAT, GRADIENT, OPTIMIZER, PARAMETER};
use crate::{Error, Position, Result, TrainingState};

/// Bytes before the header, which say how long it is.
pub(super) const LENGTH: usize = 8;

/// A header of this length describes a million tensors; one that is longer is none.
const LONGEST_HEADER: u64 = 100_000_000;

pub(super) fn state(path: &Path) -> Result<TrainingState> {
    let bytes = bytes(path)?;
    let file = parse(path, &bytes)?;
    let about = about(path, &bytes)?;
    let names = about.optimizers.clone();
    let mut state = about.into_state();
    for name in &names {
        state.optimizers.insert(name.clone(), HashMap::new());
    }
    for (name, view) in file.iter() {
        let tensor = tensor(path, name, &view)?;
        let placed = |rest: &str| {
            let (place, entry) = rest.split_once('.')?;
            Some((names.get(place.parse::<usize>().ok()?)?.clone(), entry.to_string()))
        };
        let unknown = || foreign(path, format!("its tensor '{name}' has no place in a state"));
        if let Some(name) = name.strip_prefix(PARAMETER) {
            state.parameters.insert(name.to_string(), tensor);
        } else if let Some(name) = name.strip_prefix(BUFFER) {
            state.accumulated.buffers.insert(name.to_string(), tensor);
        } else if let Some(rest) = name.strip_prefix(OPTIMIZER) {
            let (optimizer, entry) = placed(rest).ok_or_else(unknown)?;
            state.optimizers.entry(optimizer).or_default().insert(entry, tensor);
        } else if let Some(rest) = name.strip_prefix(GRADIENT) {
            let (optimizer, entry) = placed(rest).ok_or_else(unknown)?;
            state.accumulated.gradients.entry(optimizer).or_default().insert(entry, tensor);
        } else {
            return Err(unknown());
        }
    }
    Ok(state)
}

pub(super) fn latest(folder: &Path) -> Result<Option<TrainingState>> {
    let failed = |source| Error::Io { path: folder.to_path_buf(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut best: Option<(Position, PathBuf)> = None;
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let Some(at) = position(&path)? else { continue };
        let later = |(best, _): &(Position, PathBuf)| order(at) > order(*best);
        if best.as_ref().is_none_or(later) {
            best = Some((at, path));
        }
    }
    best.map(|(_, path)| state(&path)).transpose()
}

/// Batches count where steps are the same: a step may be half complete.
fn order(at: Position) -> (usize, usize, usize) {
    (at.step, at.epoch, at.batch)
}

/// Where the state of a file is, of which the header alone is read; `None` for a safetensors file of something else, such as a
/// model that was saved beside the states.
fn position(path: &Path) -> Result<Option<Position>> {
    let header = header(path, &mut open(path)?)?;
    match metadata(path, &header)?.contains_key(FORMAT.0) {
        true => about_of(path, &header).map(|about| Some(about.position())),
        false => Ok(None),
    }
}

pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// The header of a file, which is read up to its end.
pub(super) fn header(path: &Path, file: &mut File) -> Result<Vec<u8>> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let size = file.metadata().map_err(failed)?.len();
    let mut length = [0; LENGTH];
    file.read_exact(&mut length).map_err(|_| foreign(path, "it is shorter than a header"))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > size.saturating_sub(LENGTH as u64) {
        return Err(foreign(path, "its header is longer than the file"));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(failed)?;
    Ok(header)
}

/// The tensors of a safetensors file, whoever wrote it: those of a state are its parameters.
pub(crate) fn tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    let bytes = bytes(path)?;
    let file = parse(path, &bytes)?;
    let is_state = about(path, &bytes).is_ok();
    let named = file.iter().filter_map(|(name, view)| match is_state {
        true => Some((name.strip_prefix(PARAMETER)?, view)),
        false => Some((name, view)),
    });
    named.map(|(name, view)| Ok((name.to_string(), tensor(path, name, &view)?))).collect()
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|error| foreign(path, error.to_string()))
}

/// What a file that was parsed says of itself.
fn about(path: &Path, bytes: &[u8]) -> Result<About> {
    let length = bytes.get(..LENGTH).and_then(|length| Some(u64::from_le_bytes(length.try_into().ok()?)));
    let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(LENGTH));
    let header = end.and_then(|end| bytes.get(LENGTH..end));
    about_of(path, header.ok_or_else(|| foreign(path, "it is shorter than its header"))?)
}

pub(super) fn metadata(path: &Path, header: &[u8]) -> Result<HashMap<String, String>> {
    /// The one part of a safetensors header that is looked at.
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: Option<HashMap<String, String>>,
    }
    let parsed: std::result::Result<Header, _> = serde_json::from_slice(header);
    Ok(parsed.map_err(|error| foreign(path, format!("its header: {error}")))?.metadata.unwrap_or_default())
}

fn about_of(path: &Path, header: &[u8]) -> Result<About> {
    let metadata = metadata(path, header)?;
    let field =
        |name: &str| metadata.get(name).ok_or_else(|| foreign(path, format!("it has no field '{name}'")));
    let (key, format) = FORMAT;
    if field(key)? != format {
        let what = format!("its field '{key}' is {:?}, and {format:?} is what is read here", field(key)?);
        return Err(foreign(path, what));
    }
    serde_json::from_str(field(ABOUT)?)
        .map_err(|error| foreign(path, format!("its field '{ABOUT}': {error}")))
}

pub(super) fn tensor(path: &Path, name: &str, view: &safetensors::tensor::TensorView<'_>) -> Result<Tensor> {
    let dtype = match view.dtype() {
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::U32 => DType::U32,
        Dtype::U8 => DType::U8,
        other => {
            let what =
                format!("its tensor '{name}' is of {other:?}; F16, BF16, F32, F64, I64, U32 and U8 are read");
            return Err(foreign(path, what));
        }
    };
    let read = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu);
    read.map_err(|error| foreign(path, format!("its tensor '{name}': {error}")))
}

pub(super) fn foreign(path: &Path, what: impl Into<String>) -> Error {
    Error::NotAState { path: path.to_path_buf(), what: what.into() }
}
