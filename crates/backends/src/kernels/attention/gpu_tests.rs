//! The kernels on a GPU against the oracle.

use candle_core::{DType, Device, Tensor};

use super::checks::WIDTHS;
use super::*;
use crate::random::{key as random_key, random_bits};

fn gpu() -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var("REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|what| what == "cuda"), "cuda is required: {error}");
            println!("\nSKIPPED cuda: no GPU here");
            None
        }
    }
}

/// Numbers in (-2, 2), rounded to the dtype, and as f64 in the order of `(batch, heads, rows, width)`.
fn numbers(seed: u64, dims: &[usize], dtype: DType, device: &Device) -> Tensor {
    let key = random_key(&[seed]);
    let draw = |i| f64::from(random_bits(key, i)) / f64::from(1u32 << 30) - 2.;
    let values: Vec<f64> = (0..dims.iter().product::<usize>() as u64).map(draw).collect();
    let x = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
    x.to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap().to_device(device).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    let x = x.to_device(&Device::Cpu).unwrap().contiguous().unwrap();
    x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The distance of the results from the oracle, as a part of the oracle's length.
fn off(got: &Tensor, want: &[f64]) -> f64 {
    let got = values(got);
    assert_eq!(got.len(), want.len());
    assert!(got.iter().all(|x| x.is_finite()), "not every element was written");
    // What is 0 to the oracle is held to an absolute bound.
    let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let distance = length(&mut got.iter().zip(want).map(|(got, want)| got - want));
    distance / length(&mut want.iter().copied()).max(1.)
}

/// Memory that is handed out next holds NaN where nothing is written.
fn poison(device: &Device) {
    let nan = Tensor::full(f32::NAN, 1 << 22, device).unwrap();
    device.synchronize().unwrap();
    drop(nan);
}

struct Case {
    dims: (usize, usize, usize, usize),
    width: usize,
    mask: Mask,
    scale: f64,
    dropout: Option<Dropout>,
    dtype: DType,
}

fn tensors(query: &Tensor, key: &Tensor, value: &Tensor) -> Tensors {
    Tensors { query: query.clone(), key: key.clone(), value: value.clone(), bias: None }
}

/// `out` and each gradient is within four roundings of its dtype in length, which have been seen to be one, in f32 within 2⁻¹⁹, and `lse`
/// within 2⁻²⁰; a second call returns the same bits.
fn check(case: &Case, device: &Device, packed: bool) {
    let &Case { dims: (batch, heads, queries, keys), width, mask, scale, dropout, dtype } = case;
    let attention = Attention { scale, mask, dropout };
    let (query, key, value) = if packed {
        let all = numbers(1, &[batch, queries, 3, heads, width], dtype, device);
        let part = |i| all.narrow(2, i, 1).unwrap().squeeze(2).unwrap().transpose(1, 2).unwrap();
        (part(0), part(1), part(2))
    } else {
        let rows = |seed, rows| numbers(seed, &[batch, heads, rows, width], dtype, device);
        (rows(1, queries), rows(2, keys), rows(3, keys))
    };
    let grad = numbers(4, &[batch, queries, heads, width], dtype, device).transpose(1, 2).unwrap();
    let order = if packed { Order::RowsFirst } else { Order::HeadsFirst };
    let read = tensors(&query, &key, &value);
    let run = || {
        poison(device);
        let attended = value_of(attention, &read, order).unwrap().ran().unwrap();
        let order = if packed { GradientOrder::Packed } else { GradientOrder::Each(order) };
        let grads = gradients_of(attention, &read, &attended, &grad, order);
        let grads = match grads.unwrap().ran().unwrap() {
            Gradients::Each(grads) => grads,
            Gradients::Packed(all) => {
                [0, 1, 2].map(|i| all.narrow(2, i, 1).unwrap().squeeze(2).unwrap().transpose(1, 2).unwrap())
            }
        };
        (attended, grads)
    };
    let (attended, grads) = run();
    let (again, grads_again) = run();
    let problem = Problem { heads: batch * heads, queries, keys, width, scale, mask, dropout, bias: None };
    let inputs = [&query, &key, &value].map(values);
    let (out, lse) = forward_scalar(&problem, &inputs[0], &inputs[1], &inputs[2]);
    let want = backward_scalar(&problem, &inputs[0], &inputs[1], &inputs[2], &values(&grad));
    let rounding = match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        _ => 2f64.powi(-21),
    };
    let name = format!("{:?} of {width} in {dtype:?}, {mask:?}, scale {scale}, {dropout:?}", case.dims);
    assert!(off(&attended.out, &out) < 4. * rounding, "out of {name}: {}", off(&attended.out, &out));
    assert!(off(&attended.lse, &lse) < 2f64.powi(-20), "lse of {name}: {}", off(&attended.lse, &lse));
    for (which, (grad, want)) in grads.iter().zip(&want).enumerate() {
        assert!(off(grad, want) < 4. * rounding, "gradient {which} of {name}: {}", off(grad, want));
    }
    assert_eq!(values(&attended.out), values(&again.out), "{name} varies");
    for (grad, again) in grads.iter().zip(&grads_again) {
        assert_eq!(values(grad), values(again), "{name} varies");
    }
}

