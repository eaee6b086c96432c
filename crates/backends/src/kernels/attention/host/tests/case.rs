//! One call of both passes from numbers in f64, and what comes of it.

use half::{bf16, f16};

use super::super::{backward, forward};
use crate::buffer::{In, Out, Ran, ScalarType, Slice, SliceMut};
use crate::kernels::attention::checks::{Sizes, lse_type};
use crate::kernels::attention::{Attention, GradientsOut, Inputs, Order, Problem, Saved};
use crate::random::{key as random_key, random_bits};
use crate::simd::Isa;
use crate::simd::rows::to_f64;

/// Elements of a type that is a value.
#[derive(Clone)]
enum Stored {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    U8(Vec<u8>),
}

impl Stored {
    fn new(of: ScalarType, x: &[f64]) -> Self {
        match of {
            ScalarType::F16 => Self::F16(x.iter().map(|&x| f16::from_f64(x)).collect()),
            ScalarType::Bf16 => Self::Bf16(x.iter().map(|&x| bf16::from_f64(x)).collect()),
            ScalarType::F64 => Self::F64(x.to_vec()),
            ScalarType::U8 => {
                Self::U8(x.iter().map(|&x| if x == f64::NEG_INFINITY { 0 } else { 7 }).collect())
            }
            _ => Self::F32(x.iter().map(|&x| x as f32).collect()),
        }
    }

    fn slice(&self) -> Slice<'_> {
        match self {
            Self::F16(x) => Slice::F16(x),
            Self::Bf16(x) => Slice::Bf16(x),
            Self::F32(x) => Slice::F32(x),
            Self::F64(x) => Slice::F64(x),
            Self::U8(x) => Slice::U8(x),
        }
    }

    fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Self::F16(x) => SliceMut::F16(x),
            Self::Bf16(x) => SliceMut::Bf16(x),
            Self::F32(x) => SliceMut::F32(x),
            Self::F64(x) => SliceMut::F64(x),
            Self::U8(x) => SliceMut::U8(x),
        }
    }
}

/// How inputs lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
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

/// What is added to scores.
#[derive(Clone, Debug)]
pub(super) struct Bias {
    /// The dimensions along which it is the same.
    repeated: [bool; 4],
    /// In u8, which hides or not, and adds nothing.
    bytes: bool,
    /// For each pair, `(batch · heads, queries, keys)`.
    pub(super) whole: Vec<f64>,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) of: ScalarType,
    pub(super) batch: usize,
    /// With the heads of all batch elements, and without the bias.
    pub(super) problem: Problem<'static>,
    pub(super) bias: Option<Bias>,
    pub(super) layout: Layout,
    pub(super) order: Order,
    pub(super) packed: bool,
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
    pub(super) fn bits(&self) -> Vec<u64> {
        let all = [&self.out, &self.lse, &self.grads[0], &self.grads[1], &self.grads[2]];
        all.into_iter().flatten().map(|x| x.to_bits()).collect()
    }
}

impl Case {
    pub(super) fn new(of: ScalarType, (batch, heads): (usize, usize), problem: Problem<'static>) -> Self {
        let problem = Problem { heads: batch * heads, ..problem };
        let (layout, order) = (Layout::Plain, Order::HeadsFirst);
        Self { of, batch, problem, bias: None, layout, order, packed: false }
    }

    /// With a bias that hides a quarter of what it is asked for, which may be all that a query sees.
    pub(super) fn biased(mut self, repeated: [bool; 4], bytes: bool, seed: u64) -> Self {
        let (dims, key) = (self.score_dims(), random_key(&[seed, 99]));
        let steps = strides(dims, repeated);
        let number = |at: usize| match random_bits(key, at as u64) {
            bits if bits % 4 == 0 => f64::NEG_INFINITY,
            _ if bytes => 0.,
            bits => f64::from(bits as f32 / (1u32 << 30) as f32 - 2.),
        };
        let whole = (0..dims.iter().product()).map(|i| number(place(i, dims, steps))).collect();
        self.bias = Some(Bias { repeated, bytes, whole });
        self
    }

