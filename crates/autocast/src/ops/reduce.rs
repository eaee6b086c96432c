//! Reductions by summing: over any dimensions, in f32 (f64 for f64), rounded once.

use candle_core::Tensor;
use candle_core::shape::Dims;

use super::record::{record, wide};
use super::scan::{Direction, recurrence, scan, shifted};
use crate::Result;
use crate::prepare::float_inputs;

/// The sum over `dims`, which are removed; 0 over nothing.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn sum<D: Dims>(x: &Tensor, dims: D) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "sum")?;
    sum_of("sum", x, dims, |_| 1.)
}

/// The sum of all elements.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
pub fn sum_all(x: &Tensor) -> Result<Tensor> {
    sum_of("sum", x, (0..x.rank()).collect(), |_| 1.)
}

/// The mean over `dims`, which are removed; NaN over nothing.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn mean<D: Dims>(x: &Tensor, dims: D) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "mean")?;
    sum_of("mean", x, dims, |count| count as f64)
}

/// The mean of all elements.
///
/// # Errors
///
/// A dtype that is not f16, bf16, f32 or f64.
pub fn mean_all(x: &Tensor) -> Result<Tensor> {
    sum_of("mean", x, (0..x.rank()).collect(), |count| count as f64)
}

fn sum_of(op: &'static str, x: &Tensor, dims: Vec<usize>, divisor: fn(usize) -> f64) -> Result<Tensor> {
    let [x] = float_inputs(op, [x])?;
    let reduced = Reduced::new(&x, dims);
    let divisor = divisor(reduced.count);
    let [w] = wide([&x])?;
    let value = (reduced.sum(&w)? / divisor)?;
    record(op, [&x], reduced.squeeze(&value)?.to_dtype(x.dtype())?, move |grad, _, [x]| {
        Ok([(reduced.keep(grad)? / divisor)?.broadcast_as(x.shape())?])
    })
}

/// The variance over `dims`, which are removed. The sum of squared differences is divided by their number less
/// `correction`: 1 for an unbiased estimate (PyTorch's default), 0 for the variance of these numbers.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn var<D: Dims>(x: &Tensor, dims: D, correction: usize) -> Result<Tensor> {
    let [x] = float_inputs("var", [x])?;
    let reduced = Reduced::new(&x, dims.to_indexes(x.shape(), "var")?);
    let freedom = reduced.count as f64 - correction as f64;
    let [w] = wide([&x])?;
    let value = (reduced.sum(&reduced.centred(&w)?.sqr()?)? / freedom.max(0.))?;
    record("var", [&x], reduced.squeeze(&value)?.to_dtype(x.dtype())?, move |grad, _, [x]| {
        let centred = reduced.centred(&wide([x])?[0])?;
        Ok([centred.broadcast_mul(&(reduced.keep(grad)? * (2. / freedom.max(0.)))?)?])
    })
}

/// The standard deviation over `dims`, which are removed: the square root of [`var`]. The gradient where it is 0 is 0.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.std`.
pub fn std<D: Dims>(x: &Tensor, dims: D, correction: usize) -> Result<Tensor> {
    let [x] = float_inputs("std", [x])?;
    let reduced = Reduced::new(&x, dims.to_indexes(x.shape(), "std")?);
    let freedom = (reduced.count as f64 - correction as f64).max(0.);
    let [w] = wide([&x])?;
    let std = (reduced.sum(&reduced.centred(&w)?.sqr()?)? / freedom)?.sqrt()?;
    record("std", [&x], reduced.squeeze(&std)?.to_dtype(x.dtype())?, move |grad, _, [x]| {
        let factor = (reduced.keep(grad)? / (&std * freedom)?)?;
        let factor = std.eq(0.)?.where_cond(&std.zeros_like()?, &factor)?;
        Ok([reduced.centred(&wide([x])?[0])?.broadcast_mul(&factor)?])
    })
}

/// The Euclidean norm over `dims`, which are removed. The gradient where the norm is 0 is 0.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
///
/// # Source
///
/// `torch.linalg.vector_norm`.
pub fn norm<D: Dims>(x: &Tensor, dims: D) -> Result<Tensor> {
    let dims = dims.to_indexes(x.shape(), "linalg_vector_norm")?;
    let [x] = float_inputs("linalg_vector_norm", [x])?;
    let reduced = Reduced::new(&x, dims);
    let [w] = wide([&x])?;
    let norm = reduced.sum(&w.sqr()?)?.sqrt()?;
    let value = reduced.squeeze(&norm)?.to_dtype(x.dtype())?;
    record("linalg_vector_norm", [&x], value, move |grad, _, [x]| {
        let factor = (reduced.keep(grad)? / &norm)?;
        let factor = norm.eq(0.)?.where_cond(&norm.zeros_like()?, &factor)?;
        Ok([wide([x])?[0].broadcast_mul(&factor)?])
    })
}

