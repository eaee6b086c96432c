//! Every write-back, rule and gradient type against the oracle, to the bit.

use super::update::{BLOCK, CHUNK};
use super::*;
use crate::kernels::adamw::{self, AdamW, Decay};
use crate::kernels::lion::{self, Lion};
use crate::kernels::sgd::{self, Momentum, Sgd};
use crate::{Element, Error, Floats, Real, Store};
use half::{bf16, f16};
use precision_types::FloatFormat;
use proptest::prelude::*;

/// The values that arithmetic trips over, as f64.
const ODD: [f64; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    5.960_464_477_539_063e-8, // f16's smallest subnormal
    6.103_515_625e-5,         // f16's smallest normal
    65504.0,
    1e-45,
    1.2e-38,
    3.4e38,
    3.39e38, // bf16's largest
    1e-300,
    1e300,
];

/// `len` values: the odd ones first, from `turn` on, then ordinary ones.
fn mixed(len: usize, turn: usize) -> Vec<f64> {
    let ordinary = |i: usize| (random_bits(turn as u64, i as u64) as f64 / 2f64.powi(31) - 1.0) * 0.1;
    (0..len).map(|i| if i % 3 == 0 { ODD[(i / 3 + turn) % ODD.len()] } else { ordinary(i) }).collect()
}

trait FromF64: Element {
    fn of(value: f64) -> Self;
    fn same(self, other: Self) -> bool;
}

macro_rules! from_f64 {
    ($($type:ident: $value:ident => $of:expr),*) => {$(
        impl FromF64 for $type {
            fn of($value: f64) -> Self {
                $of
            }

            fn same(self, other: Self) -> bool {
                self.to_bits() == other.to_bits() || (self.is_nan() && other.is_nan())
            }
        }
    )*};
}
from_f64!(f16: v => f16::from_f64(v), bf16: v => bf16::from_f64(v), f32: v => v as f32, f64: v => v);

fn buffer<T: FromF64>(len: usize, turn: usize) -> Vec<T> {
    mixed(len, turn).into_iter().map(T::of).collect()
}

/// The buffers of a parameter, which the kernel and the oracle each get a copy of.
#[derive(Clone)]
struct Case<T, A> {
    weights: Vec<T>,
    master: Vec<A>,
    compensation: Vec<T>,
    first: Vec<A>,
    second: Vec<A>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Nearest,
    Master,
    Kahan,
    Stochastic,
}

impl<T: FromF64 + Store<A>, A: FromF64 + Real + Store<A>> Case<T, A> {
    /// The buffers begin one element in, so that they are aligned to their elements and to nothing more.
    fn new(len: usize) -> Self {
        let weights: Vec<T> = buffer(len + 1, 3);
        let mut master = vec![A::ZERO; len + 1];
        A::load(T::floats(&weights), &mut master);
        // Every fifth weight was set from outside.
        master.iter_mut().step_by(5).for_each(|m| *m = A::of(0.3));
        let second = buffer::<A>(len + 1, 7).into_iter().map(Real::abs).collect();
        Self { weights, master, compensation: buffer(len + 1, 5), first: buffer(len + 1, 6), second }
    }

    fn parameter<'a>(&'a mut self, way: Way, moments: usize, grad: Floats<'a>) -> Buffers<'a, T, A> {
        let write_back = match way {
            Way::Nearest => WriteBack::Nearest,
            Way::Master => WriteBack::Master(&mut self.master[1..]),
            Way::Kahan => WriteBack::Kahan(&mut self.compensation[1..]),
            Way::Stochastic => WriteBack::Stochastic { key: 11 },
        };
        Buffers {
            weights: &mut self.weights[1..],
            write_back,
            grad,
            first: if moments > 0 { &mut self.first[1..] } else { &mut [] },
            second: if moments > 1 { &mut self.second[1..] } else { &mut [] },
        }
    }

