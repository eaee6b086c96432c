//! A safetensors file whose tensors are read one at a time, as a model asks for them: no more of it is in memory than that.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};

use super::file::{FORMAT, PARAMETER};
use super::read::{LENGTH, foreign, header, metadata, open, tensor};
use crate::{Error, Result};

/// The weights of a file by name; of a [`TrainingState`](crate::TrainingState) its parameters.
pub(crate) struct WeightFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the tensors begin, in bytes.
    start: u64,
    tensors: HashMap<String, TensorInfo>,
}

impl WeightFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        let header = header(path, &mut file)?;
        let is_state = metadata(path, &header)?.contains_key(FORMAT.0);
        let parsed: std::result::Result<Metadata, _> = serde_json::from_slice(&header);
        let parsed = parsed.map_err(|error| foreign(path, format!("its header: {error}")))?;
        let start = (LENGTH + header.len()) as u64;
        let size = file.metadata().map_err(|source| Error::Io { path: path.to_path_buf(), source })?.len();
        if size != start + parsed.data_len() as u64 {
            return Err(foreign(path, "it is not as long as its header says"));
        }
        let tensors = parsed.tensors().into_iter().filter_map(|(name, info)| {
            let name = if is_state { name.strip_prefix(PARAMETER)?.to_string() } else { name };
            Some((name, info.clone()))
        });
        Ok(Self { path: path.to_path_buf(), tensors: tensors.collect(), file: Mutex::new(file), start })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor of that name, as it was saved.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Tensor>> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Io { path: self.path.clone(), source })?;
        let view = TensorView::new(info.dtype, info.shape.clone(), &bytes);
        let view = view.map_err(|error| foreign(&self.path, format!("its tensor '{name}': {error}")))?;
        tensor(&self.path, name, &view).map(Some)
    }
}
