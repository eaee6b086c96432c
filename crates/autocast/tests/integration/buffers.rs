//! Running statistics: when they are written, and by what.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::{Mode, defer_buffers, nn, with_mode};
use candle_core::{DType, Device, Tensor};

fn norm() -> nn::BatchNorm {
    let of = |value: f32| Tensor::full(value, 2, &Device::Cpu).unwrap();
    nn::BatchNorm::new_no_bias(2, of(0.), of(1.), 1e-5).unwrap()
}

fn batch(shift: f32) -> Tensor {
    Tensor::new(&[[1f32 + shift, 2.], [3. + shift, 6.]], &Device::Cpu).unwrap()
}

fn statistics(norm: &nn::BatchNorm) -> [Vec<f32>; 2] {
    [norm.running_mean(), norm.running_var()].map(|t| t.to_vec1().unwrap())
}

#[test]
fn deferred_writes_are_those_that_would_have_been_made() {
    let (at_once, deferred) = (norm(), norm());
    let twice = |norm: &nn::BatchNorm| {
        norm.forward_train(&batch(0.)).unwrap();
        norm.forward_train(&batch(5.)).unwrap();
    };
    twice(&at_once);
    let ((), updates) = defer_buffers(|| twice(&deferred));
    assert_eq!(statistics(&deferred), [vec![0., 0.], vec![1., 1.]]);
    assert_eq!(updates.len(), 2, "one write for each buffer, however often it was written");
    for (buffer, value) in updates {
        buffer.set(&value).unwrap();
    }
    assert_eq!(statistics(&deferred), statistics(&at_once));
}

#[test]
fn an_inner_deferral_keeps_its_writes_from_the_outer_one() {
    let norm = norm();
    let (inner, outer) = defer_buffers(|| {
        norm.forward_train(&batch(0.)).unwrap();
        defer_buffers(|| norm.forward_train(&batch(1.)).unwrap()).1
    });
    assert_eq!((inner.len(), outer.len()), (2, 2));
    norm.forward_train(&batch(0.)).unwrap();
    assert_ne!(statistics(&norm)[0], [0., 0.], "writes are made again after the deferral");
}

#[test]
fn a_panic_ends_a_deferral() {
    let panicked = std::panic::catch_unwind(|| defer_buffers(|| panic!("on purpose")));
    assert!(panicked.is_err());
    let norm = norm();
    norm.forward_train(&batch(0.)).unwrap();
    assert_ne!(statistics(&norm)[0], [0., 0.]);
}

#[test]
fn nothing_is_written_in_evaluation() {
    let norm = norm();
    let evaluated = with_mode(Mode::Evaluate, || {
        norm.forward_train(&batch(9.)).unwrap();
        norm.forward_by_mode(&batch(0.)).unwrap()
    });
    assert_eq!(statistics(&norm), [vec![0., 0.], vec![1., 1.]]);
    let expected = norm.forward_eval(&batch(0.)).unwrap();
    assert_eq!(evaluated.to_vec2::<f32>().unwrap(), expected.to_vec2::<f32>().unwrap());
}

#[test]
fn a_channel_that_is_not_finite_keeps_its_statistics_and_the_other_moves() {
    for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX] {
        for dtype in [DType::F32, DType::BF16] {
            let norm = norm();
            let x = Tensor::new(&[[bad, 2.], [-1., 6.]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            norm.forward_train(&x).unwrap();
            let [mean, var] = statistics(&norm);
            assert_eq!((mean[0], var[0]), (0., 1.), "{bad} in {dtype:?}");
            assert!((mean[1] - 0.4).abs() < 1e-6 && (var[1] - 1.7).abs() < 1e-6, "{mean:?}, {var:?}");
        }
    }
}
