//! Numbers of a run, read from the device without waiting at every step and without keeping a tensor for each: losses, and
//! metrics averaged over samples.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::trainer::read;

/// Losses that a device may be ahead by. Once they are full, the host waits for the device to have written them all.
const ROOM: usize = 256;

/// Collects one number a step. On a CPU it is read at once; elsewhere it is copied into one block, which is read when it is
/// full. A small tensor kept for each step would pin its block of the device's pool and let memory grow with every step.
pub(crate) struct Losses {
    read: Vec<f64>,
    on_device: Option<Block>,
}

/// The last losses, on their device.
struct Block {
    values: Tensor,
    filled: usize,
}

impl Losses {
    pub(crate) fn new(device: &Device) -> Result<Self> {
        let block =
            || Ok::<_, crate::Error>(Block { values: Tensor::zeros(ROOM, DType::F64, device)?, filled: 0 });
        Ok(Self { read: Vec::new(), on_device: (!device.is_cpu()).then(block).transpose()? })
    }

    pub(crate) fn push(&mut self, loss: &Tensor) -> Result<()> {
        let Some(block) = &mut self.on_device else {
            self.read.push(read(loss)?);
            return Ok(());
        };
        block.values.slice_set(&loss.to_dtype(DType::F64)?.reshape(1)?, 0, block.filled)?;
        block.filled += 1;
        if block.filled == ROOM { self.catch_up() } else { Ok(()) }
    }

    /// All losses, in order. Waits for the device.
    pub(crate) fn into_read(mut self) -> Result<Vec<f64>> {
        self.catch_up()?;
        Ok(self.read)
    }

    /// All losses so far, in order. Waits for the device.
    pub(crate) fn read_all(&mut self) -> Result<&[f64]> {
        self.catch_up()?;
        Ok(&self.read)
    }

    /// Those that were read already. Does not wait.
    pub(crate) fn known(&self) -> &[f64] {
        &self.read
    }

    fn catch_up(&mut self) -> Result<()> {
        if let Some(block) = &mut self.on_device {
            self.read.extend(block.values.narrow(0, 0, block.filled)?.to_vec1::<f64>()?);
            block.filled = 0;
        }
        Ok(())
    }
}

/// Means over samples of numbers by name, since they were last taken.
#[derive(Default)]
pub(crate) struct Averages(Vec<Average>);

struct Average {
    name: String,
    values: Losses,
    samples: Vec<f64>,
}

impl Averages {
    /// Counts a value that is a mean over `samples`.
    pub(crate) fn push(&mut self, name: &str, value: &Tensor, samples: usize) -> Result<()> {
        let known = self.0.iter_mut().position(|average| average.name == name);
        let index = match known {
            Some(index) => index,
            None => {
                let values = Losses::new(value.device())?;
                self.0.push(Average { name: name.to_string(), values, samples: Vec::new() });
                self.0.len() - 1
            }
        };
        let average = &mut self.0[index];
        average.samples.push(samples as f64);
        average.values.push(value)
    }

    /// The means, in the order in which their names came up first. Waits for the device.
    pub(crate) fn take(&mut self) -> Result<Vec<(String, f64)>> {
        let all = std::mem::take(&mut self.0);
        all.into_iter()
            .map(|Average { name, values, samples }| Ok((name, weighted(&values.into_read()?, &samples))))
            .collect()
    }
}

/// The mean of `values`, each of which counts as often as it has samples.
pub(crate) fn weighted(values: &[f64], samples: &[f64]) -> f64 {
    let total: f64 = samples.iter().sum();
    values.iter().zip(samples).map(|(value, count)| value * count).sum::<f64>() / total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_every_loss_once_and_in_order() {
        let values = Tensor::zeros(ROOM, DType::F64, &Device::Cpu).unwrap();
        let mut losses = Losses { read: Vec::new(), on_device: Some(Block { values, filled: 0 }) };
        let count = 2 * ROOM + 3;
        for step in 0..count {
            losses.push(&Tensor::new(step as f32, &Device::Cpu).unwrap()).unwrap();
        }
        let expected: Vec<f64> = (0..count).map(|step| step as f64).collect();
        assert_eq!(losses.into_read().unwrap(), expected);
    }

    #[test]
    fn averages_weigh_samples_and_start_anew_once_taken() {
        let of = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        let mut averages = Averages::default();
        averages.push("a", &of(1.), 3).unwrap();
        averages.push("b", &of(7.), 1).unwrap();
        averages.push("a", &of(5.), 1).unwrap();
        assert_eq!(averages.take().unwrap(), [("a".to_string(), 2.), ("b".to_string(), 7.)]);
        assert_eq!(averages.take().unwrap(), []);
    }
}
