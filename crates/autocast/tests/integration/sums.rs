//! Every sum, forward or backward, of any length and along any dimension, is off by no more than pairwise summation in f32
//! would be: `log₂ n · 2⁻²⁴ · Σ|x|`, and by a rounding of the result in its dtype.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{backward, ops};
use candle_core::{DType, Device, Tensor, Var};

const CPU: Device = Device::Cpu;

/// How far a sum of `n` terms may be off, relative to the sum of their magnitudes.
fn pairwise(n: usize) -> f64 {
    (n as f64).log2().max(1.) * 2f64.powi(-24)
}

/// Half a step of the result's format, relative to the result, and for f32 arithmetic around a sum two more roundings.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        DType::F64 => 2f64.powi(-52),
        _ => 3. * 2f64.powi(-24),
    }
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(what: &str, got: f64, want: f64, bound: f64) {
    assert!(
        (got - want).abs() <= bound,
        "{what}: {got} for {want}, off by {:e}, bound {bound:e}",
        got - want
    );
}

/// Equal numbers, whose roundings all fall on one side, and numbers of both signs and many sizes.
fn column(n: usize, kind: usize) -> Vec<f32> {
    let noise = |i: usize| {
        let bits = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.
    };
    match kind {
        0 => vec![0.479; n],
        1 => vec![1. / 3.; n],
        2 => (0..n).map(noise).collect(),
        _ => (0..n).map(|i| noise(i).abs() + 0.01).collect(),
    }
}

const KINDS: usize = 4;

#[test]
fn sums_and_means_over_leading_dimensions() {
    for n in [10_000, 200_000, (1 << 22) + 3] {
        for kind in 0..KINDS {
            let values = column(n, kind);
            let exact: f64 = values.iter().map(|&x| f64::from(x)).sum();
            let size: f64 = values.iter().map(|&x| f64::from(x).abs()).sum();
            let x = Tensor::from_vec(values, (n, 1), &CPU).unwrap();
            let bound = pairwise(n) * size + rounding(DType::F32) * exact.abs();
            for (what, sum) in [("sum", ops::sum(&x, 0)), ("sum_all", ops::sum_all(&x))] {
                close(&format!("{what} of {n}, kind {kind}"), numbers(&sum.unwrap())[0], exact, bound);
            }
            for (what, mean) in [("mean", ops::mean(&x, 0)), ("mean_all", ops::mean_all(&x))] {
                let (exact, bound) = (exact / n as f64, bound / n as f64);
                close(&format!("{what} of {n}, kind {kind}"), numbers(&mean.unwrap())[0], exact, bound);
            }
        }
    }
}

#[test]
fn forty_million_rows() {
    let n = 40_000_000;
    let x = Tensor::full(0.479f32, (n, 1), &CPU).unwrap();
    let exact = f64::from(0.479f32);
    close("mean", numbers(&ops::mean(&x, 0).unwrap())[0], exact, rounding(DType::F32) * exact);
    assert_eq!(numbers(&ops::var(&x, 0, 1).unwrap())[0], 0., "the variance of a constant");
    let norm = numbers(&ops::norm(&x, 0).unwrap())[0];
    let want = exact * (n as f64).sqrt();
    close("norm", norm, want, rounding(DType::F32) * want);
}

#[test]
fn dimensions_in_any_place_and_order() {
    let dims = [300, 7, 500];
    let values = column(dims.iter().product(), 3);
    let x = Tensor::from_vec(values, dims.as_slice(), &CPU).unwrap();
    let wide = x.to_dtype(DType::F64).unwrap();
    let views = [
        (x.clone(), wide.clone()),
        (x.transpose(0, 2).unwrap(), wide.transpose(0, 2).unwrap()),
        (x.permute((1, 2, 0)).unwrap(), wide.permute((1, 2, 0)).unwrap()),
        (x.narrow(2, 3, 400).unwrap(), wide.narrow(2, 3, 400).unwrap()),
    ];
    for (x, wide) in views {
        for axes in [vec![0], vec![1], vec![2], vec![0, 1], vec![1, 2], vec![0, 2], vec![2, 0], vec![0, 1, 2]]
        {
            let n = axes.iter().map(|&axis| x.dims()[axis]).product();
            let want = numbers(&wide.sum(axes.as_slice()).unwrap());
            for (got, want) in numbers(&ops::sum(&x, axes.as_slice()).unwrap()).into_iter().zip(want) {
                close(&format!("{axes:?}"), got, want, (pairwise(n) + rounding(DType::F32)) * want);
            }
        }
    }
}

