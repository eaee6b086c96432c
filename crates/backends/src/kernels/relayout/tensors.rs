//! The same for candle's tensors. What is returned is part of no graph.

use candle_core::{Shape, Tensor};

use super::{OP, relayout};
use crate::Result;
use crate::bridge::{candle, run_one};
use crate::kernels::convolution::Channels;

/// Whether the elements of `(n, channels, …)` lie as `(n, …, channels)` and not also as they are counted.
pub fn lies_last(x: &Tensor) -> bool {
    if !matches!(x.rank(), 3 | 4) || x.is_contiguous() {
        return false;
    }
    let (dims, strides) = (x.dims(), x.stride());
    let order = [0].into_iter().chain(2..x.rank()).chain([1]);
    let mut expected = 1;
    order.rev().all(|i| {
        let fits = dims[i] == 1 || strides[i] == expected;
        expected *= dims[i];
        fits
    })
}

/// `x` of four dimensions off the graph, lying as `channels` says: itself where it does, else a copy.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device).
pub fn relaid(x: &Tensor, channels: Channels) -> Result<Tensor> {
    let x = x.detach();
    match channels {
        Channels::Second if x.is_contiguous() => Ok(x),
        Channels::Second if lies_last(&x) => {
            let laid = x.permute((0, 2, 3, 1)).map_err(candle(OP))?;
            let [n, rows, columns, channels] = four(&laid);
            swapped(&laid, [n, rows * columns, channels], x.dims())
        }
        Channels::Second => x.contiguous().map_err(candle(OP)),
        Channels::Last => {
            let laid = x.permute((0, 2, 3, 1)).map_err(candle(OP))?;
            if laid.is_contiguous() {
                return Ok(x);
            }
            let made = if x.is_contiguous() {
                let [n, channels, rows, columns] = four(&x);
                swapped(&x, [n, channels, rows * columns], laid.dims())?
            } else {
                laid.contiguous().map_err(candle(OP))?
            };
            made.permute((0, 3, 1, 2)).map_err(candle(OP))
        }
    }
}

/// `x`, contiguous and of `(n, channels, rows, columns)` off the graph, lying with its channels last and zeros behind them up to `width`:
/// for kernels that read several at a time. `None` where no kernel does that.
///
/// # Errors
///
/// [`Error::Device`](crate::Error::Device).
pub fn widened(x: &Tensor, width: usize) -> Result<Option<Tensor>> {
    let x = x.detach();
    let [n, channels, rows, columns] = four(&x);
    if !x.is_contiguous() || width < channels || !x.device().is_cuda() {
        return Ok(None);
    }
    let output = (Shape::from((n, rows, columns, width)), x.dtype());
    let made =
        run_one(OP, &[&x], output, |ins, out| relayout(&ins[0], [n, channels, rows * columns], width, out))?;
    made.ran().map(|made| made.permute((0, 3, 1, 2)).map_err(candle(OP))).transpose()
}

/// `(n, a, b)` as `(n, b, a)`, which are the elements of `dims`.
fn swapped(x: &Tensor, [n, a, b]: [usize; 3], dims: &[usize]) -> Result<Tensor> {
    let output = (Shape::from(dims.to_vec()), x.dtype());
    match run_one(OP, &[x], output, |ins, out| relayout(&ins[0], [n, a, b], a, out))?.ran() {
        Some(made) => Ok(made),
        None => {
            let swapped = x.reshape((n, a, b)).and_then(|x| x.transpose(1, 2)?.contiguous()?.reshape(dims));
            swapped.map_err(candle(OP))
        }
    }
}

fn four(x: &Tensor) -> [usize; 4] {
    x.dims().try_into().unwrap_or([0; 4])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn image(dims: (usize, usize, usize, usize)) -> Tensor {
        let count = (dims.0 * dims.1 * dims.2 * dims.3) as u32;
        Tensor::arange(0, count, &Device::Cpu).unwrap().reshape(dims).unwrap()
    }

    #[test]
    fn channels_lie_last_or_second() {
        let second = image((2, 3, 4, 5));
        let last = relaid(&second, Channels::Last).unwrap();
        assert!(lies_last(&last) && !lies_last(&second));
        assert_eq!(last.stride(), [60, 1, 15, 3]);
        // One channel, or one pixel, lies both ways.
        for dims in [(2, 1, 4, 5), (2, 3, 1, 1)] {
            let x = image(dims);
            assert!(!lies_last(&relaid(&x, Channels::Last).unwrap()) && !lies_last(&x), "{dims:?}");
        }
        assert!(!lies_last(&second.transpose(2, 3).unwrap()), "neither");
    }

    #[test]
    fn every_layout_becomes_either_and_keeps_its_elements() {
        let x = image((2, 3, 4, 5));
        let laid = [x.clone(), relaid(&x, Channels::Last).unwrap(), x.transpose(2, 3).unwrap()];
        for x in laid {
            for channels in [Channels::Last, Channels::Second] {
                let made = relaid(&x, channels).unwrap();
                assert_eq!(lies_last(&made), channels == Channels::Last);
                assert_eq!(made.is_contiguous(), channels == Channels::Second);
                let differ = made.to_dtype(DType::F32).unwrap() - x.to_dtype(DType::F32).unwrap();
                let differ = differ.unwrap().abs().unwrap().sum_all().unwrap();
                assert_eq!(differ.to_scalar::<f32>().unwrap(), 0., "{channels:?} of {:?}", x.stride());
            }
        }
    }
}