    fn assert_same(&self, other: &Self, what: &str) {
        let same = |name: &str, a: &[A], b: &[A]| {
            let differs = a.iter().zip(b).position(|(a, b)| !a.same(*b));
            assert_eq!(differs, None, "{what}: {name}");
        };
        same("first", &self.first, &other.first);
        same("second", &self.second, &other.second);
        same("master", &self.master, &other.master);
        let weights = self.weights.iter().zip(&other.weights).position(|(a, b)| !a.same(*b));
        assert_eq!(weights, None, "{what}: weights");
        let extra = self.compensation.iter().zip(&other.compensation).position(|(a, b)| !a.same(*b));
        assert_eq!(extra, None, "{what}: compensation");
    }
}

fn agree<T, A>(len: usize, ways: &[Way])
where
    T: FromF64 + Store<A>,
    A: FromF64 + Real + Store<A>,
{
    let betas = (0.9, 0.95);
    let adam = |decay| {
        let settings = adamw::Settings { lr: 1e-3, betas, eps: 1e-8, decay };
        AdamW::<A>::new(&settings, 3)
    };
    let sgd = |momentum| Sgd::<A>::new(&sgd::Settings { lr: 1e-2, weight_decay: 0.1, momentum }, 2);
    let lion = Lion::<A>::new(&lion::Settings { lr: 1e-3, betas, weight_decay: 0.1 });
    for &way in ways {
        rule_agrees::<T, A>(len, way, &adam(Decay::Decoupled(0.1)));
        rule_agrees::<T, A>(len, way, &adam(Decay::L2(0.1)));
        rule_agrees::<T, A>(len, way, &sgd(Momentum::None));
        rule_agrees::<T, A>(len, way, &sgd(Momentum::Nesterov { momentum: 0.9 }));
        rule_agrees::<T, A>(len, way, &lion);
    }
}

fn rule_agrees<T, A>(len: usize, way: Way, rule: &impl Rule<A>)
where
    T: FromF64 + Store<A>,
    A: FromF64 + Real + Store<A>,
{
    let (half, brain, single, double) =
        (buffer::<f16>(len, 1), buffer::<bf16>(len, 1), buffer::<f32>(len, 1), buffer::<f64>(len, 1));
    let grads = [Floats::F16(&half), Floats::Bf16(&brain), Floats::F32(&single), Floats::F64(&double)];
    let plain = GradTransform::default();
    let clipped = GradTransform { inv_scale: 2f32.powi(-16), clip_coef: 0.37, clip_value: Some(0.01) };
    for grad in grads {
        for transform in [plain, clipped] {
            let mut fast = Case::<T, A>::new(len);
            let mut slow = fast.clone();
            fused_step(fast.parameter(way, rule.moments(), grad), rule, &transform).unwrap();
            fused_step_scalar(slow.parameter(way, rule.moments(), grad), rule, &transform).unwrap();
            fast.assert_same(&slow, &format!("{way:?}, {len} elements, {:?}", std::any::type_name::<T>()));
        }
    }
}

const SIXTEEN_BITS: [Way; 3] = [Way::Master, Way::Kahan, Way::Stochastic];

#[test]
fn short_lengths_agree_with_the_oracle() {
    for len in 0..=67 {
        agree::<f16, f32>(len, &SIXTEEN_BITS);
        agree::<bf16, f32>(len, &SIXTEEN_BITS);
        agree::<f32, f32>(len, &[Way::Nearest]);
        agree::<f64, f64>(len, &[Way::Nearest]);
    }
}

/// Lengths around the block and the chunk, so that blocks, chunks and threads meet inside a buffer.
#[test]
fn blocks_and_chunks_agree_with_the_oracle() {
    for len in [BLOCK - 1, BLOCK, BLOCK + 1, CHUNK + 1] {
        agree::<f16, f32>(len, &[Way::Stochastic]);
        agree::<bf16, f32>(len, &[Way::Kahan]);
        agree::<f32, f32>(len, &[Way::Nearest]);
    }
    let rule = Lion::<f32>::new(&lion::Settings { lr: 1e-3, betas: (0.9, 0.99), weight_decay: 0.0 });
    for way in SIXTEEN_BITS {
        rule_agrees::<bf16, f32>(3 * CHUNK + 5, way, &rule);
    }
}

