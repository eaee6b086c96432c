//! The norm behind all norms: a kernel where one takes it, else the formula, with either's gradient.

use candle_core::Tensor;

use super::formula::Norm;
use super::groups::of_groups;
use super::rows::of_rows;
use super::saved::Parts;
use super::view::{Centre, View};
use crate::Result;
use crate::dtypes::{check_float, check_float_dtype};
use crate::graph::{Keep, composed};
use crate::ops::shape::empty::of_no_elements;
use crate::region::{cast_to, uncast};

/// The norm behind all norms. Its value has `x`'s shape, and the dtype that the region wants `x` in.
pub(crate) fn normalize(
    op: &'static str,
    x: &Tensor,
    view: &View,
    centre: Centre,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let given: Vec<&Tensor> = std::iter::once(x).chain(weight).chain(bias).collect();
    let names = ["x"].into_iter().chain(weight.map(|_| "weight")).chain(bias.map(|_| "bias"));
    let inputs = uncast(op, &given)?;
    let dtype = inputs[0].1;
    for (name, (input, its)) in names.clone().zip(&inputs) {
        check_float_dtype(op, name, *its)?;
        check_float(op, name, input)?;
    }
    for (name, (parameter, its)) in names.zip(&inputs).skip(1) {
        view.check(op, name, dtype, parameter, *its)?;
    }
    let as_they_are: Vec<&Tensor> = inputs.iter().map(|(input, _)| input).collect();
    if let Some(empty) = of_no_elements(op, &as_they_are, x.dims(), dtype)? {
        return Ok(empty);
    }
    let norm = Norm { view: view.clone(), centre, eps };
    let parts = Parts { weight: weight.is_some(), bias: bias.is_some() };
    if let Some(value) = of_groups(op, &norm, &as_they_are, parts, dtype)? {
        return Ok(value);
    }
    if view.is_of_rows()
        && let Some(value) = of_rows(op, &norm, &as_they_are, parts, dtype)?
    {
        return Ok(value);
    }
    let cast = inputs.iter().map(|(input, dtype)| cast_to(input, *dtype)).collect::<Result<Vec<_>>>()?;
    match (weight, bias, cast.as_slice()) {
        (None, None, [x]) => {
            let value = norm.forward(x, None, None)?;
            composed(op, [x], value, Keep::Inputs, move |grad, _, [x]| {
                Ok([norm.backward(grad, x, None, [true, false])?.0])
            })
        }
        (Some(_), None, [x, weight]) => {
            let value = norm.forward(x, Some(weight), None)?;
            let wanted = [x, weight].map(Tensor::track_op);
            composed(op, [x, weight], value, Keep::Inputs, move |grad, _, [x, weight]| {
                let (dx, dw) = norm.backward(grad, x, Some(weight), wanted)?;
                Ok([dx, dw])
            })
        }
        (None, Some(_), [x, bias]) => {
            let value = norm.forward(x, None, Some(bias))?;
            let wanted = [x.track_op(), false];
            composed(op, [x, bias], value, Keep::Inputs, move |grad, _, [x, _]| {
                Ok([norm.backward(grad, x, None, wanted)?.0, norm.sum_to_weight(grad)?])
            })
        }
        (Some(_), Some(_), [x, weight, bias]) => {
            let value = norm.forward(x, Some(weight), Some(bias))?;
            let wanted = [x, weight].map(Tensor::track_op);
            composed(op, [x, weight, bias], value, Keep::Inputs, move |grad, _, [x, weight, _]| {
                let (dx, dw) = norm.backward(grad, x, Some(weight), wanted)?;
                Ok([dx, dw, norm.sum_to_weight(grad)?])
            })
        }
        _ => unreachable!("as many inputs are cast as came"),
    }
}
