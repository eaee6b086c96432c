//! The op tables against PyTorch: every recorded row, the lists by name, and a user's changes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use autocast::{CastRule, Error, OpTable};
use candle_core::DType::{self, BF16, F16, F32, F64, I64, U8, U32};

fn dtype(name: &str) -> DType {
    match name {
        "bool" => U8,
        other => other.parse().unwrap(),
    }
}

/// Holds `table` to a file of rows `[op, fast, [inputs], output or "error: …"]`.
///
/// There is no list of exceptions: what PyTorch refuses in these rows is a mixture of dtypes or a banned op, never a
/// kernel that it lacks and this crate has.
fn check(file: &str, table: &OpTable, rows: &str) {
    let rows: Vec<(String, String, Vec<String>, String)> = serde_json::from_str(rows).unwrap();
    assert_eq!(rows.len(), 1884, "{file} is not the recorded table");
    let mut wrong = Vec::new();
    for (op, fast, inputs, wanted) in &rows {
        let inputs: Vec<DType> = inputs.iter().map(|name| dtype(name)).collect();
        let got = table.output_dtype(op, dtype(fast), &inputs);
        let agrees = match &got {
            Err(Error::UnknownOp { .. }) => false,
            Err(_) => wanted.starts_with("error"),
            Ok(got) => !wanted.starts_with("error") && *got == dtype(wanted),
        };
        if !agrees {
            wrong.push(format!("{op} {fast} {inputs:?}: wanted {wanted}, got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{file}: {} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_gpu_table_agrees_with_every_recorded_row() {
    check("cuda", &OpTable::gpu(), include_str!("../../data/autocast_cuda.json"));
}

#[test]
fn the_cpu_table_agrees_with_every_recorded_row() {
    check("cpu", &OpTable::cpu(), include_str!("../../data/autocast_cpu.json"));
}

fn assert_rule(table: &OpTable, rule: CastRule, names: &str) {
    for name in names.split_whitespace() {
        assert_eq!(table.rule(name).unwrap(), rule, "{name}");
    }
}

#[test]
fn the_gpu_lists() {
    let table = OpTable::gpu();
    assert_rule(
        &table,
        CastRule::LowerPrecision,
        "linear matmul mm bmm mv addmm addmv addr addbmm baddbmm chain_matmul linalg_multi_dot linalg_vecdot einsum \
         conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu lstm_cell gru_cell \
         rnn_tanh_cell rnn_relu_cell scaled_dot_product_attention",
    );
    assert_rule(
        &table,
        CastRule::Fp32,
        "acos asin cosh sinh tan erfinv exp expm1 log log2 log10 log1p pow reciprocal rsqrt softplus layer_norm \
         rms_norm group_norm cosine_similarity mse_loss cross_entropy nll_loss dist cdist pdist renorm logsumexp \
         upsample_nearest2d upsample_bicubic2d upsample_trilinear3d",
    );
    assert_rule(
        &table,
        CastRule::Fp32SetOptDtype,
        "softmax log_softmax prod sum cumsum cumprod linalg_vector_norm",
    );
    assert_rule(
        &table,
        CastRule::Promote,
        "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add",
    );
    assert_rule(&table, CastRule::Banned, "binary_cross_entropy");
    assert_rule(
        &table,
        CastRule::Passthrough,
        "relu gelu tanh sigmoid add cat batch_norm embedding add_ mean",
    );
}

#[test]
fn the_cpu_lists() {
    let table = OpTable::cpu();
    assert_rule(
        &table,
        CastRule::LowerPrecision,
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul mm bmm addmm addbmm \
         baddbmm prelu scaled_dot_product_attention einsum",
    );
    assert_rule(
        &table,
        CastRule::Fp32,
        "mse_loss l1_loss cross_entropy nll_loss kl_div binary_cross_entropy avg_pool3d max_pool3d reflection_pad2d \
         replication_pad3d fft_fft fft_irfft linalg_svd linalg_inv prod quantile trace cdist grid_sampler",
    );
    assert_rule(&table, CastRule::Promote, "cat stack index_copy");
    assert_rule(
        &table,
        CastRule::Passthrough,
        "softmax layer_norm exp log sum pow mv addr upsample_nearest2d",
    );
}

#[test]
fn rows_that_were_not_recorded() {
    let rows: &[(&OpTable, &str, &[DType], Option<DType>)] = &[
        (&OpTable::gpu(), "linear", &[F32, F32, F32], Some(BF16)),
        (&OpTable::gpu(), "linear", &[BF16, F32, F64], None),
        (&OpTable::gpu(), "rms_norm", &[BF16, BF16], Some(F32)),
        (&OpTable::gpu(), "layer_norm", &[BF16, F32, F32], Some(F32)),
        (&OpTable::gpu(), "batch_norm", &[BF16, F32, F32], Some(BF16)),
        (&OpTable::gpu(), "addr", &[F32, F64, F32], Some(F64)),
        (&OpTable::gpu(), "embedding", &[F32, U32], Some(F32)),
        (&OpTable::gpu(), "cross_entropy", &[BF16, I64], Some(F32)),
        (&OpTable::gpu(), "linalg_inv", &[BF16], None),
        (&OpTable::cpu(), "linalg_inv", &[BF16], Some(F32)),
        (&OpTable::cpu(), "layer_norm", &[BF16, F32, F32], Some(BF16)),
        (&OpTable::cpu(), "layer_norm", &[F32, BF16, BF16], None),
        (&OpTable::cpu(), "linalg_multi_dot", &[F32, F32, F32], Some(BF16)),
        (&OpTable::cpu(), "linalg_multi_dot", &[F32, BF16, F32], None),
        (&OpTable::cpu(), "sum", &[U8], Some(I64)),
        (&OpTable::cpu(), "div", &[I64, U8], Some(F32)),
        (&OpTable::cpu(), "mul_", &[F16, F64], Some(F16)),
        (&OpTable::cpu(), "addmm_", &[F32, F16, F16], None),
    ];
    for (table, op, inputs, wanted) in rows {
        assert_eq!(table.output_dtype(op, BF16, inputs).ok(), *wanted, "{op} {inputs:?}");
    }
}

#[test]
fn every_op_answers_every_single_dtype_and_never_panics() {
    for table in [OpTable::gpu(), OpTable::cpu()] {
        for op in table.ops() {
            for input in [U8, U32, I64, BF16, F16, F32, F64, DType::F8E4M3] {
                for count in 0..4 {
                    let answer = table.output_dtype(op, BF16, &vec![input; count]);
                    assert!(count > 0 || answer.is_err(), "{op} of nothing is {answer:?}");
                }
            }
            let f64_in = table.output_dtype(op, BF16, &[F64]);
            assert!(!matches!(f64_in, Ok(F16 | BF16 | F32)), "{op} narrows f64: {f64_in:?}");
        }
    }
}

#[test]
fn a_user_changes_a_rule_and_adds_an_op() {
    let table = OpTable::cpu().with_rule("softmax", CastRule::Fp32).unwrap();
    assert_eq!(table.output_dtype("softmax", BF16, &[BF16]).unwrap(), F32);
    assert_eq!(OpTable::cpu().output_dtype("softmax", BF16, &[BF16]).unwrap(), BF16);

    let table = table.with_op("my_attention", CastRule::LowerPrecision);
    assert_eq!(table.output_dtype("my_attention", F16, &[F32, BF16]).unwrap(), F16);
    let table = table.with_rule("my_attention", CastRule::Fp32).unwrap();
    assert_eq!(table.output_dtype("my_attention", F16, &[F16]).unwrap(), F32);
    assert!(table.ops().contains(&"my_attention"));
}

#[test]
fn errors_say_what_to_do() {
    let unknown = OpTable::gpu().output_dtype("sofmax", BF16, &[F32]).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "unknown op 'sofmax' (did you mean softmax, fmax?); add your own with OpTable::with_op"
    );
    assert!(matches!(OpTable::cpu().with_rule("nope", CastRule::Fp32), Err(Error::UnknownOp { .. })));

    let banned = OpTable::gpu().output_dtype("binary_cross_entropy", F16, &[F32, F32]).unwrap_err();
    assert!(banned.to_string().contains("binary_cross_entropy_with_logits"), "{banned}");

    let mixed = OpTable::gpu().output_dtype("mm", BF16, &[F32, F64]).unwrap_err();
    assert_eq!(mixed.to_string(), "mm: an input is f64; expected bf16, as the first is; cast one of them");

    let fast = OpTable::gpu().output_dtype("mm", F32, &[F32, F32]).unwrap_err();
    assert_eq!(fast.to_string(), "autocast: fast_dtype is f32; expected f16 or bf16");
}