/// The product over `dim`, which is removed; 1 over nothing. Its gradient is right where factors are 0.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn prod(x: &Tensor, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "prod")?;
    let [x] = float_inputs("prod", [x])?;
    let [w] = wide([&x])?;
    let length = w.dims()[dim];
    if length == 0 {
        let reduced = Reduced::new(&x, vec![dim]);
        let value = reduced.squeeze(&(reduced.sum(&w)? + 1.)?)?;
        return record("prod", [&x], value.to_dtype(x.dtype())?, |_, _, [x]| Ok([x.zeros_like()?]));
    }
    let before = scan(&w, dim, Direction::Forward, 1., Tensor::mul)?;
    let value = before.narrow(dim, length - 1, 1)?.squeeze(dim)?;
    record("prod", [&x], value.to_dtype(x.dtype())?, move |grad, _, [x]| {
        // The product of all factors but one, without a division.
        let [x] = wide([x])?;
        let [before, after] = [Direction::Forward, Direction::Backward].map(|from| products(&x, dim, from));
        Ok([(before? * after?)?.broadcast_mul(&grad.unsqueeze(dim)?)?])
    })
}

/// Running sums along `dim`.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn cumsum(x: &Tensor, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "cumsum")?;
    let [x] = float_inputs("cumsum", [x])?;
    let value = scan(&wide([&x])?[0], dim, Direction::Forward, 0., Tensor::add)?;
    record("cumsum", [&x], value.to_dtype(x.dtype())?, move |grad, _, [_]| {
        Ok([scan(grad, dim, Direction::Backward, 0., Tensor::add)?])
    })
}

/// Running products along `dim`. The gradient is right where factors are 0.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn cumprod(x: &Tensor, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "cumprod")?;
    let [x] = float_inputs("cumprod", [x])?;
    let value = scan(&wide([&x])?[0], dim, Direction::Forward, 1., Tensor::mul)?;
    record("cumprod", [&x], value.to_dtype(x.dtype())?, move |grad, _, [x]| {
        // x[i] is a factor of every product from i on: what the gradients of those make of each other's further factors
        // is a recurrence from the end, and what all of them share are the factors before i.
        let [x] = wide([x])?;
        let later = recurrence(&shifted(&x, dim, Direction::Backward, 1, 0.)?, grad, dim)?;
        Ok([(products(&x, dim, Direction::Forward)? * later)?])
    })
}

/// The products along `dim`, which is not empty, of the elements strictly before each one.
fn products(x: &Tensor, dim: usize, from: Direction) -> Result<Tensor> {
    shifted(&scan(x, dim, from, 1., Tensor::mul)?, dim, from, 1, 1.)
}

/// Which dimensions of a tensor are reduced.
struct Reduced {
    dims: Vec<usize>,
    /// The shape with 1 for each of them, and without them.
    kept: Vec<usize>,
    squeezed: Vec<usize>,
    /// How many elements make one.
    count: usize,
}

impl Reduced {
    fn new(x: &Tensor, dims: Vec<usize>) -> Self {
        let count = dims.iter().map(|&d| x.dims()[d]).product();
        let of = |i: usize| if dims.contains(&i) { 1 } else { x.dims()[i] };
        let kept = (0..x.rank()).map(of).collect();
        let squeezed = (0..x.rank()).filter(|i| !dims.contains(i)).map(|i| x.dims()[i]).collect();
        Self { dims, kept, squeezed, count }
    }

    fn sum(&self, x: &Tensor) -> Result<Tensor> {
        if x.elem_count() == 0 {
            return Ok(Tensor::zeros(&*self.kept, x.dtype(), x.device())?);
        }
        Ok(x.sum_keepdim(&*self.dims)?)
    }

    fn centred(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_sub(&(self.sum(x)? / self.count as f64)?)?)
    }

    fn squeeze(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.reshape(&*self.squeezed)?)
    }

    fn keep(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.reshape(&*self.kept)?)
    }
}
