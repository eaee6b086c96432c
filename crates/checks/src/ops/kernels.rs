//! Which kernels an op comes to: the lists of `docs/kernels.md`.

use std::fmt::Write;

use autocast::constant_gradients;
use backends::bridge::kernels_of;
use candle_core::{DType, Device, Tensor, Var};

use crate::catalogue::{CATALOGUE, OpCase, Samples};
use crate::report::{Outcome, wrong};

const DTYPES: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// The lists as they were committed.
const COMMITTED: &str = include_str!("../../../../docs/kernels.md");

/// Markdown: a line per op of the catalogue, with the kernels that its value and its gradients came to in each dtype.
///
/// # Errors
///
/// An op that fails.
pub fn list(device: &Device) -> Outcome<String> {
    let mut lines = format!("## {}\n\n| op |", heading(device));
    DTYPES.iter().for_each(|dtype| lines.push_str(&format!(" {} |", dtype.as_str())));
    lines.push_str("\n|---|---|---|---|---|\n");
    for case in CATALOGUE.iter().flat_map(|cases| cases.iter()) {
        let _ = write!(lines, "| {} |", case.name);
        for dtype in DTYPES {
            let kernels = kernels(case, dtype, device)?;
            let kernels = if kernels.is_empty() { "composed".to_string() } else { kernels.join(", ") };
            let _ = write!(lines, " {kernels} |");
        }
        lines.push('\n');
    }
    Ok(lines)
}

/// Whether the list of this device is the committed one.
///
/// # Errors
///
/// As [`list`], and the lines that differ.
pub fn check(device: &Device) -> Outcome<String> {
    let now = list(device)?;
    let (_, committed) = COMMITTED.split_once(&format!("## {}\n", heading(device))).unwrap_or_default();
    let committed: Vec<&str> = committed.lines().take_while(|line| !line.starts_with("## ")).collect();
    let lines: Vec<&str> = now.lines().skip(1).collect();
    let differs: Vec<&&str> = lines.iter().filter(|line| !committed.contains(line)).collect();
    match differs.as_slice() {
        [] => Ok(format!("{} lines", lines.len())),
        lines => {
            let what = if device.is_cuda() && cfg!(not(feature = "cudnn")) {
                "its list is of a program with the feature cudnn, and this one has not got it"
            } else {
                "checks kernel-list writes the list"
            };
            wrong(format!("docs/kernels.md lacks {lines:?}: {what}"))
        }
    }
}

fn heading(device: &Device) -> &'static str {
    if device.is_cpu() { "On a CPU" } else { "On a GPU" }
}

fn kernels(case: &OpCase, dtype: DType, device: &Device) -> Outcome<Vec<&'static str>> {
    let inputs = (case.inputs)(&mut Samples::new(0, &Device::Cpu));
    let inputs = inputs.iter().map(|t| -> Outcome<Tensor> {
        let t = if t.dtype().is_float() { t.to_dtype(dtype)? } else { t.clone() }.to_device(device)?;
        Ok(if t.dtype().is_float() { Var::from_tensor(&t)?.as_tensor().clone() } else { t })
    });
    let inputs = inputs.collect::<Outcome<Vec<_>>>()?;
    let (done, kernels) = kernels_of(|| -> Outcome<()> {
        constant_gradients((case.run)(&inputs)?)?;
        Ok(())
    });
    done?;
    Ok(kernels)
}