#[test]
fn sixteen_bits_are_summed_in_more() {
    for dtype in [DType::F16, DType::BF16] {
        let x = Tensor::full(0.01f32, (100_000, 3), &CPU).unwrap().to_dtype(dtype).unwrap();
        let each = numbers(&x.narrow(0, 0, 1).unwrap())[0];
        let sum = numbers(&ops::sum(&x, 0).unwrap())[2];
        close("sum", sum, each * 1e5, rounding(dtype) * each * 1e5);
        // One by one, a sum of 16 bits stands still.
        let mean = numbers(&ops::mean(&x, 0).unwrap())[0];
        close("mean", mean, each, rounding(dtype) * each);
    }
}

#[test]
fn f64_sums_are_as_good_in_their_own_format() {
    let n = 3_000_000;
    let x = Tensor::full(0.1f64, (n, 2), &CPU).unwrap();
    // 0.1 as an f64 is 0.1 + 5.55e-18, and n times that is rounded once.
    let exact = 3e5 + n as f64 * 5.551_115_123_125_783e-18;
    close("sum", numbers(&ops::sum(&x, 0).unwrap())[0], exact, rounding(DType::F64) * exact);
    assert_eq!(numbers(&ops::var(&x, 0, 0).unwrap()), [0., 0.]);
    assert_eq!(numbers(&ops::mean(&x, 0).unwrap()), [0.1, 0.1]);
}

#[test]
fn variances_of_many_rows() {
    for n in [10_000, 1_000_001] {
        let values = column(n, 2);
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
        let exact = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
        let x = Tensor::from_vec(values, (n, 1), &CPU).unwrap();
        let bound = 2. * (pairwise(n) + rounding(DType::F32)) * exact;
        close("var", numbers(&ops::var(&x, 0, 0).unwrap())[0], exact, bound);
        close("std", numbers(&ops::std(&x, 0, 0).unwrap())[0], exact.sqrt(), bound / exact.sqrt());
    }
}

/// The gradient of `parameter`, times 0.1 so that the terms are no integers.
fn gradient(y: &Tensor, parameter: &Var) -> Vec<f64> {
    let loss = ops::mul_scalar(&ops::sum_all(y).unwrap(), 0.1).unwrap();
    numbers(backward(loss).unwrap().get(parameter).unwrap())
}

#[track_caller]
fn check_gradient(what: &str, got: &[f64], each: f64, n: usize) {
    let want = each * n as f64;
    for &got in got {
        close(what, got, want, (pairwise(n) + rounding(DType::F32)) * want.abs());
    }
}

#[test]
fn gradients_of_biases() {
    let n = 524_288;
    let tenth = f64::from(0.1f32);
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &CPU).unwrap();
    let b = Var::zeros(2, DType::F32, &CPU).unwrap();
    let x = Tensor::ones((n, 1), DType::F32, &CPU).unwrap();
    check_gradient("linear", &gradient(&ops::linear(&x, &zeros(&[2, 1]), Some(&b)).unwrap(), &b), tenth, n);
    let w = Var::zeros((2, 1), DType::F32, &CPU).unwrap();
    let want = tenth * n as f64;
    for got in gradient(&ops::linear(&x, &w, None).unwrap(), &w) {
        close("linear's weight", got, want, product_bound() * want);
    }
    let image = zeros(&[4, 1, n / 4 + 2]);
    let y = ops::conv1d(&image, &zeros(&[2, 1, 3]), Some(&b), &Default::default()).unwrap();
    check_gradient("conv1d", &gradient(&y, &b), tenth, n);
}

#[test]
fn gradients_of_norms_weights() {
    let rows = 300_000;
    let tenth = f64::from(0.1f32);
    // Rows of -1 and 1 are their own norms.
    let x = Tensor::new(&[[-1f32, 1.]], &CPU).unwrap().repeat((rows, 1)).unwrap();
    let w = Var::zeros(2, DType::F32, &CPU).unwrap();
    let b = Var::zeros(2, DType::F32, &CPU).unwrap();
    let y = ops::layer_norm(&x, &[2], Some(&w), Some(&b), 0.).unwrap();
    let dw = gradient(&y, &w);
    check_gradient("layer_norm's weight", &[-dw[0], dw[1]], tenth, rows);
    check_gradient("layer_norm's bias", &gradient(&y, &b), tenth, rows);
    let dw = gradient(&ops::rms_norm(&x, &[2], Some(&w), 0.).unwrap(), &w);
    check_gradient("rms_norm's weight", &[-dw[0], dw[1]], tenth, rows);
    let y =
        ops::batch_norm_train(&x.reshape((rows / 2, 2, 2)).unwrap(), Some(&w), Some(&b), 0.).unwrap().output;
    check_gradient("batch_norm's bias", &gradient(&y, &b), tenth, rows);
    let y = ops::group_norm(&x.reshape((rows / 2, 2, 2)).unwrap(), 2, Some(&w), Some(&b), 0.).unwrap();
    check_gradient("group_norm's bias", &gradient(&y, &b), tenth, rows);
}