#[test]
fn kernels_are_the_oracle_up_to_roundings() {
    let Some(device) = gpu() else { return };
    for dtype in [DType::F16, DType::BF16, DType::F32] {
        for width in WIDTHS {
            let scale = 1. / (width as f64).sqrt();
            for mask in [Mask::Full, Mask::Causal] {
                for dims in [(1, 1, 1, 1), (2, 3, 65, 65), (1, 2, 130, 77), (1, 1, 33, 200), (1, 2, 257, 257)]
                {
                    let case = Case { dims, width, mask, scale, dropout: None, dtype };
                    check(&case, &device, false);
                    if dims.2 == dims.3 {
                        check(&case, &device, true);
                    }
                }
            }
            for scale in [-0.5, 0., 1.] {
                let dims = (1, 2, 70, 90);
                check(&Case { dims, width, mask: Mask::Causal, scale, dropout: None, dtype }, &device, false);
            }
            for (p, mask) in [(0.1, Mask::Full), (0.5, Mask::Causal), (1., Mask::Full)] {
                let (dims, dropout) = ((2, 2, 130, 150), Some(Dropout { p, key: 9 }));
                check(&Case { dims, width, mask, scale, dropout, dtype }, &device, false);
            }
        }
    }
}

#[test]
fn without_keys_a_query_is_zero_and_without_queries_a_key_has_no_gradient() {
    let Some(device) = gpu() else { return };
    let attention = Attention { scale: 1., mask: Mask::Causal, dropout: None };
    let rows = |seed, rows| numbers(seed, &[2, 1, rows, 64], DType::F16, &device);
    for (queries, keys) in [(5, 0), (0, 5), (0, 0)] {
        let (query, key, value) = (rows(1, queries), rows(2, keys), rows(3, keys));
        poison(&device);
        let order = Order::RowsFirst;
        let read = tensors(&query, &key, &value);
        let attended = value_of(attention, &read, order).unwrap().ran().unwrap();
        assert!(values(&attended.out).iter().all(|&x| x == 0.));
        assert!(values(&attended.lse).iter().all(|&x| x == f64::NEG_INFINITY));
        let order = GradientOrder::Each(order);
        let grads = gradients_of(attention, &read, &attended, &query, order);
        let Gradients::Each(grads) = grads.unwrap().ran().unwrap() else { panic!("not three") };
        assert!(grads.iter().all(|grad| values(grad).iter().all(|&x| x == 0.)));
        assert_eq!(grads[1].dims(), [2, 1, keys, 64]);
    }
}

#[test]
fn what_no_query_sees_reaches_nothing() {
    let Some(device) = gpu() else { return };
    let attention = Attention { scale: 0.1, mask: Mask::Causal, dropout: None };
    let query = numbers(1, &[1, 2, 70, 64], DType::BF16, &device);
    let hidden = Tensor::full(f32::NAN, (1, 2, 30, 64), &device).unwrap().to_dtype(DType::BF16).unwrap();
    let key = Tensor::cat(&[&query, &hidden], 2).unwrap();
    let read = tensors(&query, &key, &key);
    let attended = value_of(attention, &read, Order::RowsFirst).unwrap().ran().unwrap();
    let order = GradientOrder::Each(Order::HeadsFirst);
    let grads = gradients_of(attention, &read, &attended, &query, order);
    let Gradients::Each(grads) = grads.unwrap().ran().unwrap() else { panic!("not three") };
    for x in [&attended.out, &attended.lse, &grads[0], &grads[1], &grads[2]] {
        assert!(values(x).iter().all(|x| x.is_finite()));
    }
    let hidden = grads[1].narrow(2, 70, 30).unwrap();
    assert!(values(&hidden).iter().all(|&x| x == 0.));
}

#[test]
fn what_is_not_finite_makes_no_finite_number() {
    let Some(device) = gpu() else { return };
    let attention = Attention { scale: 0.1, mask: Mask::Full, dropout: None };
    for dtype in [DType::F32, DType::F16] {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for which in 0..3 {
                let mut inputs = [1, 2, 3].map(|seed| numbers(seed, &[1, 1, 40, 64], dtype, &device));
                let row = Tensor::full(odd, (1, 1, 1, 1), &device).unwrap().to_dtype(dtype).unwrap();
                inputs[which] = inputs[which].slice_assign(&[0..1, 0..1, 7..8, 5..6], &row).unwrap();
                let [query, key, value] = &inputs;
                let attended = value_of(attention, &tensors(query, key, value), Order::HeadsFirst);
                let out = values(&attended.unwrap().ran().unwrap().out);
                for (i, x) in out.iter().enumerate() {
                    // Of 16 bits, scores of −∞ hide an infinite key, and leave a query of its own sign no more than one.
                    let marked = match which {
                        0 => i / 64 == 7 && (odd.is_nan() || dtype == DType::F32),
                        1 => odd.is_nan() || dtype == DType::F32,
                        _ => i % 64 == 5,
                    };
                    assert!(!marked || !x.is_finite(), "{odd} in {which}, {dtype:?}: {x} at {i}");
                }
            }
        }
    }
}

#[test]
fn rows_that_lie_across_are_copied_and_other_dtypes_composed() {
    let Some(device) = gpu() else { return };
    let attention = Attention { scale: 0.1, mask: Mask::Full, dropout: None };
    let x = numbers(1, &[1, 2, 64, 10], DType::BF16, &device).transpose(2, 3).unwrap();
    let value = |x: &Tensor| value_of(attention, &tensors(x, x, x), Order::HeadsFirst).unwrap();
    let (across, along) = (value(&x).ran().unwrap(), value(&x.contiguous().unwrap()).ran().unwrap());
    assert_eq!(values(&across.out), values(&along.out));
    let wide = value(&x.to_dtype(DType::F64).unwrap());
    assert!(matches!(wide, crate::bridge::Call::Composed(Why::Dtype(_))));
    let x = numbers(1, &[1, 2, 16, 64], DType::BF16, &device);
    let bias = Some(Tensor::zeros((1, 2, 16, 16), DType::F32, &device).unwrap());
    let biased = value_of(attention, &Tensors { bias, ..tensors(&x, &x, &x) }, Order::HeadsFirst).unwrap();
    assert!(matches!(biased, crate::bridge::Call::Composed(Why::Shape(_))));
}
