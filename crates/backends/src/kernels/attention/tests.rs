//! The oracle against differences of itself, and what no kernel takes.

use super::checks::{chunked, untaken_by_device};
use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::{key as random_key, random_bits};

/// Numbers in (-1, 1).
fn numbers(seed: u64, len: usize) -> Vec<f64> {
    let key = random_key(&[seed]);
    (0..len as u64).map(|i| f64::from(random_bits(key, i)) / f64::from(1u32 << 31) - 1.).collect()
}

fn problem(mask: Mask, queries: usize, keys: usize) -> Problem<'static> {
    Problem { heads: 2, queries, keys, width: 3, scale: 0.7, mask, dropout: None, bias: None }
}

#[test]
fn the_oracles_gradients_are_the_slopes_of_its_value() {
    for (mask, dropout, biased) in [
        (Mask::Full, None, false),
        (Mask::Causal, None, true),
        (Mask::Full, Some(Dropout { p: 0.3, key: 5 }), true),
        (Mask::Causal, Some(Dropout { p: 0.3, key: 6 }), false),
    ] {
        for (queries, keys) in [(4, 4), (2, 5), (5, 2), (1, 1)] {
            let mut bias = numbers(17, 2 * queries * keys);
            bias.iter_mut().step_by(3).for_each(|bias| *bias = f64::NEG_INFINITY);
            let bias = biased.then_some(&*bias);
            let p = Problem { dropout, bias, ..problem(mask, queries, keys) };
            let (q, k) = (p.heads * queries * p.width, p.heads * keys * p.width);
            let inputs = [numbers(1, q), numbers(2, k), numbers(3, k)];
            let grad = numbers(4, q);
            let total = |[query, key, value]: &[Vec<f64>; 3]| -> f64 {
                let (out, _) = forward_scalar(&p, query, key, value);
                out.iter().zip(&grad).map(|(out, grad)| out * grad).sum()
            };
            let grads = backward_scalar(&p, &inputs[0], &inputs[1], &inputs[2], &grad);
            let step = 1e-5;
            for (which, grads) in grads.iter().enumerate() {
                for (i, &grad) in grads.iter().enumerate() {
                    let mut moved = [inputs.clone(), inputs.clone()];
                    moved[0][which][i] += step;
                    moved[1][which][i] -= step;
                    let slope = (total(&moved[0]) - total(&moved[1])) / (2. * step);
                    assert!((slope - grad).abs() < 1e-9, "{mask:?} {which} {i}: {slope} and {grad}");
                }
            }
        }
    }
}

#[test]
fn a_query_alone_with_a_key_returns_its_value_and_none_returns_zero() {
    let p = problem(Mask::Causal, 3, 3);
    let len = p.heads * 3 * p.width;
    let (query, key, value) = (numbers(5, len), numbers(6, len), numbers(7, len));
    let (out, lse) = forward_scalar(&p, &query, &key, &value);
    assert_eq!(out[..3], value[..3]);
    let score: f64 = p.scale * query[..3].iter().zip(&key[..3]).map(|(q, k)| q * k).sum::<f64>();
    assert!((lse[0] - score).abs() < 1e-15);
    let none = problem(Mask::Full, 3, 0);
    let (out, lse) = forward_scalar(&none, &query, &[], &[]);
    assert!(out.iter().all(|&x| x == 0.) && lse.iter().all(|&x| x == f64::NEG_INFINITY));
}

/// What nobody may see makes no difference.
#[test]
fn the_oracle_does_not_look_at_hidden_keys() {
    let p = problem(Mask::Causal, 3, 5);
    let (q, k) = (p.heads * 3 * p.width, p.heads * 5 * p.width);
    let (query, mut key, mut value) = (numbers(8, q), numbers(9, k), numbers(10, k));
    let before = forward_scalar(&p, &query, &key, &value);
    for head in 0..p.heads {
        for row in 3..5 {
            key[(head * 5 + row) * 3] = f64::NAN;
            value[(head * 5 + row) * 3] = f64::INFINITY;
        }
    }
    assert_eq!(forward_scalar(&p, &query, &key, &value), before);
}

