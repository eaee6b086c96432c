//! Indices that are no row and no class: an error that says which index, of how many, and in which op.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::ops::{self, CrossEntropy, NllLoss, Reduction};
use autocast::{Autocast, nn};
use candle_core::{DType, Device, Module, Tensor};
use precision_types::Accelerator;

const CPU: Device = Device::Cpu;

fn said<T: std::fmt::Debug>(result: Result<T, impl std::fmt::Display>) -> String {
    match result {
        Ok(value) => panic!("{value:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_id_that_is_no_row_is_named() {
    let weight = Tensor::ones((5, 2), DType::F32, &CPU).unwrap();
    let ids = [
        ("-1", Tensor::new(&[0i64, -1], &CPU)),
        ("5", Tensor::new(&[4i64, 5], &CPU)),
        ("9223372036854775807", Tensor::new(&[i64::MAX], &CPU)),
        ("-9223372036854775808", Tensor::new(&[i64::MIN], &CPU)),
        ("4294967295", Tensor::new(&[u32::MAX], &CPU)),
        ("255", Tensor::new(&[255u8], &CPU)),
    ];
    for (index, ids) in ids {
        let ids = ids.unwrap();
        for error in [
            said(ops::embedding(&ids, &weight)),
            said(ops::embedding_with_padding(&ids, &weight, 0)),
            said(nn::Embedding::new(weight.clone(), 2).forward(&ids)),
            said(Autocast::new(Accelerator::Cpu, DType::BF16).unwrap().run(|| ops::embedding(&ids, &weight))),
        ] {
            assert!(
                error.contains("embedding") && error.contains(index) && error.contains("5 rows"),
                "{error}"
            );
        }
    }
    let fine = ops::embedding(&Tensor::new(&[0u8, 4], &CPU).unwrap(), &weight).unwrap();
    assert_eq!(fine.dims(), [2, 2]);
}

#[test]
fn a_target_that_is_no_class_is_named() {
    let logits = Tensor::ones((2, 3), DType::F32, &CPU).unwrap();
    for (index, targets) in [
        ("3", Tensor::new(&[0i64, 3], &CPU)),
        ("-1", Tensor::new(&[-1i64, 0], &CPU)),
        ("-9223372036854775808", Tensor::new(&[i64::MIN, 0], &CPU)),
        ("9223372036854775807", Tensor::new(&[1, i64::MAX], &CPU)),
        ("4294967295", Tensor::new(&[u32::MAX, 0], &CPU)),
    ] {
        let targets = targets.unwrap();
        for error in [
            said(ops::cross_entropy(&logits, &targets, &CrossEntropy::default())),
            said(ops::nll_loss(
                &logits,
                &targets,
                &NllLoss { reduction: Reduction::Sum, ..Default::default() },
            )),
        ] {
            assert!(error.contains(index) && error.contains("3 classes"), "{error}");
        }
    }
}

#[test]
fn padding_that_is_no_row_is_named() {
    let weight = Tensor::ones((5, 2), DType::F32, &CPU).unwrap();
    let ids = Tensor::new(&[0u32], &CPU).unwrap();
    assert!(said(ops::embedding_with_padding(&ids, &weight, usize::MAX)).contains("below 5"));
}
