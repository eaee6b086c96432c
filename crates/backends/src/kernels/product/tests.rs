//! Every engine, type and layout against the oracle.

use super::{Added, Engine, NOTHING, Onto, RUN, product, product_on, product_scalar};
use crate::Error;
use crate::buffer::{In, Out, Ran, ScalarType, Slice, SliceMut};
use half::{bf16, f16};
use proptest::prelude::*;

/// An operand: numbers in a type, and where the matrices are among them.
#[derive(Clone, Debug)]
struct Operand {
    data: Vec<f64>,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl Operand {
    /// A stack of `(rows, columns)` in one of three layouts: by rows, by columns, or with gaps.
    fn new(stack: usize, rows: usize, columns: usize, layout: u8, seed: u64) -> Self {
        let (row, column, len) = match layout {
            0 => (columns, 1, rows * columns),
            1 => (1, rows, rows * columns),
            _ => (2 * columns + 3, 2, rows * (2 * columns + 3)),
        };
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.
        };
        let data = (0..stack * len).map(|_| f64::from(bf16::from_f64(next()).to_f32())).collect();
        Self { data, dims: vec![stack, rows, columns], strides: vec![len, row, column] }
    }

    /// The elements of matrix `i`, by rows.
    fn matrix(&self, i: usize) -> Vec<f64> {
        let at = |r: usize, c: usize| i * self.strides[0] + r * self.strides[1] + c * self.strides[2];
        (0..self.dims[1])
            .flat_map(|r| (0..self.dims[2]).map(move |c| (r, c)))
            .map(|(r, c)| self.data[at(r, c)])
            .collect()
    }
}

/// The product by an engine, and the type's roundoff.
fn run(engine: Engine, of: ScalarType, a: &Operand, b: &Operand, wide_out: bool) -> (Vec<f64>, f64) {
    let dims = [a.dims[0], a.dims[1], b.dims[2]];
    let len = dims.iter().product();
    macro_rules! in_type {
        ($t:ty, $variant:ident, $roundoff:expr) => {{
            let [x, y] = [a, b].map(|x| x.data.iter().map(|&x| <$t>::from_f64(x)).collect::<Vec<_>>());
            let x = In::host("a", Slice::$variant(&x), &a.dims, &a.strides).unwrap();
            let y = In::host("b", Slice::$variant(&y), &b.dims, &b.strides).unwrap();
            if wide_out {
                let mut out = vec![f32::NAN; len];
                let mut out_buffer = Out::host("out", SliceMut::F32(&mut out), &dims).unwrap();
                assert!(matches!(
                    product_on(engine, &x, &y, NOTHING, &mut out_buffer).unwrap(),
                    Ran::Kernel(_)
                ));
                (out.iter().map(|&x| f64::from(x)).collect(), 2f64.powi(-24))
            } else {
                let mut out = vec![<$t>::from_f64(f64::NAN); len];
                let mut out_buffer = Out::host("out", SliceMut::$variant(&mut out), &dims).unwrap();
                assert!(matches!(
                    product_on(engine, &x, &y, NOTHING, &mut out_buffer).unwrap(),
                    Ran::Kernel(_)
                ));
                (out.iter().map(|&x| f64::from(x)).collect(), $roundoff)
            }
        }};
    }
    trait FromF64 {
        fn from_f64(x: f64) -> Self;
    }
    impl FromF64 for f32 {
        fn from_f64(x: f64) -> Self {
            x as f32
        }
    }
    impl FromF64 for f64 {
        fn from_f64(x: f64) -> Self {
            x
        }
    }
    match of {
        ScalarType::F16 => in_type!(f16, F16, 2f64.powi(-11)),
        ScalarType::Bf16 => in_type!(bf16, Bf16, 2f64.powi(-8)),
        ScalarType::F32 => in_type!(f32, F32, 2f64.powi(-24)),
        _ => in_type!(f64, F64, 2f64.powi(-53)),
    }
}

