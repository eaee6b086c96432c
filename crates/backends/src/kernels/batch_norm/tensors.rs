//! The norm of candle's tensors, which lie as [`Dims`](super::Dims) says. What is returned is part of no graph.

use candle_core::{DType, Shape, Tensor};

use super::{GradientsOut, Inputs, Norm, OP};
use crate::bridge::{Call, candle, run, run_one};
use crate::buffer::{In, Out, Ran, Why};
use crate::{Error, Result};

/// What [`value_of`] returns.
#[derive(Clone, Debug)]
pub struct Normalized {
    /// Of `x`'s shape and dtype.
    pub y: Tensor,
    /// `[2, channels]` in f64, for [`gradients_of`].
    pub statistics: Tensor,
    /// Of each channel, in f32 (f64 for f64).
    pub mean: Tensor,
    /// The unbiased variance of each channel, likewise.
    pub var: Tensor,
}

/// Which gradients are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// That of `x`.
    pub x: bool,
    /// That of what was added.
    pub plus: bool,
    /// That of the weight.
    pub weight: bool,
    /// That of the bias.
    pub bias: bool,
}

/// What was wanted: `x` and `plus` in `x`'s dtype, the parameters' in f32 (f64 for f64).
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    /// Of `x`'s shape.
    pub x: Option<Tensor>,
    /// Of `x`'s shape.
    pub plus: Option<Tensor>,
    /// One for each channel.
    pub weight: Option<Tensor>,
    /// One for each channel.
    pub bias: Option<Tensor>,
}

/// Weight, bias and what stands beside `x`.
type Others<'a> = [Option<&'a Tensor>; 3];

/// The value with the statistics of this batch.
///
/// # Shapes
///
/// `x` and `plus` are contiguous and have `norm.dims.count()` elements, of which a channel has two at least; weight and bias
/// have one for each channel.
///
/// # Errors
///
/// [`Error::LengthMismatch`], [`Error::Operand`] for tensors on different devices, and [`Error::Device`].
pub fn value_of(norm: Norm, x: &Tensor, [weight, bias, plus]: Others<'_>) -> Result<Call<Normalized>> {
    check(norm, x, [weight, bias, plus])?;
    let (channels, wide) = (norm.dims.channels, wide(x.dtype()));
    let statistics = (Shape::from((2, channels)), DType::F64);
    let outputs = [statistics, (channels.into(), wide), (channels.into(), wide)];
    let made = run(OP, &[x], &outputs, |ins, outs| match (ins, outs) {
        ([x], [statistics, mean, var]) => moments(norm, x, [statistics, mean, var]),
        _ => Ok(Ran::Composed(Why::Shape("x"))),
    })?;
    let made = match made {
        Call::Ran(made) => made,
        Call::Composed(why) => return Ok(Call::Composed(why)),
    };
    let [statistics, mean, var]: [Tensor; 3] = match made.try_into() {
        Ok(made) => made,
        Err(_) => return Ok(Call::Composed(Why::Shape("x"))),
    };
    Ok(match value_with(norm, x, [weight, bias, plus], &statistics)? {
        Call::Ran(y) => Call::Ran(Normalized { y, statistics, mean, var }),
        Call::Composed(why) => Call::Composed(why),
    })
}

/// The value with statistics from [`value_of`] or [`given_of`].
///
/// # Shapes
///
/// As [`value_of`].
///
/// # Errors
///
/// As [`value_of`].
pub fn value_with(norm: Norm, x: &Tensor, others: Others<'_>, statistics: &Tensor) -> Result<Call<Tensor>> {
    check(norm, x, others)?;
    let others = others.map(|other| other.map(Tensor::detach));
    let inputs: Vec<&Tensor> = [x, statistics].into_iter().chain(others.iter().flatten()).collect();
    run_one(OP, &inputs, (x.shape().clone(), x.dtype()), |ins, y| {
        let [x, statistics, rest @ ..] = ins else { return Ok(Ran::Composed(Why::Shape("x"))) };
        apply(norm, inputs_of(x, rest, &others), statistics, y)
    })
}

/// What of `rest` is what, from which of them there are.
fn inputs_of<'a, 'b>(x: &'a In<'b>, rest: &'a [In<'b>], others: &[Option<Tensor>; 3]) -> Inputs<'a, 'b> {
    let mut rest = rest.iter();
    let [weight, bias, beside] = others.each_ref().map(|other| other.as_ref().and_then(|_| rest.next()));
    Inputs { x, weight, bias, beside }
}

