//! Every instruction set against the oracle, which does the same operations one element at a time: bit for bit, but for the
//! payloads of NaN.

use super::*;
use crate::Real;
use crate::kernels::product::Matrix;
use crate::simd::{Baseline, Isa, Simd};
use half::{bf16, f16};
use proptest::prelude::*;

/// How a matrix lies: by rows, by columns, or with gaps, from an element on that vectors do not begin at.
#[derive(Clone, Copy, Debug)]
struct Layout {
    kind: usize,
    offset: usize,
}

impl Layout {
    fn of(self, rows: usize, columns: usize) -> Matrix {
        let (row, column) = [(columns, 1), (1, rows), (2 * columns + 3, 2)][self.kind];
        Matrix { rows, columns, row, column }
    }
}

/// What is added to a product.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Onto {
    Nothing,
    Output,
    Matrix,
}

/// A product, of which every number is a function of the seed.
#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: [usize; 3],
    layouts: [Layout; 2],
    onto: Onto,
    has_row: bool,
    factor: f64,
    /// Whether some numbers are not finite, or are very small.
    special: bool,
    seed: u64,
}

/// The types of a product.
trait Types {
    type T: Packed + Term<Sum = Self::T, Unit = Isa>;
    type X: Stored<Self::T> + Source<Self::T>;
    type O: Stored<Self::T> + Send;
    const NAME: &'static str;
    fn fused(a: Self::T, b: Self::T, c: Self::T) -> Self::T;
}

macro_rules! types {
    ($($name:ident: $t:ty, $x:ty, $o:ty;)*) => {$(
        struct $name;
        impl Types for $name {
            type T = $t;
            type X = $x;
            type O = $o;
            const NAME: &'static str = stringify!($name);
            fn fused(a: $t, b: $t, c: $t) -> $t {
                a.mul_add(b, c)
            }
        }
    )*};
}
types! {
    F32: f32, f32, f32;
    F64: f64, f64, f64;
    F16: f32, f16, f16;
    F16ToF32: f32, f16, f32;
    Bf16: f32, bf16, bf16;
    Bf16ToF32: f32, bf16, f32;
}

/// Numbers in [-1, 1), and some that are special.
fn numbers<T: Packed, X: Stored<T>>(len: usize, case: Case, stream: u64) -> Vec<X> {
    const SPECIAL: [f64; 8] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0., -0., 1e-40, -1e-42, 3e-39];
    let mut state = (case.seed ^ stream << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let drawn = (state >> 40) as f64 / f64::from(1 << 23) - 1.;
            let x = match state >> 33 & 0x7f {
                which if case.special && which < 4 => SPECIAL[(state >> 60) as usize % 8],
                _ => drawn,
            };
            stored::<T, X>(T::from_f64(x))
        })
        .collect()
}

fn stored<T: Packed, X: Stored<T>>(x: T) -> X {
    let mut all = [X::default(); 1];
    X::write(Baseline, &[x], &mut all);
    all[0]
}

fn read<T: Packed, X: Stored<T>>(x: X) -> T {
    let mut all = [T::ZERO];
    X::read(Baseline, &[x], &mut all);
    all[0]
}

/// The columns of a matrix, which can be multiplied in place.
#[derive(Clone, Copy)]
struct Columns<'a, X> {
    x: &'a [X],
    columns: Strided<'a, X>,
    lanes: &'a [usize],
    numbers: &'a [usize],
}

impl<E: Term, X: Source<E>> Operand<E> for Columns<'_, X> {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn numbers(&self) -> usize {
        self.numbers.len()
    }

    fn in_place(&self) -> Option<InPlace<'_, E>> {
        let x = X::as_it_is(self.x).filter(|_| !self.lanes.is_empty())?;
        Some(InPlace::new(x, self.lanes, self.numbers))
    }

    fn pack<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        first: usize,
        of: Range<usize>,
        to: &mut [[E; WIDTH]],
    ) {
        self.columns.pack(simd, first, of, to);
    }
}

/// Holds a product to the oracle, with right columns packed, and in place where their type is the sums'.
fn check<K: Types>(isa: Isa, case: Case, threads: Threads) {
    check_where::<K>(false, isa, case, threads);
    if <K::X as Source<K::T>>::as_it_is(&[]).is_some() {
        check_where::<K>(true, isa, case, threads);
    }
}