    /// With the bias.
    pub(super) fn problem(&self) -> Problem<'_> {
        Problem { bias: self.bias.as_ref().map(|bias| &*bias.whole), ..self.problem }
    }

    fn score_dims(&self) -> [usize; 4] {
        let Problem { heads, queries, keys, .. } = self.problem;
        [self.batch, heads / self.batch.max(1), queries, keys]
    }

    /// The bias without what is repeated, and its strides.
    fn lay_bias(&self, bias: &Bias) -> (Stored, [usize; 4]) {
        let dims = self.score_dims();
        let steps = strides(dims, bias.repeated);
        let reach: usize = dims.iter().zip(steps).map(|(&d, s)| d.saturating_sub(1) * s).sum();
        let mut memory = vec![f64::NAN; reach + 1];
        for (i, &x) in bias.whole.iter().enumerate() {
            memory[place(i, dims, steps)] = x;
        }
        let of = if bias.bytes { ScalarType::U8 } else { lse_type(self.of) };
        (Stored::new(of, &memory), steps)
    }

    fn dims(&self, rows: usize) -> [usize; 4] {
        [self.batch, self.problem.heads / self.batch.max(1), rows, self.problem.width]
    }

    /// Numbers in (-2, 2).
    pub(super) fn numbers(&self, seed: u64) -> Given {
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
            memory[place(i, dims, strides)] = x;
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

    pub(super) fn run(&self, isa: Isa, given: &Given) -> Got {
        let Problem { queries, keys, width, scale, mask, dropout, .. } = self.problem;
        let attention = Attention { scale, mask, dropout };
        let (query, key) = (self.lay(&given.query, queries), self.lay(&given.key, keys));
        let (value, grad) = (self.lay(&given.value, keys), self.lay(&given.grad, queries));
        fn view<'a>(x: &'a (Stored, [usize; 4]), dims: [usize; 4]) -> In<'a> {
            In::host("x", x.0.slice(), &dims, &x.1).unwrap()
        }
        let (query, key) = (view(&query, self.dims(queries)), view(&key, self.dims(keys)));
        let (value, grad) = (view(&value, self.dims(keys)), view(&grad, self.dims(queries)));
        let bias = self.bias.as_ref().map(|bias| self.lay_bias(bias));
        let bias = bias.as_ref().map(|bias| view(bias, self.score_dims()));
        let inputs = Inputs { query: &query, key: &key, value: &value, bias: bias.as_ref() };
        let sizes = Sizes::of(inputs).unwrap();
        let heads = sizes.heads;
        let fresh = |of, len: usize| Stored::new(of, &vec![f64::NAN; len]);
        let mut out = fresh(self.of, query.count());
        let mut lse = fresh(lse_type(self.of), sizes.batch * heads * queries);
        {
            let mut out = Out::host("out", out.slice_mut(), &sizes.out_dims(self.order, queries)).unwrap();
            let dims = [sizes.batch, heads, queries];
            let mut lse = Out::host("lse", lse.slice_mut(), &dims).unwrap();
            let ran = forward(isa, attention, sizes, inputs, self.order, &mut out, &mut lse).unwrap();
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
            backward(isa, attention, sizes, inputs, saved, GradientsOut::Packed(&mut out)).unwrap();
            let steps = [queries * 3 * heads * width, width, 3 * heads * width];
            [0, 1, 2].map(|part| self.ordered(&all, queries, steps, part * heads * width))
        } else {
            let mut all = each.map(|rows| fresh(self.of, self.dims(rows).iter().product()));
            let [query, key, value] = &mut all;
            let mut query = Out::host("x", query.slice_mut(), &sizes.out_dims(self.order, queries)).unwrap();
            let mut key = Out::host("x", key.slice_mut(), &sizes.out_dims(self.order, keys)).unwrap();
            let mut value = Out::host("x", value.slice_mut(), &sizes.out_dims(self.order, keys)).unwrap();
            let grads = GradientsOut::Each(self.order, [&mut query, &mut key, &mut value]);
            backward(isa, attention, sizes, inputs, saved, grads).unwrap();
            let mut rows = each.into_iter();
            all.map(|x| rows.next().map(|rows| self.ordered(&x, rows, steps(rows), 0)).unwrap())
        };
        Got { out, lse: to_f64(lse.slice()), grads }
    }
}

/// Where the `i`th element is in memory.
fn place(i: usize, [_, h, t, d]: [usize; 4], strides: [usize; 4]) -> usize {
    let index = [i / (h * t * d), i / (t * d) % h, i / d % t, i % d];
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

/// Of contiguous dimensions of which some are repeated.
fn strides(dims: [usize; 4], repeated: [bool; 4]) -> [usize; 4] {
    let (mut strides, mut step) = ([0; 4], 1);
    for i in (0..4).rev().filter(|&i| !repeated[i]) {
        strides[i] = step;
        step *= dims[i];
    }
    strides
}
