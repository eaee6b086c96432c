//! Reductions by summing: over any dimensions, in f32 (f64 for f64), rounded once.

use backends::kernels::pointwise::Function;
use backends::kernels::sum::Term;
use candle_core::shape::Dims;
use candle_core::{DType, Tensor};

use super::scan::{Direction, recurrence, scan, shifted};
use crate::Result;
use crate::dtypes::accumulation_dtype;
use crate::graph::{Keep, composed, wide};
use crate::ops::shape::empty::{of_no_elements, without_gradient};
use crate::plain::{apply, over, plus, times, zero_where};
use crate::region::float_inputs;
use crate::total::{centred, quotient_of, total_f64};

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
    let [x] = float_inputs(op, [("x", x)])?;
    divided_sum(op, &x, dims, divisor)
}

/// The sum over `dims` of a float tensor in the dtype that it has, whatever the region.
pub(crate) fn summed(op: &'static str, x: &Tensor, dims: Vec<usize>) -> Result<Tensor> {
    divided_sum(op, x, dims, |_| 1.)
}

fn divided_sum(op: &'static str, x: &Tensor, dims: Vec<usize>, divisor: fn(usize) -> f64) -> Result<Tensor> {
    let reduced = Reduced::new(x, dims);
    let divisor = divisor(reduced.count);
    if let Some(empty) = of_no_elements(op, &[x], &reduced.squeezed, x.dtype())? {
        return Ok(empty);
    }
    // Divided in f64, where the sum of large f32 is finite.
    let value = quotient_of(&total_f64(x, &reduced.dims, Term::Value)?, divisor)?;
    let value = value.to_dtype(accumulation_dtype(x.dtype()))?;
    composed(op, [x], reduced.squeeze(&value)?.to_dtype(x.dtype())?, Keep::Nothing, move |grad, _, [x]| {
        Ok([quotient_of(&reduced.keep(grad)?, divisor)?.broadcast_as(x.shape())?])
    })
}

/// The variance over `dims`, which are removed. The sum of squared differences is divided by their number less
/// `correction`: 1 for an unbiased estimate (PyTorch's default), 0 for the variance of these numbers.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn var<D: Dims>(x: &Tensor, dims: D, correction: usize) -> Result<Tensor> {
    let [x] = float_inputs("var", [("x", x)])?;
    let reduced = Reduced::new(&x, dims.to_indexes(x.shape(), "var")?);
    let freedom = (reduced.count as f64 - correction as f64).max(0.);
    if let Some(empty) = of_no_elements("var", &[&x], &reduced.squeezed, x.dtype())? {
        return Ok(empty);
    }
    let [w] = wide([&x])?;
    let value = quotient_of(&reduced.squares(&reduced.centred(&w)?)?, freedom)?.to_dtype(w.dtype())?;
    composed("var", [&x], reduced.squeeze(&value)?.to_dtype(x.dtype())?, Keep::Inputs, move |grad, _, [x]| {
        let centred = reduced.centred(&wide([x])?[0])?;
        Ok([times(&centred, &(reduced.keep(grad)? * (2. / freedom))?)?])
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
    let [x] = float_inputs("std", [("x", x)])?;
    let reduced = Reduced::new(&x, dims.to_indexes(x.shape(), "std")?);
    let freedom = (reduced.count as f64 - correction as f64).max(0.);
    if let Some(empty) = of_no_elements("std", &[&x], &reduced.squeezed, x.dtype())? {
        return Ok(empty);
    }
    let [w] = wide([&x])?;
    let (centred, scale) = reduced.scaled(&reduced.centred(&w)?)?;
    let std = quotient_of(&reduced.squares(&centred)?, freedom)?.sqrt()?.mul(&scale)?.to_dtype(w.dtype())?;
    composed(
        "std",
        [&x],
        reduced.squeeze(&std.copy()?)?.to_dtype(x.dtype())?,
        Keep::Inputs,
        move |grad, _, [x]| {
            // First the quotient, which is at most of the order of √n, so that nothing overflows on the way.
            let quotient = quotient(&reduced.centred(&wide([x])?[0])?, &std)?;
            Ok([times(&quotient, &(reduced.keep(grad)? / freedom)?)?])
        },
    )
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
    let [x] = float_inputs("linalg_vector_norm", [("x", x)])?;
    let reduced = Reduced::new(&x, dims);
    if let Some(empty) = of_no_elements("linalg_vector_norm", &[&x], &reduced.squeezed, x.dtype())? {
        return Ok(empty);
    }
    let [w] = wide([&x])?;
    let (scaled, scale) = reduced.scaled(&w)?;
    let norm = reduced.squares(&scaled)?.sqrt()?.mul(&scale)?.to_dtype(w.dtype())?;
    let value = reduced.squeeze(&norm.copy()?)?.to_dtype(x.dtype())?;
    composed("linalg_vector_norm", [&x], value, Keep::Inputs, move |grad, _, [x]| {
        Ok([times(&quotient(&wide([x])?[0], &norm)?, &reduced.keep(grad)?)?])
    })
}

/// The product over `dim`, which is removed; 1 over nothing. Its gradient is right where factors are 0.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn prod(x: &Tensor, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "prod")?;
    let [x] = float_inputs("prod", [("x", x)])?;
    let reduced = Reduced::new(&x, vec![dim]);
    if let Some(empty) = of_no_elements("prod", &[&x], &reduced.squeezed, x.dtype())? {
        return Ok(empty);
    }
    let length = x.dims()[dim];
    if length == 0 {
        let ones = Tensor::ones(&*reduced.squeezed, x.dtype(), x.device())?;
        return without_gradient("prod", &[&x], ones);
    }
    let [w] = wide([&x])?;
    let before = scan(&w, dim, Direction::Forward, 1., times)?;
    let value = before.narrow(dim, length - 1, 1)?.squeeze(dim)?;
    composed("prod", [&x], value.to_dtype(x.dtype())?, Keep::Inputs, move |grad, _, [x]| {
        // The product of all factors but one, without a division.
        let [x] = wide([x])?;
        let [before, after] = [Direction::Forward, Direction::Backward].map(|from| products(&x, dim, from));
        Ok([times(&times(&before?, &after?)?, &grad.unsqueeze(dim)?)?])
    })
}