/// The gradients that are wanted, from `dy`, that of the value, which is looked at where something was added before a relu.
///
/// # Shapes
///
/// As [`value_of`], whose `x`, parameters and statistics these are; `dy` and `y` are contiguous and of as many elements.
///
/// # Errors
///
/// As [`value_of`].
pub fn gradients_of(
    norm: Norm,
    dy: &Tensor,
    x: &Tensor,
    [weight, bias, y]: Others<'_>,
    statistics: &Tensor,
    wanted: Wanted,
) -> Result<Call<Gradients>> {
    check(norm, x, [weight, bias, y])?;
    check(norm, dy, [None; 3])?;
    let others = [weight, bias, y].map(|other| other.map(Tensor::detach));
    let inputs: Vec<&Tensor> = [dy, x, statistics].into_iter().chain(others.iter().flatten()).collect();
    let whole = |wanted: bool| wanted.then(|| (x.shape().clone(), x.dtype()));
    let each = |wanted: bool| wanted.then(|| (Shape::from(norm.dims.channels), wide(x.dtype())));
    let outputs = [whole(wanted.x), whole(wanted.plus), each(wanted.weight), each(wanted.bias)];
    let there = outputs.each_ref().map(Option::is_some);
    let outputs: Vec<_> = outputs.into_iter().flatten().collect();
    let made = run(OP, &inputs, &outputs, |ins, outs| {
        let [dy, x, statistics, rest @ ..] = ins else { return Ok(Ran::Composed(Why::Shape("x"))) };
        let mut outs = outs.iter_mut();
        let [x_grad, passed, weight, bias] = there.map(|there| if there { outs.next() } else { None });
        let grads = GradientsOut { x: x_grad, passed, weight, bias };
        gradients(norm, dy, inputs_of(x, rest, &others), statistics, grads)
    })?;
    Ok(match made {
        Call::Composed(why) => Call::Composed(why),
        Call::Ran(made) => {
            let mut made = made.into_iter();
            let [x, plus, weight, bias] = there.map(|there| if there { made.next() } else { None });
            Call::Ran(Gradients { x, plus, weight, bias })
        }
    })
}

/// Statistics as [`value_with`] takes them, from a mean and a variance of each channel.
///
/// # Errors
///
/// As [`value_of`].
pub fn given_of(eps: f64, mean: &Tensor, var: &Tensor) -> Result<Call<Tensor>> {
    let channels = mean.elem_count();
    lengths("var", var, channels)?;
    let contiguous = |t: &Tensor| t.detach().contiguous().map_err(candle(OP));
    let (mean, var) = (contiguous(mean)?, contiguous(var)?);
    let output = (Shape::from((2, channels)), DType::F64);
    run_one(OP, &[&mean, &var], output, |ins, out| match ins {
        [mean, var] => given(eps, mean, var, out),
        _ => Ok(Ran::Composed(Why::Shape("mean"))),
    })
}

/// A running statistic `old` after a batch with `fresh`: as it was for channels where `fresh` or `guard` is not finite.
///
/// # Errors
///
/// As [`value_of`].
pub fn moved_of(momentum: f64, old: &Tensor, fresh: &Tensor, guard: &Tensor) -> Result<Call<Tensor>> {
    lengths("fresh", fresh, old.elem_count())?;
    lengths("guard", guard, old.elem_count())?;
    run_one(OP, &[old, fresh, guard], (old.shape().clone(), old.dtype()), |ins, out| match ins {
        [old, fresh, guard] => moved(momentum, [old, fresh, guard], out),
        _ => Ok(Ran::Composed(Why::Shape("old"))),
    })
}

fn wide(of: DType) -> DType {
    if of == DType::F64 { of } else { DType::F32 }
}

fn check(norm: Norm, x: &Tensor, [weight, bias, beside]: Others<'_>) -> Result<()> {
    lengths("x", x, norm.dims.count())?;
    let channels = norm.dims.channels;
    weight.map_or(Ok(()), |weight| lengths("weight", weight, channels))?;
    bias.map_or(Ok(()), |bias| lengths("bias", bias, channels))?;
    beside.map_or(Ok(()), |beside| lengths("what is added", beside, norm.dims.count()))
}

fn lengths(argument: &'static str, x: &Tensor, expected: usize) -> Result<()> {
    match x.elem_count() {
        got if got == expected => Ok(()),
        got => Err(Error::LengthMismatch { op: OP, argument, expected, got }),
    }
}

/// Each where its first operand is.
macro_rules! where_it_is {
    ($($name:ident($place:expr; $($argument:ident: $type:ty),*);)*) => {$(
        fn $name($($argument: $type),*) -> Result<Ran> {
            #[cfg(feature = "cuda")]
            if matches!($place.place(), crate::buffer::Place::Device(_)) {
                return super::cuda::$name($($argument),*);
            }
            Ok(super::host::$name($($argument),*))
        }
    )*};
}

where_it_is! {
    moments(x; norm: Norm, x: &In<'_>, outs: [&mut Out<'_>; 3]);
    apply(inputs.x; norm: Norm, inputs: Inputs<'_, '_>, statistics: &In<'_>, y: &mut Out<'_>);
    gradients(dy; norm: Norm, dy: &In<'_>, inputs: Inputs<'_, '_>, statistics: &In<'_>, grads: GradientsOut<'_, '_>);
    given(mean; eps: f64, mean: &In<'_>, var: &In<'_>, statistics: &mut Out<'_>);
    moved(ins[0]; momentum: f64, ins: [&In<'_>; 3], out: &mut Out<'_>);
}