#[test]
fn gradients_of_what_was_broadcast() {
    let n = 400_000;
    let tenth = f64::from(0.1f32);
    for (small, large) in [([1, 3], [n, 3]), ([3, 1], [3, n])] {
        let x = Tensor::ones(large.as_slice(), DType::F32, &CPU).unwrap();
        let v = Var::zeros(small.as_slice(), DType::F32, &CPU).unwrap();
        for (what, y) in [("add", ops::add(&x, &v)), ("mul", ops::mul(&x, &v)), ("sub", ops::sub(&v, &x))] {
            check_gradient(&format!("{what} over {large:?}"), &gradient(&y.unwrap(), &v), tenth, n);
        }
    }
    let middle = Var::zeros((1, 5, 1), DType::F32, &CPU).unwrap();
    let x = Tensor::ones((400, 5, 1000), DType::F32, &CPU).unwrap();
    check_gradient("add in the middle", &gradient(&ops::add(&x, &middle).unwrap(), &middle), tenth, n);
    let scalar = Var::zeros((), DType::F32, &CPU).unwrap();
    check_gradient("a scalar", &gradient(&ops::mul(&x, &scalar).unwrap(), &scalar), tenth, 2_000_000);
}

#[test]
fn gradients_of_rows_that_are_looked_up_often() {
    let n = 1_000_000;
    let mut ids = vec![1i64; n];
    ids[0] = 0;
    let ids = Tensor::from_vec(ids, n, &CPU).unwrap();
    let w = Var::zeros((3, 2), DType::F32, &CPU).unwrap();
    let tenth = f64::from(0.1f32);
    let got = gradient(&ops::embedding(&ids, &w).unwrap(), &w);
    assert_eq!([got[0], got[4]], [tenth, 0.]);
    check_gradient("a hot row", &got[2..4], tenth, n - 1);
    let got = gradient(&ops::embedding_with_padding(&ids, &w, 1).unwrap(), &w);
    assert_eq!(got, [tenth, tenth, 0., 0., 0., 0.]);
}

/// Products add blocks of 1,024 terms in f32 in whatever order, and halves of blocks.
fn product_bound() -> f64 {
    1024. * 2f64.powi(-24)
}

#[test]
fn long_products() {
    let n = 2_000_000;
    let ones = Tensor::ones(n, DType::F32, &CPU).unwrap();
    let x = Tensor::full(0.479f32, n, &CPU).unwrap();
    let exact = f64::from(0.479f32) * n as f64;
    let column = x.reshape((n, 1)).unwrap();
    let bound = product_bound() * exact;
    for (what, product) in [
        ("dot", ops::dot(&x, &ones)),
        ("matmul", ops::matmul(&ones.reshape((1, n)).unwrap(), &column)),
        ("mv", ops::mv(&ones.reshape((1, n)).unwrap(), &x)),
        ("vecdot", ops::linalg_vecdot(&x, &ones, 0)),
        ("einsum", ops::einsum("i,i->", &[&x, &ones])),
        ("transposed", ops::matmul(&column.t().unwrap(), &ones.reshape((n, 1)).unwrap())),
    ] {
        close(what, numbers(&product.unwrap())[0], exact, bound);
    }
    for dtype in [DType::BF16, DType::F16] {
        let tenth = Tensor::full(0.01f32, (1, n / 4), &CPU).unwrap().to_dtype(dtype).unwrap();
        let each = numbers(&tenth.narrow(1, 0, 1).unwrap())[0];
        let ones = Tensor::ones((n / 4, 1), dtype, &CPU).unwrap();
        let exact = each * n as f64 / 4.;
        close(
            "16 bits",
            numbers(&ops::mm(&tenth, &ones).unwrap())[0],
            exact,
            (rounding(dtype) + product_bound()) * exact,
        );
    }
}

