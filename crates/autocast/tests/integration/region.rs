//! Regions: nesting, disabling, threads, panics, drop order, custom tables, and what they refuse.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use autocast::{Autocast, CastRule, Error, OpTable, cast_inputs, cast_slice, no_grad};
use candle_core::{DType, DType::*, Device, Tensor, Var};
use precision_types::{Accelerator, Precision};

fn ones(dtype: DType) -> Tensor {
    Tensor::ones(2, dtype, &Device::Cpu).unwrap()
}

fn bf16() -> Autocast {
    Autocast::new(Accelerator::Cpu, BF16).unwrap()
}

/// f16 and the GPU's table, for tests of rules that the CPU's table does not have.
fn gpu_rules() -> Autocast {
    bf16().with_table(OpTable::gpu())
}

/// The dtype in which `op` would see a tensor of `dtype`.
fn seen(op: &str, dtype: DType) -> DType {
    let [cast] = cast_inputs(op, [&ones(dtype)]).unwrap();
    cast.dtype()
}

#[test]
fn a_region_casts_by_rule_and_ends_with_its_guard() {
    assert_eq!(seen("linear", F32), F32);
    {
        let _guard = bf16().enter();
        assert_eq!(seen("linear", F32), BF16);
        assert_eq!(seen("linear", F16), BF16);
        assert_eq!(seen("mse_loss", BF16), F32);
        assert_eq!(seen("softmax", BF16), BF16);
        for untouched in [F64, U8, U32, I64] {
            assert_eq!(seen("linear", untouched), untouched);
        }
    }
    assert_eq!(seen("linear", F32), F32);
    assert_eq!(gpu_rules().run(|| seen("softmax", BF16)), F32);
    assert_eq!(seen("softmax", BF16), BF16);
}

#[test]
fn several_inputs_are_cast_by_one_rule() {
    gpu_rules().run(|| {
        let [x, index, bias] = cast_inputs("linear", [&ones(F32), &ones(U32), &ones(F16)]).unwrap();
        assert_eq!((x.dtype(), index.dtype(), bias.dtype()), (BF16, U32, BF16));
        let promoted = cast_slice("addcmul", &[&ones(BF16), &ones(F32), &ones(BF16)]).unwrap();
        assert!(promoted.iter().all(|t| t.dtype() == F32));
    });
}

#[test]
fn the_innermost_region_holds() {
    let outer = bf16();
    let table = OpTable::cpu().with_rule("linear", CastRule::Fp32).unwrap();
    outer.run(|| {
        bf16().disabled().run(|| {
            assert_eq!(seen("linear", F32), F32);
            outer.run(|| assert_eq!(seen("linear", F32), BF16));
            assert_eq!(seen("linear", F32), F32);
        });
        assert_eq!(seen("linear", F32), BF16);
        bf16().with_table(table).run(|| assert_eq!(seen("linear", BF16), F32));
        assert_eq!(seen("linear", F32), BF16);
    });
}

#[test]
fn a_region_belongs_to_its_thread() {
    bf16().run(|| {
        let elsewhere = std::thread::spawn(|| seen("linear", F32)).join().unwrap();
        assert_eq!(elsewhere, F32);
        assert_eq!(seen("linear", F32), BF16);
    });
}

#[test]
fn a_panic_ends_the_region_and_no_grad() {
    let panicked = catch_unwind(AssertUnwindSafe(|| bf16().run(|| no_grad(|| panic!("inside")))));
    assert!(panicked.is_err());
    assert_eq!(seen("linear", F32), F32);
    let weight = Var::ones(2, F32, &Device::Cpu).unwrap();
    assert!(cast_inputs("linear", [&weight]).unwrap()[0].track_op());
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    let outer = bf16().enter();
    let inner = gpu_rules().enter();
    drop(outer);
    assert_eq!(seen("softmax", BF16), F32, "the inner region still holds");
    drop(inner);
    assert_eq!(seen("linear", F32), F32);
}

