//! Views, dtypes and devices; what is fresh and what is changed in place.

use candle_core::{DType, Device, Var};

use super::*;
use crate::Error;
use crate::buffer::{In, Out, Ran, Why};

#[test]
fn a_view_is_read_in_the_order_of_its_shape() {
    let x = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
    let read = |t: &Tensor| {
        with_floats("test", [t], |[x]| match x {
            Floats::F32(x) => x.to_vec(),
            _ => Vec::new(),
        })
    };
    assert_eq!(read(&x.t().unwrap()).unwrap(), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(read(&x.narrow(0, 1, 1).unwrap()).unwrap(), [3., 4., 5.]);
}

#[test]
fn integers_are_refused_by_name() {
    let x = Tensor::zeros(3, DType::U32, &Device::Cpu).unwrap();
    let error = with_floats("sum", [&x], |_| ()).unwrap_err().to_string();
    assert!(error.contains("sum") && error.contains("U32"), "{error}");
}

/// 1 + 2^-11 + 2^-40 is a tie once it has been an f32.
#[test]
fn an_f64_reaches_sixteen_bits_in_one_rounding_and_has_a_gradient() {
    let hair = 2f64.powi(-40);
    for (dtype, spacing) in [(DType::F16, 2f64.powi(-10)), (DType::BF16, 2f64.powi(-7))] {
        let above = 1.0 + spacing / 2.0 + hair;
        let x = Var::new(&[[above, 3.0], [-above, 0.5]], &Device::Cpu).unwrap();
        let y = cast(&x.t().unwrap(), dtype).unwrap();
        let values = y.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
        assert_eq!(values, [[1.0 + spacing, -1.0 - spacing], [3.0, 0.5]]);
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&x).unwrap().to_vec2::<f64>().unwrap(), [[1.0; 2]; 2]);
    }
    let empty = Tensor::zeros((0, 2), DType::F64, &Device::Cpu).unwrap();
    assert_eq!(cast(&empty, DType::F16).unwrap().dims(), [0, 2]);
    assert_eq!(cast(&Tensor::new(2.5f32, &Device::Cpu).unwrap(), DType::U8).unwrap().dtype(), DType::U8);
}

/// Doubles the f32 in any layout that is rows of 3.
fn double(ins: &[In<'_>], outs: &mut [Out<'_>]) -> crate::Result<Ran> {
    let ([x], [y]) = (ins, outs) else { return Ok(Ran::Composed(Why::Shape("x"))) };
    let Some(rows) = x.rows(3) else { return Ok(Ran::Composed(Why::Layout("x"))) };
    let (Some(x), Some(y)) = (x.strided::<f32>(), y.slice::<f32>()) else {
        return Ok(Ran::Composed(Why::Dtype("x")));
    };
    for (i, y) in y.iter_mut().enumerate() {
        *y = 2. * x[i / 3 * rows.pitch + i % 3];
    }
    Ok(Ran::Kernel("double"))
}

fn doubled(x: &Tensor) -> crate::Result<Call<Vec<Tensor>>> {
    run("double", &[x], &[(x.shape().clone(), DType::F32)], double)
}

#[test]
fn a_kernel_reads_views_and_returns_what_nobody_else_holds() {
    let x =
        Var::from_tensor(&Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((3, 4)).unwrap()).unwrap();
    let view = x.narrow(1, 1, 3).unwrap();
    let y = doubled(&view).unwrap().ran().unwrap().remove(0);
    assert_eq!(y.to_vec2::<f32>().unwrap(), [[2., 4., 6.], [10., 12., 14.], [18., 20., 22.]]);
    assert!(!y.track_op());
    let Call::Composed(why) = doubled(&x.narrow(1, 0, 3).unwrap().t().unwrap()).unwrap() else { panic!() };
    assert_eq!(why, Why::Layout("x"));
    let rows = in_rows("double", &x.narrow(1, 0, 3).unwrap().t().unwrap(), 3).unwrap();
    let y = doubled(&rows).unwrap().ran().unwrap().remove(0);
    assert_eq!(y.to_vec2::<f32>().unwrap()[0], [0., 8., 16.]);
}

#[test]
fn dtypes_of_no_kernel_are_composed_by_name() {
    let x = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
    let Call::Composed(why) = doubled(&x).unwrap() else { panic!() };
    assert_eq!(why.to_string(), "no kernel takes x of such a dtype");
    let x = Tensor::zeros(3, DType::I16, &Device::Cpu).unwrap();
    assert!(matches!(doubled(&x).unwrap(), Call::Composed(Why::Dtype("an input"))));
    let ran = run("f", &[&x], &[(x.shape().clone(), DType::I32)], |_, _| Ok(Ran::Kernel("f"))).unwrap();
    assert!(matches!(ran, Call::Composed(Why::Dtype("an output"))));
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(doubled(&empty).unwrap().ran().unwrap()[0].dims(), [0, 3]);
}

/// Adds the input to the target.
fn add(ins: &[In<'_>], out: &mut Out<'_>) -> crate::Result<Ran> {
    let (Some(x), Some(y)) = (ins[0].slice::<f32>(), out.slice::<f32>()) else {
        return Ok(Ran::Composed(Why::Dtype("x")));
    };
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    Ok(Ran::Kernel("add"))
}

#[test]
fn a_target_is_changed_in_place_from_its_offset_on() {
    let all = Tensor::zeros((3, 2), DType::F32, &Device::Cpu).unwrap();
    let x = Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap();
    assert_eq!(update("add", &all.get(1).unwrap(), &[&x], add).unwrap(), Ran::Kernel("add"));
    assert_eq!(all.to_vec2::<f32>().unwrap(), [[0., 0.], [1., 2.], [0., 0.]]);
    let column = all.narrow(1, 0, 1).unwrap();
    assert_eq!(update("add", &column, &[&x], add).unwrap(), Ran::Composed(Why::Layout("the target")));
    let error = update("add", &all.get(0).unwrap(), &[&all.get(1).unwrap()], add).unwrap_err();
    assert!(error.to_string().contains("storage of an input"), "{error}");
    let failed = |_: &[In<'_>], _: &mut Out<'_>| {
        Err(Error::LengthMismatch { op: "f", argument: "x", expected: 1, got: 2 })
    };
    assert!(update("f", &all, &[&x], failed).is_err());
}
