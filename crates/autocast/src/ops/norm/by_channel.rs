//! batch_norm as kernels over images as they lie, with what may follow it: an addition, and a relu.

use backends::bridge::Call;
use backends::kernels::batch_norm as kernel;
use backends::kernels::batch_norm::{Dims, Then, Wanted};
use candle_core::{DType, Tensor};

use super::batch_norm::{BatchNormOutput, OP};
use super::view::{Centre, View};
use crate::dtypes::check_float;
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::shape::layout::{as_it_lies, channels_last, channels_second};
use crate::region::{cast_slice, cast_to};
use crate::{Error, Result};

/// A batch norm and what follows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) centre: Centre,
    pub(super) then: Then,
    pub(super) eps: f64,
}

/// Parameters, and what is added before what follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Others<'a> {
    pub(super) weight: Option<&'a Tensor>,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) plus: Option<&'a Tensor>,
}

/// An input as the kernel reads it: off the graph, contiguous in the order in which it lies.
struct Laid {
    x: Tensor,
    dims: Dims,
    lies: Lies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    Second,
    Last,
}

impl Lies {
    fn laid(self, x: &Tensor) -> Result<Tensor> {
        let x = x.detach();
        Ok(if self == Self::Last { channels_last(&x)? } else { x }.contiguous()?)
    }

    fn seen(self, laid: Tensor) -> Result<Tensor> {
        Ok(if self == Self::Last { channels_second(&laid)? } else { laid })
    }
}

impl Laid {
    fn of(x: &Tensor) -> Result<Self> {
        let (count, outer, channels) = (x.elem_count(), x.dim(0)?, x.dim(1)?);
        if let Some(x) = as_it_lies(&x.detach())? {
            let dims = Dims { outer: count / channels, channels, inner: 1 };
            return Ok(Self { x, dims, lies: Lies::Last });
        }
        let dims = Dims { outer, channels, inner: count / (outer * channels) };
        Ok(Self { x: x.detach().contiguous()?, dims, lies: Lies::Second })
    }
}

impl Spec {
    fn norm(self, dims: Dims) -> kernel::Norm {
        let centre = match self.centre {
            Centre::Mean => kernel::Centre::Mean,
            Centre::Zero => kernel::Centre::Zero,
        };
        kernel::Norm { dims, centre, then: self.then, eps: self.eps }
    }

    /// With the statistics of this batch, where a kernel takes the call.
    pub(super) fn train(self, x: &Tensor, others: Others<'_>) -> Result<Option<BatchNormOutput>> {
        if x.elem_count() == 0 {
            return Ok(None);
        }
        let (inputs, there) = checked(x, others)?;
        let laid = Laid::of(&inputs[0])?;
        let mut rest = inputs[1..].iter();
        let [weight, bias, plus] = there.map(|there| if there { rest.next() } else { None });
        let plus = plus.map(|plus| laid.lies.laid(plus)).transpose()?;
        let (weight, bias) = (weight.map(Tensor::detach), bias.map(Tensor::detach));
        let norm = self.norm(laid.dims);
        let made = kernel::value_of(norm, &laid.x, [weight.as_ref(), bias.as_ref(), plus.as_ref()])?;
        let Call::Ran(kernel::Normalized { y, statistics, mean, var }) = made else { return Ok(None) };
        let lies = laid.lies;
        let op = ByChannel { norm, x: laid.x, weight, bias, statistics, lies, there };
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let output = lies.seen(record(op, &inputs, Value::fresh(y))?)?;
        Ok(Some(BatchNormOutput { output, mean, var }))
    }

    /// With statistics that are given, where a kernel takes the call and nothing waits for a gradient.
    pub(super) fn eval(
        self,
        x: &Tensor,
        [mean, var]: [&Tensor; 2],
        others: Others<'_>,
    ) -> Result<Option<Tensor>> {
        if x.elem_count() == 0 {
            return Ok(None);
        }
        let (inputs, there) = checked(x, others)?;
        if inputs.iter().any(Tensor::track_op) {
            return Ok(None);
        }
        let Call::Ran(statistics) = kernel::given_of(self.eps, mean, var)? else { return Ok(None) };
        let laid = Laid::of(&inputs[0])?;
        let mut rest = inputs[1..].iter();
        let [weight, bias, plus] = there.map(|there| if there { rest.next() } else { None });
        let plus = plus.map(|plus| laid.lies.laid(plus)).transpose()?;
        let made =
            kernel::value_with(self.norm(laid.dims), &laid.x, [weight, bias, plus.as_ref()], &statistics)?;
        made.ran().map(|y| laid.lies.seen(y)).transpose()
    }
}