#[test]
fn a_buffer_of_another_length_is_refused() {
    let rule = Lion::<f32>::new(&lion::Settings { lr: 1e-3, betas: (0.9, 0.99), weight_decay: 0.0 });
    let grad = [0.0f32; 3];
    let parameter = Buffers {
        weights: &mut [0.0f32; 3],
        write_back: WriteBack::Nearest,
        grad: Floats::F32(&grad),
        first: &mut [0.0; 2],
        second: &mut [],
    };
    let error = fused_step(parameter, &rule, &GradTransform::default()).unwrap_err();
    let expected =
        Error::LengthMismatch { op: "fused_step", argument: "the first moment", expected: 3, got: 2 };
    assert_eq!(error, expected);
}

fn stochastic<T: Store<f32>>(value: f32, random: u32) -> f64 {
    let mut wide = [0.0f32];
    f32::load(T::floats(&[T::round_stochastic(value, random)]), &mut wide);
    f64::from(wide[0])
}

#[test]
fn stochastic_rounding_is_right_on_average() {
    const DRAWS: u64 = 4096;
    for value in [1.0001f32, -1.003, 0.1, 3e-5, 1.1e-7] {
        let mean = |round: fn(f32, u32) -> f64| {
            (0..DRAWS).map(|draw| round(value, random_bits(1, draw))).sum::<f64>() / DRAWS as f64
        };
        // Five standard deviations of the mean of draws that are at most a unit in the last place apart.
        let deviations = 5.0 * 0.5 / (DRAWS as f64).sqrt();
        let exact = f64::from(value);
        let ulp = FloatFormat::F16.ulp(exact);
        assert!((mean(stochastic::<f16>) - exact).abs() <= deviations * ulp, "f16 {value}");
        let ulp = FloatFormat::Bf16.ulp(exact);
        assert!((mean(stochastic::<bf16>) - exact).abs() <= deviations * ulp, "bf16 {value}");
    }
}

#[test]
fn stochastic_rounding_keeps_finite_values_finite_and_odd_ones_odd() {
    for random in [0, 1, 0x7fff, 0xffff, 0x8000_0000, u32::MAX] {
        for value in [f32::MAX, f32::MIN, 65504.0, 65519.9, 1e6] {
            assert!(<f16 as Store<f32>>::round_stochastic(value, random).is_finite());
            assert!(<bf16 as Store<f32>>::round_stochastic(value, random).is_finite());
        }
        for odd in [f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            assert!(<f16 as Store<f32>>::round_stochastic(odd, random).is_nan());
            assert!(<bf16 as Store<f32>>::round_stochastic(odd, random).is_nan());
        }
        assert_eq!(<f16 as Store<f32>>::round_stochastic(f32::NEG_INFINITY, random), f16::NEG_INFINITY);
        assert_eq!(<bf16 as Store<f32>>::round_stochastic(f32::INFINITY, random), bf16::INFINITY);
    }
}

proptest! {
    /// Where the exact oracle overflows, a weight stays at the largest number instead.
    #[test]
    fn stochastic_rounding_agrees_with_the_exact_oracle(bits: u32, small in 0u32..0x3900_0000, random: u32) {
        for value in [f32::from_bits(bits), f32::from_bits(small)] {
            prop_assume!(value.is_finite());
            let exact = f64::from(value);
            let oracle = |format: FloatFormat, random| {
                precision_types::round_stochastic(exact, format, random).clamp(-format.max(), format.max())
            };
            let below = |kept: u32| u64::from(random) << (64 - kept);
            prop_assert_eq!(stochastic::<bf16>(value, random), oracle(FloatFormat::Bf16, below(16)));
            let subnormal = value.abs() < FloatFormat::F16.min_normal() as f32;
            let used = if subnormal { u64::from(random >> 8) << 40 } else { below(13) };
            prop_assert_eq!(stochastic::<f16>(value, random), oracle(FloatFormat::F16, used));
        }
    }

    /// A number that 16 bits hold is left alone by every draw.
    #[test]
    fn stochastic_rounding_leaves_exact_values_alone(bits: u16, random: u32) {
        let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
        if half.is_finite() {
            prop_assert_eq!(<f16 as Store<f32>>::round_stochastic(half.to_f32(), random).to_bits(), bits);
        }
        if brain.is_finite() {
            prop_assert_eq!(<bf16 as Store<f32>>::round_stochastic(brain.to_f32(), random).to_bits(), bits);
        }
    }
}