#[test]
fn softmax_of_long_rows() {
    let n = 3_000_000;
    let x = Tensor::zeros((1, n), DType::F32, &CPU).unwrap();
    let bound = (pairwise(n) + rounding(DType::F32)) * (n as f64).ln();
    let want = 1. / n as f64;
    close("softmax", numbers(&ops::softmax(&x, 1).unwrap())[7], want, rounding(DType::F32) * want);
    close("log_softmax", numbers(&ops::log_softmax(&x, 1).unwrap())[0], -(n as f64).ln(), bound);
    close("logsumexp", numbers(&ops::logsumexp(&x, 1).unwrap())[0], (n as f64).ln(), bound);
}

/// Means that an f32 cannot hold, and squares that it cannot.
#[test]
fn nothing_is_rounded_before_it_is_subtracted() {
    let big = 16_777_216f32;
    let x = Var::from_tensor(&Tensor::new(&[[big, big + 2.]], &CPU).unwrap()).unwrap();
    assert_eq!(numbers(&ops::layer_norm(&x, &[2], None, None, 0.).unwrap()), [-1., 1.]);
    assert_eq!(numbers(&ops::var(&x, 1, 0).unwrap()), [1.]);
    assert_eq!(numbers(&ops::std(&x, 1, 0).unwrap()), [1.]);
    let norm = ops::batch_norm_train(&x.t().unwrap(), None, None, 0.).unwrap();
    assert_eq!(numbers(&norm.output), [-1., 1.]);
    assert_eq!(numbers(&norm.var), [2.]);
    let grads = backward(ops::sum_all(&ops::var(&x, 1, 0).unwrap()).unwrap()).unwrap();
    assert_eq!(numbers(grads.get(&x).unwrap()), [-1., 1.]);
    let x = Tensor::new(&[[1e15f64, 1e15 + 0.125, 1e15 + 0.25]], &CPU).unwrap();
    close("var", numbers(&ops::var(&x, 1, 0).unwrap())[0], 0.03125 / 3., 1e-17);
}

#[test]
fn norms_of_huge_and_tiny_values() {
    for (value, dtype) in [(1e30, DType::F32), (1e-30, DType::F32), (1e300, DType::F64), (1e-200, DType::F64)]
    {
        let x = Tensor::full(value, (1, 4), &CPU).unwrap().to_dtype(dtype).unwrap();
        let x = Var::from_tensor(&x).unwrap();
        let exact = numbers(&x)[0];
        let relative = 4. * rounding(dtype);
        let norm = ops::norm(&x, 1).unwrap();
        close("norm", numbers(&norm)[0] / exact, 2., 2. * relative);
        let grads = backward(ops::sum_all(&norm).unwrap()).unwrap();
        for grad in numbers(grads.get(&x).unwrap()) {
            close("its gradient", grad, 0.5, relative);
        }
        let y = ops::rms_norm(&x, &[4], None, 0.).unwrap();
        if dtype == DType::F32 {
            close("rms_norm", numbers(&y)[0], 1., relative);
        }
        let spread = (x.as_tensor()
            * Tensor::new(&[[1f64, -1., 1., -1.]], &CPU).unwrap().to_dtype(dtype).unwrap())
        .unwrap();
        close("std", numbers(&ops::std(&spread, 1, 0).unwrap())[0] / exact, 1., relative);
    }
    let x = Tensor::full(3e38f32, 100, &CPU).unwrap();
    close("a mean whose sum overflows", numbers(&ops::mean(&x, 0).unwrap())[0] / 3e38, 1., 1e-7);
}

#[test]
fn what_is_barely_there_is_not_lost_beside_a_maximum() {
    let x = Tensor::new(&[[0f32, -30.]], &CPU).unwrap();
    let want = -(-30f64).exp().ln_1p();
    // In f32 the sum of the exponentials is 1, and its logarithm 0.
    close("log_softmax", numbers(&ops::log_softmax(&x, 1).unwrap())[0], want, f64::EPSILON);
    let large = Var::from_tensor(&Tensor::new(&[[1e6f32, 1e6 + 1., 1e6, 1e6]], &CPU).unwrap()).unwrap();
    let sum = 3. + 1f64.exp();
    let want = [1. / sum, 1f64.exp() / sum];
    let grads = backward(ops::sum_all(&ops::logsumexp(&large, 1).unwrap()).unwrap()).unwrap();
    let got = numbers(grads.get(&large).unwrap());
    close("logsumexp's gradient", got[0], want[0], 3e-7);
    close("logsumexp's gradient", got[1], want[1], 3e-7);
}
