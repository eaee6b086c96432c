//! What each precision means, and which dtype each op runs in: the tables behind `.precision("…")`.
//!
//! `cargo run --example 01_policy_table` (`--short` prints the first ops of each rule alone)

use trainer::autocast::{CastRule, OpTable};
use trainer::candle_core::DType;
use trainer::{Accelerator, Precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let short = std::env::args().any(|argument| argument == "--short");

    println!("precision    parameters  products  results  complex     loss scaling  runs on");
    for precision in Precision::ALL {
        let runs_on = [Accelerator::Cpu, Accelerator::Gpu]
            .into_iter()
            .filter(|accelerator| precision.supported_on(*accelerator).is_ok())
            .map(|accelerator| accelerator.to_string())
            .collect::<Vec<_>>()
            .join(", ");
        println!(
            "{precision:<11}  {:<10}  {:<8}  {:<7}  {:<10}  {:<12}  {runs_on}",
            precision.param_dtype(),
            precision.compute_dtype(),
            precision.output_dtype(),
            precision.complex_dtype().as_str(),
            if precision.needs_loss_scaling() { "yes" } else { "no" },
        );
    }

    // At a mixed precision the table decides for each op. It is data: one for GPUs, one for CPUs.
    for (name, table) in [("a GPU", OpTable::gpu()), ("a CPU", OpTable::cpu())] {
        println!("\nops on {name}:");
        for (rule, meaning) in [
            (CastRule::LowerPrecision, "in 16 bits"),
            (CastRule::Fp32, "in f32"),
            (CastRule::Fp32SetOptDtype, "in f32, unless the caller names a dtype"),
            (CastRule::Promote, "in the widest dtype of the inputs"),
            (CastRule::Banned, "refused: their 16-bit gradients overflow"),
        ] {
            let ops: Vec<&str> = table
                .ops()
                .into_iter()
                .filter(|op| table.rule(op).is_ok_and(|of_op| of_op == rule))
                .collect();
            if ops.is_empty() {
                continue;
            }
            let shown = if short { ops.len().min(4) } else { ops.len() };
            println!("  {} {meaning}: {}", ops.len(), ops[..shown].join(", "));
        }
    }

    // The dtype that comes out is a function of the table, the op and the inputs; no tensor is needed.
    let (table, bf16, f32) = (OpTable::gpu(), DType::BF16, DType::F32);
    println!("\nunder bf16-mixed on a GPU:");
    for (op, inputs) in [("linear", vec![f32, f32, f32]), ("softmax", vec![bf16]), ("add", vec![bf16, f32])] {
        let names: Vec<&str> = inputs.iter().map(DType::as_str).collect();
        println!("  {op}({}) -> {}", names.join(", "), table.output_dtype(op, bf16, &inputs)?.as_str());
    }

    // A user's own choice is a changed copy.
    let table = table.with_rule("softmax", CastRule::Passthrough)?;
    println!("  softmax(bf16), left alone -> {}", table.output_dtype("softmax", bf16, &[bf16])?.as_str());
    Ok(())
}