/// Holds a product to the contract.
fn check(engine: Engine, of: ScalarType, a: &Operand, b: &Operand, wide_out: bool) {
    let (got, roundoff) = run(engine, of, a, b, wide_out);
    let [m, k, n] = [a.dims[1], a.dims[2], b.dims[2]];
    let sums = if of == ScalarType::F64 { 2f64.powi(-53) } else { 2f64.powi(-24) };
    let terms = match engine {
        Engine::Widened => k.min(RUN) + k.div_ceil(RUN),
        _ => k,
    };
    // Half of what is between two of the smallest numbers of the result's type.
    let smallest = if of == ScalarType::F16 && !wide_out { 2f64.powi(-25) } else { 1e-30 };
    for stack in 0..a.dims[0] {
        let (x, y) = (a.matrix(stack), b.matrix(stack));
        let expected = product_scalar([m, k, n], &x, &y);
        let size = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let sizes = product_scalar([m, k, n], &size(&x), &size(&y));
        for (i, (expected, size)) in expected.iter().zip(sizes).enumerate() {
            let got = got[stack * m * n + i];
            let bound = 2. * sums * terms as f64 * size + roundoff * expected.abs() * (1. + 1e-6) + smallest;
            let off = (got - expected).abs();
            assert!(
                off <= bound,
                "{engine:?} {of:?} {m}x{k}x{n} at {i}: {got} for {expected}, off by {off:e} of {bound:e}"
            );
        }
    }
}

const TYPES: [ScalarType; 4] = [ScalarType::F16, ScalarType::Bf16, ScalarType::F32, ScalarType::F64];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_within_the_contract(
        (m, k, n) in (0..68usize, 0..68usize, 0..68usize),
        stack in 1..4usize,
        (left, right) in (0..3u8, 0..3u8),
        of in 0..4usize,
        wide_out: bool,
        seed: u64,
    ) {
        let (a, b) = (Operand::new(stack, m, k, left, seed), Operand::new(stack, k, n, right, seed ^ 1));
        for engine in Engine::available() {
            check(engine, TYPES[of], &a, &b, wide_out && TYPES[of] != ScalarType::F64);
        }
    }
}

#[test]
fn large_and_long_products_are_within_the_contract() {
    for (m, k, n) in [(130, 257, 95), (1, 3000, 1), (3, 2500, 40), (40, 2049, 1), (257, 33, 130)] {
        for layout in 0..3 {
            let (a, b) = (Operand::new(1, m, k, layout, 7), Operand::new(1, k, n, 2 - layout, 8));
            for of in TYPES {
                for engine in Engine::available() {
                    check(engine, of, &a, &b, false);
                }
            }
        }
    }
}

#[test]
fn many_equal_terms_are_all_added() {
    let k = 1 << 22;
    let ones =
        |dims: [usize; 3]| Operand { data: vec![1.; k], dims: dims.to_vec(), strides: vec![k, dims[2], 1] };
    let (a, b) = (ones([1, 1, k]), ones([1, k, 1]));
    assert_eq!(run(Engine::Widened, ScalarType::F32, &a, &b, false).0, [f64::from(1 << 22)]);
    // One tenth is no number of f32; added one by one, the sum would be off in its third digit.
    let tenth = Operand { data: vec![0.1; k], ..a };
    let expected = f64::from(0.1f32) * k as f64;
    let got = run(Engine::Widened, ScalarType::F32, &tenth, &b, false).0[0];
    assert!((got / expected - 1.).abs() < 1e-4, "{got} for {expected}");
}