#[test]
fn a_region_leaves_other_devices_alone() {
    // A GPU's region may be made where there is no GPU; it covers no tensor here.
    let gpu = Autocast::new(Accelerator::Gpu, F16).unwrap();
    assert_eq!(gpu.run(|| seen("linear", F32)), F32);
}

#[test]
fn no_grad_detaches_with_and_without_a_region() {
    let weight = Var::ones(2, F32, &Device::Cpu).unwrap();
    let tracked = |op: &str| cast_inputs(op, [&weight]).unwrap()[0].track_op();
    assert!(tracked("linear"));
    assert!(!no_grad(|| tracked("linear")));
    let after_an_inner_scope = no_grad(|| {
        no_grad(|| ());
        tracked("linear")
    });
    assert!(!after_an_inner_scope, "the inner scope does not end the outer");
    assert!(bf16().run(|| tracked("linear")));
    assert!(!bf16().run(|| no_grad(|| tracked("linear"))));
    assert!(!bf16().run(|| no_grad(|| tracked("relu"))), "an input that needs no cast is detached too");
    assert!(tracked("linear"));
}

#[test]
fn a_users_op_takes_part() {
    let table = OpTable::cpu().with_op("my_product", CastRule::LowerPrecision);
    assert_eq!(bf16().with_table(table).run(|| seen("my_product", F32)), BF16);
}

#[test]
fn a_region_refuses_unknown_and_banned_ops() {
    let unknown = bf16().run(|| cast_inputs("my_product", [&ones(F32)]).unwrap_err());
    assert!(matches!(&unknown, Error::UnknownOp { op, .. } if op == "my_product"), "{unknown}");
    gpu_rules().run(|| {
        for dtype in [F32, BF16, F64] {
            let banned = cast_inputs("binary_cross_entropy", [&ones(dtype), &ones(dtype)]).unwrap_err();
            assert!(matches!(banned, Error::Banned { .. }), "{banned}");
        }
        let other_half = cast_inputs("dot", [&ones(F16), &ones(F32)]).unwrap_err();
        assert!(matches!(&other_half, Error::InvalidArgument { got, .. } if got == "f16"), "{other_half}");
    });
}

#[test]
fn a_region_refuses_what_its_accelerator_cannot_run() {
    let f16_on_cpu = Autocast::new(Accelerator::Cpu, F16).unwrap_err();
    assert!(matches!(f16_on_cpu, Error::UnsupportedPrecision(_)), "{f16_on_cpu}");
    assert!(f16_on_cpu.to_string().contains("bf16-mixed"), "{f16_on_cpu}");
    for wide in [F32, F64, I64] {
        let error = Autocast::new(Accelerator::Gpu, wide).unwrap_err();
        assert!(
            matches!(&error, Error::InvalidArgument { argument, .. } if argument == "fast_dtype"),
            "{error}"
        );
    }
    let tpu = Autocast::new(Accelerator::Tpu, BF16).unwrap_err();
    assert!(tpu.to_string().contains("cpu or gpu"), "{tpu}");
}

#[test]
fn a_mixed_precision_has_a_region_and_a_true_one_has_none() {
    let region = |precision| Autocast::for_precision(precision, Accelerator::Cpu);
    assert_eq!(region(Precision::Bf16Mixed).unwrap().unwrap().run(|| seen("linear", F32)), BF16);
    for precision in [Precision::F32True, Precision::F64True, Precision::Bf16True] {
        assert!(region(precision).unwrap().is_none(), "{precision}");
    }
    assert!(region(Precision::F16Mixed).is_err());
}

#[test]
fn an_error_passes_through_candles() {
    let wrapped: candle_core::Error = Error::Banned { op: "x".into(), instead: "y".into() }.into();
    assert!(wrapped.to_string().contains("use y"), "{wrapped}");
}
