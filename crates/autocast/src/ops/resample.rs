//! Linear maps along single dimensions: average pooling and interpolation are products with small constant matrices, one
//! per dimension. Their gradient is the product with the transposed matrix, which is right for any sizes, where candle's
//! pools and upsampling have none or overwrite each other's.

use candle_core::{Device, Tensor};

use super::product::product_transposed;
use crate::Result;
use crate::prepare::widen;

/// A map of `inputs` values to `outputs` values, by rows.
pub(super) struct Resample {
    outputs: usize,
    inputs: usize,
    weights: Vec<f64>,
}

impl Resample {
    /// Row by row from the (input, weight) pairs that `taps` gives for each output; weights for one input add up.
    pub(super) fn new<T: IntoIterator<Item = (usize, f64)>>(
        outputs: usize,
        inputs: usize,
        taps: impl Fn(usize) -> T,
    ) -> Self {
        let mut weights = vec![0.; outputs * inputs];
        for output in 0..outputs {
            for (input, weight) in taps(output) {
                weights[output * inputs + input] += weight;
            }
        }
        Self { outputs, inputs, weights }
    }

    fn matrix(&self, like: &Tensor, device: &Device) -> Result<Tensor> {
        let matrix = Tensor::from_slice(&self.weights, (self.outputs, self.inputs), &Device::Cpu)?;
        Ok(matrix.to_dtype(like.dtype())?.to_device(device)?)
    }
}

/// `x` with its last dimensions mapped by `maps`, the last by the last; computed in f32 (f64 for f64), narrowed once.
pub(super) fn resample(x: &Tensor, maps: &[Resample]) -> Result<Tensor> {
    let dtype = x.dtype();
    let mut x = widen(x)?;
    let mut dims = x.dims().to_vec();
    let rank = dims.len();
    for (back, map) in maps.iter().rev().enumerate() {
        let dim = rank - 1 - back;
        let matrix = map.matrix(&x, x.device())?;
        let turned = x.transpose(dim, rank - 1)?;
        let mut turned_dims = turned.dims().to_vec();
        let rows = turned_dims[..rank - 1].iter().product::<usize>();
        let mapped = product_transposed(&turned.reshape((rows, map.inputs))?, &matrix)?;
        turned_dims[rank - 1] = map.outputs;
        dims[dim] = map.outputs;
        x = mapped.reshape(turned_dims)?.transpose(dim, rank - 1)?;
    }
    debug_assert_eq!(x.dims(), dims);
    Ok(x.contiguous()?.to_dtype(dtype)?)
}