/// The inputs as the region wants them, and which there are beside `x`.
fn checked(x: &Tensor, others: Others<'_>) -> Result<(Vec<Tensor>, [bool; 3])> {
    let Others { weight, bias, plus } = others;
    let given: Vec<&Tensor> = std::iter::once(x).chain(weight).chain(bias).chain(plus).collect();
    let inputs = cast_slice(OP, &given)?;
    let there = [weight, bias, plus].map(|other| other.is_some());
    let names = ["weight", "bias", "what is added"].into_iter().zip(there).filter(|(_, there)| *there);
    let (channels, dtype) = (x.dim(1)?, inputs[0].dtype());
    check_float(OP, "x", &inputs[0])?;
    let view = View {
        rows: [channels, x.elem_count() / channels],
        affine: vec![channels, 1],
        weight: vec![channels, 1],
        weight_dims: vec![channels],
    };
    for ((name, _), input) in names.zip(&inputs[1..]) {
        check_float(OP, name, input)?;
        if name != "what is added" {
            view.check(OP, name, dtype, input, input.dtype())?;
        } else if input.dims() != x.dims() {
            return Err(Error::shape(OP, name, input.dims(), format!("{:?}, as x", x.dims())));
        } else if input.dtype() != dtype {
            return Err(Error::dtypes_differ(OP, (name, input.dtype()), ("x", dtype)));
        }
    }
    Ok((inputs, there))
}

/// A batch norm, with what its backward takes from its forward.
struct ByChannel {
    norm: kernel::Norm,
    x: Tensor,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    statistics: Tensor,
    lies: Lies,
    /// Whether weight, bias and an addition are among the inputs, in this order.
    there: [bool; 3],
}

impl ByChannel {
    /// Where the relu let pass what was added is read off the value.
    fn looks_at_value(&self) -> bool {
        self.there[2] && self.norm.then == Then::Relu
    }
}

impl Op for ByChannel {
    fn name(&self) -> &'static str {
        OP
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let then = if self.norm.then == Then::Relu { "relu" } else { "nothing" };
        vec![("eps", self.norm.eps.into()), ("then", Attribute::Word(then))]
    }

    fn keeps_value(&self) -> bool {
        self.looks_at_value()
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        // Which input each of them is.
        let mut next = 0;
        let places = self.there.map(|there| {
            next += usize::from(there);
            there.then_some(next)
        });
        let [weight_wanted, bias_wanted, plus_wanted] =
            places.map(|place| place.is_some_and(|place| cx.wanted(place)));
        let looks = self.looks_at_value();
        let wanted = Wanted { x: cx.wanted(0), plus: looks, weight: weight_wanted, bias: bias_wanted };
        let value = if looks { cx.value() } else { None };
        let others = [self.weight.as_ref(), self.bias.as_ref(), value];
        let made = kernel::gradients_of(self.norm, cx.grad(), &self.x, others, &self.statistics, wanted)?;
        let Call::Ran(made) = made else { return Err(Error::refused(OP)) };
        let seen = |grad: Option<Tensor>| grad.map(|grad| self.lies.seen(grad)).transpose();
        let parameter = |grad: Option<Tensor>, like: &Option<Tensor>| -> Result<Option<Tensor>> {
            let dtype = like.as_ref().map_or(DType::F32, Tensor::dtype);
            grad.map(|grad| cast_to(&grad, dtype)).transpose()
        };
        let plus = match (plus_wanted, looks) {
            (false, _) => None,
            (true, true) => made.plus,
            (true, false) => Some(cx.grad().clone()),
        };
        let all = [parameter(made.weight, &self.weight)?, parameter(made.bias, &self.bias)?, seen(plus)?];
        let others = self.there.into_iter().zip(all).filter(|(there, _)| *there).map(|(_, grad)| grad);
        Ok(std::iter::once(seen(made.x)?).chain(others).collect())
    }
}
