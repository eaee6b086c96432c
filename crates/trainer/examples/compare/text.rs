//! The user's own text, as bytes: windows of it to train on, and its end held out.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::task::Example;

pub(crate) const CONTEXT: usize = 64;
pub(crate) const VOCABULARY: usize = 256;

/// A window holds the inputs and, one byte further, the targets.
const WINDOW: usize = CONTEXT + 1;

/// What is wrong with a text file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TextError {
    #[error("cannot read {}: {source}; give --data a file that exists", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is empty: give --data a text of at least {} bytes", path.display(), 2 * WINDOW)]
    Empty { path: PathBuf },
    #[error("{} is not UTF-8 text (first bad byte at {position}): convert it, or give --data another file", path.display())]
    NotUtf8 { path: PathBuf, position: usize },
    #[error("{} has {length} bytes: too short, give --data a text of at least {} bytes", path.display(), 2 * WINDOW)]
    TooShort { path: PathBuf, length: usize },
}

/// A text to train on and the tenth of it that is held out.
pub(crate) struct Text {
    train: Vec<u8>,
    held_out: Vec<u8>,
}

impl Text {
    pub(crate) fn read(path: &Path) -> Result<Self, TextError> {
        let bytes = std::fs::read(path).map_err(|source| TextError::Read { path: path.into(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| TextError::NotUtf8 {
            path: path.into(),
            position: error.utf8_error().valid_up_to(),
        })?;
        let mut train = text.into_bytes();
        if train.is_empty() {
            return Err(TextError::Empty { path: path.into() });
        }
        if train.len() < 2 * WINDOW {
            return Err(TextError::TooShort { path: path.into(), length: train.len() });
        }
        let held_out = train.split_off(train.len() - (train.len() / 10).max(WINDOW));
        Ok(Self { train, held_out })
    }

    pub(crate) fn training_batch(&self, rows: usize, rng: &mut ChaCha8Rng) -> candle_core::Result<Example> {
        let starts: Vec<_> = (0..rows).map(|_| rng.random_range(0..=self.train.len() - WINDOW)).collect();
        let windows: Vec<_> = starts.iter().map(|&start| &self.train[start..start + WINDOW]).collect();
        encode(&windows)
    }

    /// At most `batches` batches of windows that do not overlap.
    pub(crate) fn held_out_batches(&self, rows: usize, batches: usize) -> candle_core::Result<Vec<Example>> {
        let windows: Vec<_> = self.held_out.chunks_exact(WINDOW).collect();
        windows.chunks(rows).take(batches).map(encode).collect()
    }
}

fn encode(windows: &[&[u8]]) -> candle_core::Result<Example> {
    let tokens = |range: std::ops::Range<usize>| {
        let bytes: Vec<i64> =
            windows.iter().flat_map(|window| &window[range.clone()]).map(|&byte| i64::from(byte)).collect();
        Tensor::from_vec(bytes, (windows.len(), CONTEXT), &Device::Cpu)
    };
    Ok((tokens(0..CONTEXT)?, tokens(1..WINDOW)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_inputs_one_byte_on() {
        let window: Vec<u8> = (0..WINDOW as u8).collect();
        let (inputs, targets) = encode(&[&window]).unwrap();
        assert_eq!(
            inputs.to_vec2::<i64>().unwrap()[0][1..],
            targets.to_vec2::<i64>().unwrap()[0][..CONTEXT - 1]
        );
    }
}
