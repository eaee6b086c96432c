//! Arguments that get no gradient: one that a variable leads to is an error that names it, instead of a gradient that
//! silently is none.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::ops::{self, BinaryCrossEntropy, CrossEntropy, NllLoss, Reduction, RopePairs};
use autocast::{Result, nn};
use candle_core::{DType, Device, Tensor, Var};

const CPU: Device = Device::Cpu;

fn var(dims: &[usize]) -> Tensor {
    Var::ones(dims, DType::F32, &CPU).unwrap().as_tensor().clone()
}

fn ones(dims: &[usize]) -> Tensor {
    Tensor::ones(dims, DType::F32, &CPU).unwrap()
}

#[test]
fn tracked_constants_are_named() {
    let targets = Tensor::new(&[0u32, 1], &CPU).unwrap();
    let (x, tracked) = (ones(&[2, 2]), var(&[2]));
    // What leads to a variable over another op is tracked, too.
    let derived = ops::mul_scalar(&tracked, 2.).unwrap();
    for weight in [tracked, derived] {
        let some = || Some(weight.clone());
        let binary = |options| ops::binary_cross_entropy_with_logits(&x, &x, &options);
        let cases: [(&str, Result<Tensor>); 9] = [
            ("mean", ops::batch_norm_eval(&x, &weight, &ones(&[2]), None, None, 1e-5)),
            ("var", ops::batch_norm_eval(&x, &ones(&[2]), &weight, None, None, 1e-5)),
            (
                "weight",
                ops::cross_entropy(&x, &targets, &CrossEntropy { weight: some(), ..Default::default() }),
            ),
            ("weight", ops::nll_loss(&x, &targets, &NllLoss { weight: some(), ..Default::default() })),
            ("weight", ops::binary_cross_entropy(&x, &x, Some(&weight), Reduction::Mean)),
            ("weight", binary(BinaryCrossEntropy { weight: some(), ..Default::default() })),
            ("pos_weight", binary(BinaryCrossEntropy { pos_weight: some(), ..Default::default() })),
            (
                "cos",
                ops::rope(&ones(&[1, 4]), &weight.unsqueeze(0).unwrap(), &ones(&[1, 2]), RopePairs::Halves),
            ),
            (
                "sin",
                ops::rope(&ones(&[1, 4]), &ones(&[1, 2]), &weight.unsqueeze(0).unwrap(), RopePairs::Halves),
            ),
        ];
        for (argument, result) in cases {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(argument) && error.contains("constant"), "{error}");
        }
    }
}

#[test]
fn a_layers_own_statistics_are_constants() {
    let norm = nn::BatchNorm::new_no_bias(2, ones(&[2]), ones(&[2]), 1e-5).unwrap();
    let x = Var::ones((3, 2), DType::F32, &CPU).unwrap();
    let y = norm.forward_eval(&x).unwrap();
    let grads = autocast::backward(ops::sum_all(&y).unwrap()).unwrap();
    assert!(grads.get(&x).is_some());
}
