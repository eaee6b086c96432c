//! The CPU against the oracle, element by element within the contract, with every instruction set.

use half::{bf16, f16};
use proptest::prelude::*;

use super::host_bounds::check;
use super::*;
use crate::buffer::{ScalarType, Slice, SliceMut};
use crate::random::{key as random_key, random_bits};
use crate::simd::rows::to_f64;

const TYPES: [ScalarType; 4] = [ScalarType::F32, ScalarType::F64, ScalarType::F16, ScalarType::Bf16];

/// Elements of a type that is a value.
#[derive(Clone)]
enum Stored {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Stored {
    fn new(of: ScalarType, x: &[f64]) -> Self {
        match of {
            ScalarType::F16 => Self::F16(x.iter().map(|&x| f16::from_f64(x)).collect()),
            ScalarType::Bf16 => Self::Bf16(x.iter().map(|&x| bf16::from_f64(x)).collect()),
            ScalarType::F64 => Self::F64(x.to_vec()),
            _ => Self::F32(x.iter().map(|&x| x as f32).collect()),
        }
    }

    fn slice(&self) -> Slice<'_> {
        match self {
            Self::F16(x) => Slice::F16(x),
            Self::Bf16(x) => Slice::Bf16(x),
            Self::F32(x) => Slice::F32(x),
            Self::F64(x) => Slice::F64(x),
        }
    }

    fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Self::F16(x) => SliceMut::F16(x),
            Self::Bf16(x) => SliceMut::Bf16(x),
            Self::F32(x) => SliceMut::F32(x),
            Self::F64(x) => SliceMut::F64(x),
        }
    }
}

/// How inputs lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// In the order of their indices.
    Plain,
    /// The heads of a row side by side, and rows and batch elements a little apart.
    RowsFirst,
    /// Elements of a row apart.
    Across,
}

impl Layout {
    fn strides(self, [_, h, t, d]: [usize; 4]) -> [usize; 4] {
        match self {
            Self::Plain => [h * t * d, t * d, d, 1],
            Self::RowsFirst => [t * (h * d + 3) + 5, d, h * d + 3, 1],
            Self::Across => [h * t * d, t * d, 1, t],
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) of: ScalarType,
    pub(super) batch: usize,
    /// With the heads of all batch elements.
    pub(super) problem: Problem,
    layout: Layout,
    order: Order,
    packed: bool,
}

/// `(batch, heads, rows, width)` of numbers that the type holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) query: Vec<f64>,
    pub(super) key: Vec<f64>,
    pub(super) value: Vec<f64>,
    pub(super) grad: Vec<f64>,
}

#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) out: Vec<f64>,
    pub(super) lse: Vec<f64>,
    pub(super) grads: [Vec<f64>; 3],
}

impl Got {
    fn bits(&self) -> Vec<u64> {
        let all = [&self.out, &self.lse, &self.grads[0], &self.grads[1], &self.grads[2]];
        all.into_iter().flatten().map(|x| x.to_bits()).collect()
    }
}

impl Case {
    fn new(of: ScalarType, (batch, heads): (usize, usize), problem: Problem) -> Self {
        let problem = Problem { heads: batch * heads, ..problem };
        Self { of, batch, problem, layout: Layout::Plain, order: Order::HeadsFirst, packed: false }
    }

    fn dims(&self, rows: usize) -> [usize; 4] {
        [self.batch, self.problem.heads / self.batch.max(1), rows, self.problem.width]
    }

    /// Numbers in (-2, 2).
    fn numbers(&self, seed: u64) -> Given {
        let draw = |seed, rows: usize| {
            let key = random_key(&[seed]);
            let number = |i| f64::from(random_bits(key, i)) / f64::from(1u32 << 30) - 2.;
            let len = self.dims(rows).iter().product::<usize>();
            let x: Vec<f64> = (0..len as u64).map(number).collect();
            to_f64(Stored::new(self.of, &x).slice())
        };
        let Problem { queries, keys, .. } = self.problem;
        let (query, key) = (draw(seed, queries), draw(seed + 1, keys));
        Given { query, key, value: draw(seed + 2, keys), grad: draw(seed + 3, queries) }
    }

    /// The numbers in the layout, with NaN between them.
    fn lay(&self, x: &[f64], rows: usize) -> (Stored, [usize; 4]) {
        let dims = self.dims(rows);
        let strides = self.layout.strides(dims);
        let reach: usize = dims.iter().zip(strides).map(|(&d, s)| d.saturating_sub(1) * s).sum();
        let mut memory = vec![f64::NAN; reach + 1];
        for (i, &x) in x.iter().enumerate() {
            let [_, h, t, d] = dims;
            let index = [i / (h * t * d), i / (t * d) % h, i / d % t, i % d];
            memory[index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>()] = x;
        }
        (Stored::new(self.of, &memory), strides)
    }

