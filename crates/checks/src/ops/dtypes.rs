//! Which dtype each op comes out in, and every case of the catalogue against f64 on the CPU.

use std::panic::{AssertUnwindSafe, catch_unwind};

use autocast::{Autocast, OpTable};
use candle_core::{DType, Device};
use precision_types::Accelerator;
use serde::Deserialize;

use crate::catalogue::op_calls::{OPS, check_dtypes};
use crate::catalogue::{CATALOGUE, check};
use crate::report::{Outcome, Report, wrong};

pub(super) fn run(device: &Device, report: &mut Report) {
    for &fast in fast_dtypes(device) {
        let name = format!("op dtypes in a {} region, every mix of inputs", fast.as_str());
        report.check(&name, || held_to_table(fast, device));
    }
    let (file, rows) = match accelerator(device) {
        Accelerator::Cpu => ("autocast_cpu.json", include_str!("../../data/autocast_cpu.json")),
        _ => ("autocast_cuda.json", include_str!("../../data/autocast_cuda.json")),
    };
    report.check(&format!("op dtypes against the recorded {file}"), || held_to_recording(rows, device));
    for case in CATALOGUE.into_iter().flatten() {
        report.check(&format!("{}: values and gradients", case.name), || {
            for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
                caught(|| check::check_precision(case, dtype, device))?;
            }
            Ok("f64, f32, f16, bf16".into())
        });
    }
}

/// What a region on the device may run in.
fn fast_dtypes(device: &Device) -> &'static [DType] {
    if device.is_cpu() { &[DType::BF16] } else { &[DType::F16, DType::BF16] }
}

fn accelerator(device: &Device) -> Accelerator {
    if device.is_cpu() { Accelerator::Cpu } else { Accelerator::Gpu }
}

/// A panic of the catalogue's assertions as an error.
fn caught<T>(check: impl FnOnce() -> T) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(check)).or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        wrong(message.unwrap_or_else(|| "panicked".into()))
    })
}

fn held_to_table(fast: DType, device: &Device) -> Outcome<String> {
    let accelerator = accelerator(device);
    let table = if accelerator == Accelerator::Cpu { OpTable::cpu() } else { OpTable::gpu() };
    let autocast = Autocast::new(accelerator, fast)?;
    let calls = caught(|| check_dtypes(&autocast, &table, fast, device))?;
    Ok(format!("{calls} calls"))
}

/// Op, fast dtype, input dtypes, and the output dtype or PyTorch's error.
#[derive(Deserialize)]
struct Row(String, String, Vec<String>, String);

/// Runs every recorded row whose op has a call of as many tensors.
fn held_to_recording(rows: &str, device: &Device) -> Outcome<String> {
    let rows: Vec<Row> = serde_json::from_str(rows)?;
    let mut compared = 0;
    for Row(op, fast, dtypes, recorded) in &rows {
        let Some((_, shapes, call)) =
            OPS.iter().find(|(name, shapes, _)| name == op && shapes.len() == dtypes.len())
        else {
            continue;
        };
        if !fast_dtypes(device).contains(&dtype(fast)?) {
            continue;
        }
        let inputs = shapes
            .iter()
            .zip(dtypes)
            .map(|(shape, name)| candle_core::Tensor::ones(*shape, dtype(name)?, device).map_err(Into::into));
        let inputs = inputs.collect::<Outcome<Vec<_>>>()?;
        let got = Autocast::new(accelerator(device), dtype(fast)?)?.run(|| call(&inputs)).map(|t| t.dtype());
        match &got {
            Ok(got) if got.as_str() == recorded => {}
            Err(_) if recorded.starts_with("error") => {}
            _ => return wrong(format!("{op} of {dtypes:?} in {fast}: {got:?}, recorded {recorded}")),
        }
        compared += 1;
    }
    Ok(format!("{compared} of {} rows have an op of ours, all agree", rows.len()))
}

fn dtype(name: &str) -> Outcome<DType> {
    Ok(name.parse()?)
}