/// Dropping with probability 1 leaves nothing; with 0, everything.
#[test]
fn the_oracle_drops_what_is_drawn_below_the_probability() {
    let len = 2 * 3 * 3;
    let (query, key, value) = (numbers(11, len), numbers(12, len), numbers(13, len));
    let with = |p| {
        let dropout = Some(Dropout { p, key: 7 });
        forward_scalar(&Problem { dropout, ..problem(Mask::Full, 3, 3) }, &query, &key, &value)
    };
    let without = forward_scalar(&problem(Mask::Full, 3, 3), &query, &key, &value);
    assert_eq!(with(0.), without);
    assert!(with(1.).0.iter().all(|&x| x == 0.));
    let half = with(0.5);
    assert!(half.1 == without.1 && half.0 != without.0);
}

fn call(
    (scale, p): (f64, f64),
    query: (Slice<'_>, [usize; 4]),
    key: (Slice<'_>, [usize; 4]),
    out_dims: &[usize],
) -> Result<Ran> {
    let strides = |[_, h, t, d]: [usize; 4]| [h * t * d, t * d, d, 1];
    let query = In::host("query", query.0, &query.1, &strides(query.1))?;
    let key = In::host("key", key.0, &key.1, &strides(key.1))?;
    let mut out = vec![half::f16::ZERO; out_dims.iter().product()];
    let mut out = Out::host("out", SliceMut::F16(&mut out), out_dims)?;
    let dims = &query.dims()[..3];
    let mut lse = vec![0f32; dims.iter().product()];
    let mut lse = Out::host("lse", SliceMut::F32(&mut lse), dims)?;
    let attention = Attention { scale, mask: Mask::Causal, dropout: Some(Dropout { p, key: 0 }) };
    let inputs = Inputs { query: &query, key: &key, value: &key, bias: None };
    forward(attention, inputs, Order::RowsFirst, &mut out, &mut lse)
}

#[test]
fn what_no_kernel_takes_is_composed_and_what_does_not_fit_is_refused() {
    let x = vec![half::f16::ZERO; 2 * 3 * 4 * 64];
    let narrow = |dims: [usize; 4]| (Slice::F16(&x[..dims.iter().product()]), dims);
    let (dims, out) = ([2, 3, 4, 32], [2, 4, 3, 32]);
    let ran = Ran::Kernel("attention forward");
    assert_eq!(call((1., 0.1), narrow(dims), narrow(dims), &out).unwrap(), ran);
    let wide = vec![0f32; 2 * 3 * 4 * 32];
    let wide = (Slice::F32(&wide), dims);
    assert_eq!(call((1., 0.1), wide, wide, &out).unwrap(), Ran::Composed(Why::Dtype("out")));
    assert_eq!(call((1., 0.1), narrow(dims), wide, &out).unwrap(), Ran::Composed(Why::Dtype("the key")));
    let odd = [2, 3, 4, 40];
    assert_eq!(call((1., 0.1), narrow(odd), narrow(odd), &[2, 4, 3, 40]).unwrap(), ran);
    let bytes = [0u8; 2 * 3 * 4 * 32];
    let bytes = (Slice::U8(&bytes), dims);
    assert_eq!(call((1., 0.1), bytes, bytes, &out).unwrap(), Ran::Composed(Why::Dtype("the query")));
    let refused = [
        call((f64::INFINITY, 0.), narrow(dims), narrow(dims), &out),
        call((1e300, 0.), narrow(dims), narrow(dims), &out),
        call((1., 1.1), narrow(dims), narrow(dims), &out),
        call((1., f64::NAN), narrow(dims), narrow(dims), &out),
        call((1., 0.1), narrow(dims), narrow([2, 2, 4, 32]), &out),
        call((1., 0.1), narrow(dims), narrow([2, 3, 4, 64]), &out),
        call((1., 0.1), narrow(dims), narrow(dims), &dims),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
}

#[test]
fn a_device_takes_what_its_kernels_load() {
    let half = vec![half::f16::ZERO; 2 * 3 * 4 * 64];
    let (single, double) = (vec![0f32; 2 * 3 * 4 * 64], vec![0f64; 2 * 3 * 4 * 64]);
    let why = |x: Slice<'_>, width: usize, row: usize| {
        let x = In::host("x", x, &[2, 3, 4, width], &[12 * row, 4 * row, row, 1]).unwrap();
        let inputs = Inputs { query: &x, key: &x, value: &x, bias: None };
        untaken_by_device(Sizes::of(inputs).unwrap(), inputs)
    };
    assert_eq!(why(Slice::F16(&half), 32, 64), None);
    assert_eq!(why(Slice::F16(&half), 40, 64), Some(Why::Shape("the query")));
    assert_eq!(why(Slice::F16(&half), 32, 63), Some(Why::Layout("the query")));
    assert_eq!(why(Slice::F32(&single), 32, 64), None);
    assert_eq!(why(Slice::F64(&double), 32, 64), Some(Why::Dtype("the query")));
}

#[test]
fn rows_that_are_not_in_chunks_are_copied_first() {
    assert!(chunked(&[2, 3, 4, 32], &[384, 128, 32, 1]));
    assert!(chunked(&[2, 12, 1024, 64], &[1024 * 2304, 64, 2304, 1]));
    assert!(chunked(&[1, 1, 1, 32], &[7, 7, 7, 1]));
    assert!(chunked(&[2, 3, 4, 32], &[0, 0, 0, 1]));
    assert!(!chunked(&[2, 3, 4, 32], &[384, 128, 33, 1]));
    assert!(!chunked(&[2, 3, 4, 32], &[384, 128, 1, 4]));
}

/// Views into one projection, read where they lie, in f64 with `lse` in f64.
#[cfg(feature = "candle")]
#[test]
fn tensors_on_a_cpu_are_attended_where_they_lie() {
    use candle_core::{DType, Device, Tensor};
    let (b, t, h, d) = (2, 9, 3, 5);
    let attention = Attention { scale: 0.4, mask: Mask::Causal, dropout: Some(Dropout { p: 0.2, key: 4 }) };
    let given = Tensor::from_vec(numbers(15, b * t * 3 * h * d), (b, t, 3, h, d), &Device::Cpu).unwrap();
    let upstream = Tensor::from_vec(numbers(16, b * t * h * d), (b, t, h, d), &Device::Cpu).unwrap();
    let flat = |x: &Tensor| {
        x.to_dtype(DType::F64).unwrap().contiguous().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    for (dtype, error) in [(DType::F64, 1e-14), (DType::F32, 1e-5), (DType::BF16, 0.1)] {
        let (all, grad) = (given.to_dtype(dtype).unwrap(), upstream.to_dtype(dtype).unwrap());
        let grad = grad.transpose(1, 2).unwrap();
        let part =
            |all: &Tensor, i| all.narrow(2, i, 1).unwrap().squeeze(2).unwrap().transpose(1, 2).unwrap();
        let inputs = [0, 1, 2].map(|i| part(&all, i));
        let [query, key, value] = inputs.clone();
        let read = Tensors { query, key, value, bias: None };
        let attended = value_of(attention, &read, Order::RowsFirst).unwrap().ran().unwrap();
        assert_eq!(attended.lse.dtype(), if dtype == DType::F64 { DType::F64 } else { DType::F32 });
        let [packed, each] =
            [GradientOrder::Packed, GradientOrder::Each(Order::HeadsFirst)].map(|order| match gradients_of(
                attention, &read, &attended, &grad, order,
            )
            .unwrap()
            .ran()
            .unwrap()
            {
                Gradients::Packed(all) => [0, 1, 2].map(|i| flat(&part(&all, i))),
                Gradients::Each(grads) => grads.map(|grad| flat(&grad)),
            });
        assert_eq!(packed, each);
        let Attention { scale, mask, dropout } = attention;
        let problem =
            Problem { heads: b * h, queries: t, keys: t, width: d, scale, mask, dropout, bias: None };
        let [query, key, value] = inputs.map(|x| flat(&x));
        let (out, lse) = forward_scalar(&problem, &query, &key, &value);
        let grads = backward_scalar(&problem, &query, &key, &value, &flat(&grad));
        let close = |got: &[f64], want: &[f64]| {
            assert_eq!(got.len(), want.len());
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() <= error), "{got:?} {want:?}");
        };
        close(&flat(&attended.out), &out);
        close(&flat(&attended.lse), &lse);
        each.iter().zip(&grads).for_each(|(got, want)| close(got, want));
    }
}
