//! Data for the checks of kernels, on the host and on the device, and how the two are compared.

use backends::kernels::loss_scale::{LossScale, ScaleState, ScalerConfig};
use backends::{Floats, Real, Store};
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::report::{Outcome, wrong};

/// Random values of very different size, with the special ones in between.
pub(super) fn values(rng: &mut ChaCha8Rng, len: usize, specials: &[f64]) -> Vec<f64> {
    let mut one = |i: usize| {
        if i % 97 == 13 && !specials.is_empty() {
            return specials[(i / 97) % specials.len()];
        }
        let magnitude = 2f64.powi(rng.random_range(-12..4));
        magnitude * rng.random_range(-1.0..1.0)
    };
    (0..len).map(&mut one).collect()
}

pub(super) fn nan_payload() -> f64 {
    f64::from(f32::from_bits(0x7fa5_5a5a))
}

pub(super) fn round<T: Store<A>, A: Real + Store<A>>(x: &[f64]) -> Vec<T> {
    let wide: Vec<A> = x.iter().map(|&v| A::from_f64(v)).collect();
    let mut out = vec![T::default(); x.len()];
    T::store(&wide, &mut out);
    out
}

/// A tensor on the device that begins `offset` elements into its storage.
pub(super) fn upload<T: WithDType>(device: &Device, x: &[T], offset: usize) -> Outcome<Tensor> {
    let mut padded = vec![T::zero(); offset];
    padded.extend_from_slice(x);
    Ok(Tensor::from_vec(padded, x.len() + offset, device)?.narrow(0, offset, x.len())?)
}

pub(super) fn download<T: WithDType>(x: &Tensor) -> Outcome<Vec<T>> {
    Ok(x.to_vec1::<T>()?)
}

/// A gradient in its own type, on both sides.
pub(super) enum Grad {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Grad {
    pub(super) fn new(x: &[f64], dtype: DType) -> Self {
        match dtype {
            DType::F16 => Self::F16(round::<f16, f32>(x)),
            DType::BF16 => Self::Bf16(round::<bf16, f32>(x)),
            DType::F64 => Self::F64(x.to_vec()),
            _ => Self::F32(round::<f32, f32>(x)),
        }
    }

    pub(super) fn floats(&self) -> Floats<'_> {
        match self {
            Self::F16(x) => Floats::F16(x),
            Self::Bf16(x) => Floats::Bf16(x),
            Self::F32(x) => Floats::F32(x),
            Self::F64(x) => Floats::F64(x),
        }
    }

    pub(super) fn upload(&self, device: &Device, offset: usize) -> Outcome<Tensor> {
        match self {
            Self::F16(x) => upload(device, x, offset),
            Self::Bf16(x) => upload(device, x, offset),
            Self::F32(x) => upload(device, x, offset),
            Self::F64(x) => upload(device, x, offset),
        }
    }
}

/// A scale with PyTorch's settings.
pub(crate) fn scaler(device: &Device, scale: f32) -> Outcome<LossScale> {
    let settings = ScalerConfig { init_scale: f64::from(scale), ..Default::default() };
    Ok(LossScale::new(settings, ScaleState::new(&settings), device)?)
}

/// How many values differ in a bit, and by how many units in the last place the worst of them does.
pub(super) fn compare<T: WithDType>(what: &str, want: &[T], got: &[T]) -> Outcome<(usize, f64)> {
    let epsilon = match T::DTYPE {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-23),
        _ => 2f64.powi(-52),
    };
    let (mut differ, mut worst) = (0, 0.0f64);
    for (i, (w, g)) in want.iter().zip(got).enumerate() {
        let (w, g) = (w.to_f64(), g.to_f64());
        if w.is_finite() != g.is_finite() || w.is_nan() != g.is_nan() || (w.is_infinite() && w != g) {
            return wrong(format!("{what}[{i}] is {g:e}, the oracle says {w:e}"));
        }
        if w.is_finite() && w.to_bits() != g.to_bits() {
            differ += 1;
            let error = (w - g).abs() / (epsilon * w.abs().max(2f64.powi(-14)));
            if error > 2.0 && error > worst {
                println!("     {what}[{i}]: {g:e}, the oracle says {w:e}");
            }
            worst = worst.max(error);
        }
    }
    Ok((differ, worst))
}