    /// Of a result in memory the elements in the order of `(batch, heads, rows, width)`.
    fn ordered(&self, x: &Stored, rows: usize, [batch, head, row]: [usize; 3], start: usize) -> Vec<f64> {
        let (x, [b, h, t, d]) = (to_f64(x.slice()), self.dims(rows));
        let mut ordered = Vec::new();
        for (b, h, t) in (0..b).flat_map(|b| (0..h).flat_map(move |h| (0..t).map(move |t| (b, h, t)))) {
            ordered.extend(&x[start + b * batch + h * head + t * row..][..d]);
        }
        ordered
    }

    fn run(&self, isa: Isa, given: &Given) -> Got {
        let Problem { queries, keys, width, scale, mask, dropout, .. } = self.problem;
        let attention = Attention { scale, mask, dropout };
        let (query, key) = (self.lay(&given.query, queries), self.lay(&given.key, keys));
        let (value, grad) = (self.lay(&given.value, keys), self.lay(&given.grad, queries));
        fn view<'a>(x: &'a (Stored, [usize; 4]), dims: [usize; 4]) -> In<'a> {
            In::host("x", x.0.slice(), &dims, &x.1).unwrap()
        }
        let (query, key) = (view(&query, self.dims(queries)), view(&key, self.dims(keys)));
        let (value, grad) = (view(&value, self.dims(keys)), view(&grad, self.dims(queries)));
        let inputs = Inputs { query: &query, key: &key, value: &value };
        let sizes = Sizes::of(inputs).unwrap();
        let heads = sizes.heads;
        let fresh = |of, len: usize| Stored::new(of, &vec![f64::NAN; len]);
        let mut out = fresh(self.of, query.count());
        let mut lse = fresh(lse_type(self.of), sizes.batch * heads * queries);
        {
            let mut out = Out::host("out", out.slice_mut(), &sizes.out_dims(self.order, queries)).unwrap();
            let dims = [sizes.batch, heads, queries];
            let mut lse = Out::host("lse", lse.slice_mut(), &dims).unwrap();
            let ran = host::forward(isa, attention, sizes, inputs, self.order, &mut out, &mut lse).unwrap();
            assert_eq!(ran, Ran::Kernel("attention forward"));
        }
        let steps = |rows| match self.order {
            Order::HeadsFirst => [heads * rows * width, rows * width, width],
            Order::RowsFirst => [heads * rows * width, width, heads * width],
        };
        let out = self.ordered(&out, queries, steps(queries), 0);
        let saved_out = self.lay(&out, queries);
        let dims = [sizes.batch, heads, queries];
        let saved_lse = In::host("lse", lse.slice(), &dims, &[heads * queries, queries, 1]).unwrap();
        let saved = Saved { out: &view(&saved_out, self.dims(queries)), lse: &saved_lse, grad: &grad };
        let each = [queries, keys, keys];
        let grads = if self.packed {
            let mut all = fresh(self.of, 3 * query.count());
            let dims = [sizes.batch, queries, 3, heads, width];
            let mut out = Out::host("grads", all.slice_mut(), &dims).unwrap();
            host::backward(isa, attention, sizes, inputs, saved, GradientsOut::Packed(&mut out)).unwrap();
            let steps = [queries * 3 * heads * width, width, 3 * heads * width];
            [0, 1, 2].map(|part| self.ordered(&all, queries, steps, part * heads * width))
        } else {
            let mut all = each.map(|rows| fresh(self.of, self.dims(rows).iter().product()));
            let [query, key, value] = &mut all;
            let mut query = Out::host("x", query.slice_mut(), &sizes.out_dims(self.order, queries)).unwrap();
            let mut key = Out::host("x", key.slice_mut(), &sizes.out_dims(self.order, keys)).unwrap();
            let mut value = Out::host("x", value.slice_mut(), &sizes.out_dims(self.order, keys)).unwrap();
            let grads = GradientsOut::Each(self.order, [&mut query, &mut key, &mut value]);
            host::backward(isa, attention, sizes, inputs, saved, grads).unwrap();
            let mut rows = each.into_iter();
            all.map(|x| rows.next().map(|rows| self.ordered(&x, rows, steps(rows), 0)).unwrap())
        };
        Got { out, lse: to_f64(lse.slice()), grads }
    }

    /// Within the contract with every instruction set.
    fn check(&self, given: &Given) {
        for isa in Isa::available() {
            check(self, given, &self.run(isa, given));
        }
    }
}