#[test]
fn a_nan_stays_in_its_row_and_column() {
    for engine in Engine::available() {
        for of in TYPES {
            let (mut a, mut b) = (Operand::new(1, 40, 50, 0, 3), Operand::new(1, 50, 45, 0, 4));
            a.data[7 * 50 + 3] = f64::NAN;
            b.data[9 * 45 + 11] = f64::INFINITY;
            let (got, _) = run(engine, of, &a, &b, false);
            for (i, x) in got.iter().enumerate() {
                let touched = i / 45 == 7 || i % 45 == 11;
                assert_eq!(!x.is_finite(), touched, "{engine:?} {of:?} at {i}: {x}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let pools = [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    for (stack, m, k, n) in [(1, 300, 1500, 200), (5, 64, 64, 64), (2, 200, 70, 90)] {
        let (a, b) = (Operand::new(stack, m, k, 0, 5), Operand::new(stack, k, n, 1, 6));
        for of in TYPES {
            for engine in Engine::available() {
                let [one, three] =
                    pools.each_ref().map(|pool| pool.install(|| run(engine, of, &a, &b, false).0));
                assert_eq!(one, three, "{engine:?} {of:?} {stack} of {m}x{k}x{n}");
            }
        }
    }
}

#[test]
fn no_terms_make_zeros() {
    for of in TYPES {
        for layout in 0..3 {
            let (a, b) = (Operand::new(2, 3, 0, layout, 1), Operand::new(2, 0, 4, layout, 1));
            assert_eq!(run(Engine::best(), of, &a, &b, false).0, vec![0.; 24]);
        }
    }
}

/// Holds `a · b` with a row, with a matrix, with both, and onto ones, to what it is, where all numbers are integers that every type
/// holds.
macro_rules! check_added {
    ($t:ty, $variant:ident, $of:expr, [$m:expr, $k:expr, $n:expr]) => {
        let (m, k, n): (usize, usize, usize) = ($m, $k, $n);
        // A few ones among zeros: sums stay small.
        let ones = (0..k).filter(|l| l % 97 == 5).count() as f32;
        let a: Vec<$t> = (0..m * k).map(|i| $of(f32::from(u8::from(i % k % 97 == 5)))).collect();
        let b: Vec<$t> = (0..k * n).map(|i| $of((i % n % 5) as f32 - 2.)).collect();
        let row: Vec<$t> = (0..n).map(|j| $of((j % 7) as f32)).collect();
        let matrix: Vec<$t> = (0..m * n).map(|i| $of((i % 11) as f32)).collect();
        let a = In::host("a", Slice::$variant(&a), &[m, k], &[k, 1]).unwrap();
        let b = In::host("b", Slice::$variant(&b), &[k, n], &[n, 1]).unwrap();
        let row = In::host("row", Slice::$variant(&row), &[n], &[1]).unwrap();
        let matrix = In::host("matrix", Slice::$variant(&matrix), &[m, n], &[n, 1]).unwrap();
        let added = |row, matrix| Onto::Added(Added { row, matrix });
        for onto in [
            Onto::Output,
            added(Some(&row), None),
            added(None, Some(&matrix)),
            added(Some(&row), Some(&matrix)),
        ] {
            for engine in Engine::available() {
                let mut memory = vec![$of(1.); m * n];
                let mut out = Out::host("out", SliceMut::$variant(&mut memory), &[m, n]).unwrap();
                assert!(matches!(product_on(engine, &a, &b, onto, &mut out).unwrap(), Ran::Kernel(_)));
                for (at, got) in memory.iter().enumerate() {
                    let j = at % n;
                    let plus = match onto {
                        Onto::Output => 1.,
                        Onto::Added(Added { row, matrix }) => {
                            let of_row = row.map_or(0., |_| (j % 7) as f32);
                            of_row + matrix.map_or(0., |_| (at % 11) as f32)
                        }
                    };
                    let expected: $t = $of(ones * ((j % 5) as f32 - 2.) + plus);
                    assert_eq!(*got, expected, "{} {engine:?} {onto:?} {m}x{k}x{n} at {at}", stringify!($t));
                }
            }
        }
    };
}

#[test]
fn rows_matrices_and_outputs_are_added() {
    for [m, k, n] in [[3, 40, 7], [200, 600, 210], [9, 2100, 33], [1, 2100, 5], [40, 4200, 90]] {
        check_added!(f32, F32, |x: f32| x, [m, k, n]);
        check_added!(f64, F64, f64::from, [m, k, n]);
        check_added!(f16, F16, f16::from_f32, [m, k, n]);
        check_added!(bf16, Bf16, bf16::from_f32, [m, k, n]);
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let data = vec![1f32; 64];
    let matrix = |dims: &[usize]| {
        let strides: Vec<usize> = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
        In::host("x", Slice::F32(&data), dims, &strides).unwrap()
    };
    for (a, b, out) in [
        (vec![2, 3], vec![4, 2], vec![2, 2]),
        (vec![2, 3], vec![3, 2], vec![2, 3]),
        (vec![2, 2, 3], vec![1, 3, 2], vec![2, 2, 2]),
        (vec![2, 2, 3], vec![3, 2], vec![2, 2, 2]),
        (vec![6], vec![6], vec![1]),
    ] {
        let mut memory = vec![0f32; 16];
        let mut out = Out::host("out", SliceMut::F32(&mut memory), &out).unwrap();
        let got = product(&matrix(&a), &matrix(&b), &mut out);
        assert!(matches!(got, Err(Error::Operand { .. })), "{a:?} {b:?}: {got:?}");
    }
}
