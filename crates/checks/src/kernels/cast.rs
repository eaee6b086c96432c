//! Kernels that stand alone, against their oracles.

use crate::report::{Outcome, Report, wrong};
use backends::cuda::cast;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

pub(super) fn run(device: &Device, report: &mut Report) {
    report.check("cast f32 -> f16, every rounding case", || narrow(device, DType::F16));
    report.check("cast f32 -> bf16, every rounding case", || narrow(device, DType::BF16));
    report.check("cast f16 -> f32, all 65536 values", || widen(device, DType::F16));
    report.check("cast bf16 -> f32, all 65536 values", || widen(device, DType::BF16));
}

/// Every 16-bit value in f32, and its neighbours and midpoints on both sides.
fn rounding_cases(dtype: DType) -> Vec<f32> {
    let mut cases = Vec::new();
    for bits in 0..=u16::MAX {
        let x =
            if dtype == DType::F16 { f16::from_bits(bits).to_f32() } else { bf16::from_bits(bits).to_f32() };
        let half_step = if dtype == DType::F16 { 1 << 12 } else { 1 << 15 };
        let around = [0, 1, half_step - 1, half_step, half_step + 1]
            .map(|d| f32::from_bits(x.to_bits().wrapping_add(d)));
        cases.extend(around);
    }
    // Values below f16's last subnormal and its midpoints, which bit patterns around f16 values do not reach.
    cases.extend((0..4096).map(|k| f32::from_bits(0x3280_0000 + k * 0x1001)));
    cases.extend((0..4096).map(|k| f32::from_bits(k * 0x801)));
    cases
}

fn narrow(device: &Device, dtype: DType) -> Outcome<String> {
    let cases = rounding_cases(dtype);
    let mut compared = 0;
    // Offsets and lengths on both sides of the vector width.
    for (skip, len) in [(0, cases.len()), (1, cases.len() - 1), (3, 65), (4, 67), (0, 1), (2, 0)] {
        let src = Tensor::from_slice(&cases, cases.len(), device)?.narrow(0, skip, len)?;
        let dst = Tensor::full(7.0f32, cases.len(), device)?.to_dtype(dtype)?.narrow(0, skip, len)?;
        cast(&src, &dst)?;
        if len == 0 {
            // candle's own cast of an empty tensor is an error of the driver.
            continue;
        }
        let got = dst.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        for (&x, got) in cases[skip..skip + len].iter().zip(got) {
            let want =
                if dtype == DType::F16 { f16::from_f32(x).to_f32() } else { bf16::from_f32(x).to_f32() };
            if want.to_bits() != got.to_bits() && !(want.is_nan() && got.is_nan()) {
                return wrong(format!("{x:e} ({:08x}) became {got:e}, not {want:e}", x.to_bits()));
            }
            compared += 1;
        }
    }
    Ok(format!("{compared} values bit-exact"))
}

fn widen(device: &Device, dtype: DType) -> Outcome<String> {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let (src, want): (Tensor, Vec<f32>) = if dtype == DType::F16 {
        let values: Vec<f16> = all.iter().map(|&bits| f16::from_bits(bits)).collect();
        (Tensor::from_slice(&values, values.len(), device)?, values.iter().map(|v| v.to_f32()).collect())
    } else {
        let values: Vec<bf16> = all.iter().map(|&bits| bf16::from_bits(bits)).collect();
        (Tensor::from_slice(&values, values.len(), device)?, values.iter().map(|v| v.to_f32()).collect())
    };
    let dst = Tensor::zeros(want.len(), DType::F32, device)?;
    cast(&src, &dst)?;
    for (want, got) in want.iter().zip(dst.to_vec1::<f32>()?) {
        if want.to_bits() != got.to_bits() && !(want.is_nan() && got.is_nan()) {
            return wrong(format!("{want:e} became {got:e}"));
        }
    }
    Ok("bit-exact".into())
}