fn problem(mask: Mask, queries: usize, keys: usize, width: usize) -> Problem {
    let scale = 1. / (width.max(1) as f64).sqrt();
    Problem { heads: 1, queries, keys, width, scale, mask, dropout: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    #[test]
    fn every_type_mask_and_layout_is_the_oracle_within_the_contract(
        of in prop::sample::select(TYPES.to_vec()),
        (batch, heads) in (1usize..3, 1usize..4),
        (queries, keys, square) in (1usize..68, 1usize..68, any::<bool>()),
        width in prop::sample::select(vec![1usize, 3, 16, 32, 64, 80]),
        mask in prop::sample::select(vec![Mask::Full, Mask::Causal]),
        dropout in prop::sample::select(vec![0., 0.3]),
        layout in prop::sample::select(vec![Layout::Plain, Layout::RowsFirst, Layout::Across]),
        order in prop::sample::select(vec![Order::HeadsFirst, Order::RowsFirst]),
        packed in any::<bool>(),
        seed in any::<u32>(),
    ) {
        let keys = if square { queries } else { keys };
        let dropout = (dropout > 0.).then_some(Dropout { p: dropout, key: u64::from(seed) });
        let problem = Problem { dropout, ..problem(mask, queries, keys, width) };
        let packed = packed && keys == queries;
        let case = Case { layout, order, packed, ..Case::new(of, (batch, heads), problem) };
        case.check(&case.numbers(u64::from(seed)));
    }
}

#[test]
fn tiles_and_parts_meet_without_a_seam() {
    for (of, mask, (queries, keys), dropout) in [
        (ScalarType::F32, Mask::Causal, (600, 600), None),
        (ScalarType::F32, Mask::Full, (130, 700), Some(Dropout { p: 0.3, key: 3 })),
        (ScalarType::F32, Mask::Causal, (600, 100), None),
        (ScalarType::Bf16, Mask::Causal, (300, 513), Some(Dropout { p: 0.3, key: 4 })),
        (ScalarType::F16, Mask::Full, (513, 257), None),
        (ScalarType::F64, Mask::Causal, (520, 520), None),
    ] {
        let problem = Problem { dropout, ..problem(mask, queries, keys, 16) };
        let case = Case { order: Order::RowsFirst, ..Case::new(of, (1, 2), problem) };
        case.check(&case.numbers(7));
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for (of, mask) in TYPES.into_iter().flat_map(|of| [(of, Mask::Full), (of, Mask::Causal)]) {
        for scale in [1e4 / 8., -1e4 / 8.] {
            let case = Case::new(of, (1, 2), Problem { scale, ..problem(mask, 70, 300, 8) });
            let given = case.numbers(9);
            for isa in Isa::available() {
                let got = case.run(isa, &given);
                assert!(got.lse.iter().any(|lse| lse.abs() > 1e3));
                check(&case, &given, &got);
            }
        }
    }
}

/// What is not finite reaches those who see it, and nobody else: which elements are finite is the oracle's.
#[test]
fn what_is_hidden_reaches_nothing() {
    for of in TYPES {
        for (mask, queries, keys) in
            [(Mask::Causal, 150, 150), (Mask::Causal, 20, 40), (Mask::Causal, 40, 20), (Mask::Full, 20, 20)]
        {
            let case = Case::new(of, (1, 2), problem(mask, queries, keys, 16));
            for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for row in [0, 3, 19, 39, 70, 149] {
                    let at = |rows: usize| (rows + row) * 16 + 5;
                    for which in 0..4 {
                        let mut given = case.numbers(11);
                        let rows = if which % 3 == 0 { queries } else { keys };
                        let Given { query, key, value, grad } = &mut given;
                        if row < rows {
                            [query, key, value, grad][which][at(rows)] = odd;
                            check(&case, &given, &case.run(Isa::best(), &given));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_head_that_is_not_finite_drops_what_the_others_drop() {
    let dropout = Some(Dropout { p: 0.3, key: 8 });
    let case = Case::new(ScalarType::F32, (2, 1), Problem { dropout, ..problem(Mask::Causal, 40, 40, 8) });
    let mut given = case.numbers(12);
    let before = case.run(Isa::best(), &given);
    given.key[(40 + 39) * 8] = f64::NAN;
    let got = case.run(Isa::best(), &given);
    assert!(got.out[79 * 8..].iter().all(|x| x.is_nan()));
    for (got, before) in got.out[..79 * 8].iter().zip(&before.out) {
        assert!((got - before).abs() < 1e-5, "{got} and {before}");
    }
}

#[test]
fn threads_make_no_difference() {
    let of = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = [of(1), of(3)];
    for ((batch, heads), queries, keys) in [((1, 1), 600, 600), ((3, 3), 100, 100), ((1, 2), 700, 300)] {
        for (of, packed) in [(ScalarType::F32, queries == keys), (ScalarType::Bf16, false)] {
            let problem = problem(Mask::Causal, queries, keys, 32);
            let case = Case { packed, ..Case::new(of, (batch, heads), problem) };
            let given = case.numbers(13);
            let [one, three] = pools.each_ref().map(|pool| pool.install(|| case.run(Isa::best(), &given)));
            assert_eq!(one.bits(), three.bits());
        }
    }
}

#[test]
fn nothing_to_see_is_zero_and_has_no_gradient() {
    for of in TYPES {
        for (batch, queries, keys, width) in
            [(2, 5, 0, 8), (2, 0, 5, 8), (0, 5, 5, 8), (2, 0, 0, 8), (2, 5, 3, 0)]
        {
            for mask in [Mask::Full, Mask::Causal] {
                let case = Case::new(of, (batch, 2), problem(mask, queries, keys, width));
                let given = case.numbers(14);
                case.check(&given);
                let got = case.run(Isa::best(), &given);
                if keys == 0 {
                    assert!(got.out.iter().all(|&x| x == 0.));
                    assert!(got.lse.iter().all(|&x| x == f64::NEG_INFINITY));
                }
                if queries == 0 {
                    assert!(got.grads.iter().flatten().all(|&x| x == 0.));
                }
            }
        }
    }
}
