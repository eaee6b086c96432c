//! What 16-bit arithmetic gets wrong when it is done in 16 bits, done right: plain candle's answers are in the names.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{self, CrossEntropy};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::samples::numbers;

const SIXTEEN_BIT: [DType; 2] = [DType::F16, DType::BF16];

fn full(value: f64, dims: &[usize], dtype: DType) -> Tensor {
    Tensor::full(value, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn gradient_of(var: &Var, loss: &Tensor) -> Vec<f64> {
    let total = loss.to_dtype(DType::F32).unwrap().sum_all().unwrap();
    numbers(autocast::backward(total).unwrap().get(var).unwrap())
}

#[test]
fn the_sum_of_4096_ones_is_neither_2048_nor_256() {
    for dtype in SIXTEEN_BIT {
        let ones = full(1., &[4096], dtype);
        assert_eq!(numbers(&ops::sum(&ones, 0).unwrap()), [4096.]);
        assert_eq!(numbers(&ops::mean(&ones, 0).unwrap()), [1.]);
        assert_eq!(numbers(&ops::cumsum(&ones, 0).unwrap())[4095], 4096.);
        assert_eq!(numbers(&ops::norm(&full(64., &[4096], dtype), 0).unwrap()), [4096.]);
    }
}

#[test]
fn softmax_of_4096_equal_values_sums_to_1_and_neither_to_2_nor_16() {
    for dtype in SIXTEEN_BIT {
        let x = full(3., &[1, 4096], dtype);
        let total: f64 = numbers(&ops::softmax(&x, 1).unwrap()).iter().sum();
        assert_eq!(total, 1.);
    }
}

#[test]
fn cross_entropy_over_32000_equal_logits_is_their_logarithm() {
    for dtype in SIXTEEN_BIT {
        let logits = Var::from_tensor(&full(0., &[2, 32000], dtype)).unwrap();
        let targets = Tensor::new(&[5u32, 31999], &Device::Cpu).unwrap();
        let loss = ops::cross_entropy(&logits, &targets, &CrossEntropy::default()).unwrap();
        let half_ulp = if dtype == DType::F16 { 0.004 } else { 0.032 };
        assert!((numbers(&loss)[0] - 32000f64.ln()).abs() <= half_ulp, "{dtype:?}: {loss}");
        let grad = gradient_of(&logits, &loss);
        assert!((grad[5] + 0.5).abs() < 0.002, "{}", grad[5]);
    }
}

#[test]
fn a_bias_gradient_over_4096_rows_is_their_number() {
    for dtype in SIXTEEN_BIT {
        let bias = Var::from_tensor(&full(0.5, &[3], dtype)).unwrap();
        let x = full(1., &[4096, 3], dtype);
        let sums = [
            ops::add(&x, &bias).unwrap(),
            ops::mul(&x, &bias).unwrap(),
            ops::where_cond(&Tensor::ones((4096, 3), DType::U8, &Device::Cpu).unwrap(), &bias, &x).unwrap(),
            ops::layer_norm(&x, &[3], None, Some(&bias), 1e-5).unwrap(),
        ];
        for sum in sums {
            assert_eq!(gradient_of(&bias, &sum), [4096.; 3]);
        }
    }
}

#[test]
fn a_scalar_that_f16_does_not_have_is_not_infinite() {
    for dtype in SIXTEEN_BIT {
        let x = Var::from_tensor(&full(0.5, &[2], dtype)).unwrap();
        let product = ops::mul_scalar(&x, 65536.).unwrap();
        assert_eq!(numbers(&product), [32768.; 2]);
        let back = ops::div_scalar(&product, 65536.).unwrap();
        assert_eq!(numbers(&back), [0.5; 2]);
        assert_eq!(gradient_of(&x, &back), [1.; 2]);
        let shifted = ops::add_scalar(&full(-60000., &[1], DType::F16), 65536.).unwrap();
        assert_eq!(numbers(&shifted), [5536.]);
    }
}

#[test]
fn the_gradient_of_gelu_is_0_or_1_far_out_and_not_nan() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        for gelu in [ops::gelu, ops::gelu_tanh] {
            for far in [50., 1000., 60000.] {
                let x = Tensor::new(&[-far, far], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let x = Var::from_tensor(&x).unwrap();
                let y = gelu(&x).unwrap();
                assert_eq!(gradient_of(&x, &y), [0., 1.], "{dtype:?} at {far}");
                assert_eq!(numbers(&y), [0., numbers(&x)[1]]);
            }
        }
    }
}

#[test]
fn norms_of_numbers_whose_squares_overflow_f16() {
    let row = Tensor::new(&[[1000f32, -1000., 500., -500.]], &Device::Cpu).unwrap();
    for dtype in SIXTEEN_BIT {
        let x = Var::from_tensor(&row.to_dtype(dtype).unwrap()).unwrap();
        for y in [ops::layer_norm(&x, &[4], None, None, 1e-5), ops::rms_norm(&x, &[4], None, 1e-5)] {
            let y = y.unwrap();
            assert!((numbers(&y)[0] - 1.2649).abs() < 0.005, "{y}");
            assert!(gradient_of(&x, &y).iter().all(|g| g.is_finite()));
        }
    }
}

#[test]
fn the_gradient_of_a_quotient_survives_a_large_divisor() {
    // candle squares the divisor, which overflows f16 from 256 on.
    let b = Var::new(&[half::f16::from_f32(512.)], &Device::Cpu).unwrap();
    let a = full(1024., &[1], DType::F16);
    assert_eq!(gradient_of(&b, &ops::div(&a, &b).unwrap()), [-1024. / 512. / 512.]);
}

#[test]
fn an_embedding_gradient_of_4096_hits_is_their_number() {
    for dtype in SIXTEEN_BIT {
        let table = Var::from_tensor(&full(0.5, &[2, 3], dtype)).unwrap();
        let ids = Tensor::ones(4096, DType::U32, &Device::Cpu).unwrap();
        let rows = ops::embedding(&ids, &table).unwrap();
        assert_eq!(gradient_of(&table, &rows), [0., 0., 0., 4096., 4096., 4096.]);
    }
}

#[test]
fn conv2d_works_in_bf16_too() {
    for dtype in SIXTEEN_BIT {
        let kernel = Var::from_tensor(&full(0.5, &[1, 2, 2, 2], dtype)).unwrap();
        let y = ops::conv2d(&full(1., &[1, 2, 3, 3], dtype), &kernel, None, &Default::default()).unwrap();
        assert_eq!(numbers(&y), [4.; 4]);
        assert_eq!(gradient_of(&kernel, &y), [4.; 8]);
    }
}