/// Running sums along `dim`.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn cumsum(x: &Tensor, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "cumsum")?;
    let [x] = float_inputs("cumsum", [("x", x)])?;
    if let Some(empty) = of_no_elements("cumsum", &[&x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let value = scan(&wide([&x])?[0], dim, Direction::Forward, 0., plus)?;
    composed("cumsum", [&x], value.to_dtype(x.dtype())?, Keep::Nothing, move |grad, _, [_]| {
        Ok([scan(grad, dim, Direction::Backward, 0., plus)?])
    })
}

/// Running products along `dim`. The gradient is right where factors are 0.
///
/// # Errors
///
/// A dimension that `x` does not have, a dtype that is not f16, bf16, f32 or f64.
pub fn cumprod(x: &Tensor, dim: impl candle_core::shape::Dim) -> Result<Tensor> {
    let dim = dim.to_index(x.shape(), "cumprod")?;
    let [x] = float_inputs("cumprod", [("x", x)])?;
    if let Some(empty) = of_no_elements("cumprod", &[&x], x.dims(), x.dtype())? {
        return Ok(empty);
    }
    let value = scan(&wide([&x])?[0], dim, Direction::Forward, 1., times)?;
    composed("cumprod", [&x], value.to_dtype(x.dtype())?, Keep::Inputs, move |grad, _, [x]| {
        // x[i] is a factor of every product from i on: what the gradients of those make of each other's further factors
        // is a recurrence from the end, and what all of them share are the factors before i.
        let [x] = wide([x])?;
        let later = recurrence(&shifted(&x, dim, Direction::Backward, 1, 0.)?, grad, dim)?;
        Ok([times(&products(&x, dim, Direction::Forward)?, &later)?])
    })
}

/// The products along `dim`, which is not empty, of the elements strictly before each one.
fn products(x: &Tensor, dim: usize, from: Direction) -> Result<Tensor> {
    shifted(&scan(x, dim, from, 1., times)?, dim, from, 1, 1.)
}

/// `x / size`, and 0 where the size is 0.
fn quotient(x: &Tensor, size: &Tensor) -> Result<Tensor> {
    let nothing = size.eq(0.)?;
    zero_where(&nothing, &over(x, &nothing.where_cond(&size.ones_like()?, size)?)?)
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

    /// The sum of squares, in f64, which holds those of f32.
    fn squares(&self, x: &Tensor) -> Result<Tensor> {
        total_f64(x, &self.dims, Term::Square)
    }

    fn centred(&self, x: &Tensor) -> Result<Tensor> {
        centred(x, &self.dims, self.count)
    }

    /// `x` divided by a power of two for each sum, and that in f64, so that squares of f64 neither overflow nor vanish. f32
    /// has no need of it.
    fn scaled(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        if x.dtype() != DType::F64 || x.elem_count() == 0 {
            return Ok((x.clone(), Tensor::ones(&*self.kept, DType::F64, x.device())?));
        }
        let mut largest = apply(Function::Abs, &x.detach().contiguous()?)?;
        for &dim in &self.dims {
            largest = largest.max_keepdim(dim)?;
        }
        let ordinary = (largest.gt(f64::MIN_POSITIVE)? * largest.lt(f64::INFINITY)?)?;
        let exponent = (largest.log()? / std::f64::consts::LN_2)?.floor()?;
        let power = exponent.clamp(-1000., 1000.)?.affine(std::f64::consts::LN_2, 0.)?.exp()?;
        let scale = ordinary.where_cond(&power, &power.ones_like()?)?;
        Ok((over(x, &scale)?, scale))
    }

    fn squeeze(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.reshape(&*self.squeezed)?)
    }

    fn keep(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.reshape(&*self.kept)?)
    }
}
