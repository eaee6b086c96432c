//! `prelu`: a leaky ReLU whose slope is trained.

use candle_core::Tensor;

use crate::dtypes::{check_float, same_dtype};
use crate::graph::{Keep, composed, wide};
use crate::ops::shape::broadcast::sum_to;
use crate::ops::shape::empty::of_no_elements;
use crate::plain::{choose, times, zero_where};
use crate::region::cast_inputs;
use crate::{Error, Result};

/// `input` where it is positive, else `weight · input`.
///
/// # Shapes
///
/// `weight` has one element, or one per channel (dimension 1 of `input`).
///
/// # Errors
///
/// [`Error::InvalidArgument`] for any other weight, where the dtypes differ after the region's rule was applied, and for
/// integers.
///
/// # Source
///
/// `torch.nn.functional.prelu`.
pub fn prelu(input: &Tensor, weight: &Tensor) -> Result<Tensor> {
    const OP: &str = "prelu";
    let [input, weight] = cast_inputs(OP, [input, weight])?;
    let dtype = same_dtype(OP, [("input", &input), ("weight", &weight)])?;
    check_float(OP, "input", &input)?;
    let slopes = weight.elem_count();
    let channels = input.dims().get(1).copied();
    if weight.rank() > 1 || (slopes != 1 && channels != Some(slopes)) {
        let expected = match channels {
            Some(channels) => format!("one element, or {channels}: one per channel"),
            None => "one element".into(),
        };
        return Err(Error::shape(OP, "weight", weight.dims(), expected));
    }
    if let Some(empty) = of_no_elements(OP, &[&input, &weight], input.dims(), dtype)? {
        return Ok(empty);
    }
    // One slope per channel stands along dimension 1.
    let along = move |rank: usize| -> Vec<usize> {
        (0..rank).map(|dim| if dim == 1 && slopes != 1 { slopes } else { 1 }).collect()
    };
    let [x, w] = wide([&input, &weight])?;
    let sloped = times(&x, &w.reshape(along(x.rank()))?)?;
    let value = choose(&x.gt(0.)?, &x, &sloped)?.to_dtype(dtype)?;
    composed(OP, [&input, &weight], value, Keep::Inputs, move |grad, _, [input, weight]| {
        let [x, w] = wide([input, weight])?;
        let (positive, along) = (x.gt(0.)?, along(x.rank()));
        let input_grad = choose(&positive, grad, &times(grad, &w.reshape(along.as_slice())?)?)?;
        let weight_grad = zero_where(&positive, &times(grad, &x)?)?;
        Ok([input_grad, sum_to(&weight_grad, &along)?.reshape(weight.dims())?])
    })
}