fn check_where<K: Types>(in_place: bool, isa: Isa, case: Case, threads: Threads) {
    let [m, k, n] = case.sizes;
    let [lhs, rhs] = [case.layouts[0].of(m, k), case.layouts[1].of(k, n)];
    let operand = |matrix: Matrix, layout: Layout, stream| {
        numbers::<K::T, K::X>(layout.offset + matrix.span(), case, stream)
    };
    let (a, b) = (operand(lhs, case.layouts[0], 1), operand(rhs, case.layouts[1], 2));
    let (a, b) = (&a[case.layouts[0].offset..], &b[case.layouts[1].offset..]);
    let row: Vec<K::T> = numbers::<K::T, K::T>(n, case, 3);
    let held: Vec<K::O> = numbers(m * n, case, 4);
    let factor = K::T::from_f64(case.factor);
    let plus = match case.onto {
        Onto::Nothing => Plus::Nothing,
        Onto::Output => Plus::Output,
        Onto::Matrix => Plus::Matrix(&held[..]),
    };
    let then = Then { factor, row: case.has_row.then_some(&row[..]), plus };
    let mut out = if case.onto == Onto::Output { held.clone() } else { vec![K::O::default(); m * n] };
    let (left, right) = (Strided::new(a, lhs), Strided::new(b, rhs.transposed()));
    let to = (&mut out[..], Lies::by_rows(n));
    if in_place {
        let lanes: Vec<_> = (0..n).map(|j| j * rhs.column).collect();
        let numbers: Vec<_> = (0..k).map(|l| l * rhs.row).collect();
        let right = Columns { x: b, columns: right, lanes: &lanes, numbers: &numbers };
        multiply_where::<K::T, K::O>(true, isa, left, right, then, to, threads);
    } else {
        multiply_where::<K::T, K::O>(false, isa, left, right, then, to, threads);
    }

    let fused = isa.fuses();
    let chain = |terms: Range<usize>, i: usize, j: usize| {
        terms.fold(K::T::ZERO, |sum, l| {
            let (a, b) = (read(a[i * lhs.row + l * lhs.column]), read(b[l * rhs.row + j * rhs.column]));
            if fused { K::fused(a, b, sum) } else { sum + a * b }
        })
    };
    for (at, (&got, &held)) in out.iter().zip(&held).enumerate() {
        let (i, j) = (at / n, at % n);
        let mut expected = held;
        for first in (0..k).step_by(DEPTH) {
            let end = k.min(first + DEPTH);
            let mut sums = (first..end).step_by(RUN).map(|run| chain(run..end.min(run + RUN), i, j));
            let first_run = sums.next().unwrap();
            let mut sum = sums.fold(first_run, |sum, run| sum + run) * factor;
            if first == 0 && case.has_row {
                sum = sum + row[j];
            }
            if first > 0 || case.onto != Onto::Nothing {
                sum = sum + read(expected);
            }
            expected = stored(sum);
        }
        let (got, expected): (K::T, K::T) = (read(got), read(expected));
        let same = got.to_f64().to_bits() == expected.to_f64().to_bits();
        let both_nan = got.to_f64().is_nan() && expected.to_f64().is_nan();
        assert!(
            same || both_nan,
            "{} by {isa:?}, in place {in_place}, ({i}, {j}) of {case:?}: {got:?} for {expected:?}",
            K::NAME
        );
    }
}

fn check_all(case: Case, threads: Threads) {
    for isa in Isa::available() {
        check::<F32>(isa, case, threads);
        check::<F64>(isa, case, threads);
        check::<F16ToF32>(isa, case, threads);
        check::<Bf16ToF32>(isa, case, threads);
        if case.sizes[1] <= DEPTH {
            check::<F16>(isa, case, threads);
            check::<Bf16>(isa, case, threads);
        }
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    (0..3usize, 0..4usize).prop_map(|(kind, offset)| Layout { kind, offset })
}

fn onto() -> impl Strategy<Value = Onto> {
    prop_oneof![Just(Onto::Nothing), Just(Onto::Output), Just(Onto::Matrix)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_the_oracles(
        sizes in [0..68usize, 1..68usize, 0..68usize],
        layouts in [layout(), layout()],
        onto in onto(),
        has_row: bool,
        factor in prop_oneof![Just(1.), Just(0.125), Just(-3.)],
        special: bool,
        seed: u64,
    ) {
        check_all(Case { sizes, layouts, onto, has_row, factor, special, seed }, Threads::One);
    }
}

#[test]
fn long_and_wide_products_are_the_oracles() {
    let sizes = [
        [1, 2 * DEPTH + 3, 1],
        [3, RUN + 1, 290],
        [50, DEPTH + RUN, 2],
        [130, 300, 95],
        [97, 7, 2100],
        [13, RUN, 17],
    ];
    for (at, sizes) in sizes.into_iter().enumerate() {
        for kind in 0..3 {
            let layouts = [Layout { kind, offset: 1 }, Layout { kind: 2 - kind, offset: 3 }];
            let case = Case {
                sizes,
                layouts,
                onto: [Onto::Nothing, Onto::Output, Onto::Matrix][at % 3],
                has_row: kind == 0,
                factor: 1.,
                special: false,
                seed: at as u64,
            };
            check_all(case, Threads::All);
        }
    }
}

#[test]
fn every_instruction_set_is_here() {
    let all: Vec<_> = Isa::available().collect();
    #[cfg(target_arch = "x86_64")]
    for (name, found) in [
        ("AVX2", all.iter().any(|isa| matches!(isa, Isa::Avx2(_)))),
        ("AVX-512", all.iter().any(|isa| matches!(isa, Isa::Avx512(_)))),
    ] {
        if !found {
            println!("SKIPPED: products with {name}, which this machine does not have");
        }
    }
    assert!(!all.is_empty());
}
