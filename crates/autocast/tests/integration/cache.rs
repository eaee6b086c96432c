//! The cast cache, by counting casts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use autocast::{
    Autocast, CachePolicy, CacheStats, backward, cache_stats, cast_inputs, no_grad, parameters_changed,
};
use candle_core::{DType, Device, Tensor, Var};
use precision_types::Accelerator;

fn bf16() -> Autocast {
    Autocast::new(Accelerator::Cpu, DType::BF16).unwrap()
}

fn parameter(values: &[f32]) -> Var {
    Var::new(values, &Device::Cpu).unwrap()
}

fn cast(tensor: &Tensor) -> Tensor {
    let [cast] = cast_inputs("linear", [tensor]).unwrap();
    cast
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

/// Casts made and saved.
fn counts() -> (usize, usize) {
    let CacheStats { casts, hits, .. } = cache_stats();
    (casts, hits)
}

#[test]
fn a_parameter_is_cast_once_in_the_outermost_region() {
    let (weight, other) = (parameter(&[1.0, 2.0]), parameter(&[3.0]));
    bf16().run(|| {
        let first = cast(&weight);
        assert_eq!(first.id(), bf16().run(|| cast(&weight)).id(), "a nested region shares the cast");
        cast(&other);
        assert_eq!(first.id(), cast(&weight).id(), "and its end does not end it");
        assert_eq!(counts(), (2, 2));
        assert_eq!(cache_stats().bytes, 6);
    });
    assert_eq!((cache_stats().entries, cache_stats().bytes), (0, 0), "nothing outlives the outermost region");
    bf16().run(|| cast(&weight));
    assert_eq!(counts(), (1, 0));
}

#[test]
fn only_parameters_are_kept() {
    let activation = (parameter(&[1.0]).as_tensor() * 2.0).unwrap();
    let constant = Tensor::new(&[1f32], &Device::Cpu).unwrap();
    bf16().run(|| {
        assert_ne!(cast(&activation).id(), cast(&activation).id());
        assert_ne!(cast(&constant).id(), cast(&constant).id());
        assert_eq!(cache_stats(), CacheStats::default());
    });
}

#[test]
fn the_gradients_of_both_uses_meet_in_the_parameter() {
    let weight = parameter(&[1.0, 2.0]);
    let grads = bf16().run(|| {
        let product = (cast(&weight) * cast(&weight)).unwrap();
        backward(product.sum_all().unwrap()).unwrap()
    });
    let grad = grads.get(&weight).unwrap();
    assert_eq!(grad.dtype(), DType::F32);
    assert_eq!(values(grad), [2.0, 4.0]);
    assert_eq!(counts(), (1, 1));
}

#[test]
fn a_parameter_that_is_set_inside_a_region_is_cast_again() {
    let weight = parameter(&[1.0, 2.0]);
    bf16().run(|| {
        assert_eq!(values(&cast(&weight)), [1.0, 2.0]);
        weight.set(&Tensor::new(&[-1f32, -2.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(values(&cast(&weight)), [-1.0, -2.0]);
        assert_eq!(counts(), (2, 0));
        assert_eq!(cache_stats().entries, 1, "the stale cast is gone");
    });
}

#[test]
fn a_parameter_that_is_viewed_elsewhere_is_judged_by_its_own_content() {
    let weight = parameter(&[1.0, 2.0, 3.0]);
    let same_storage = weight.as_detached_tensor();
    bf16().run(|| {
        cast(&weight);
        assert_eq!(values(&cast(&same_storage)), [1.0, 2.0, 3.0]);
        cast(&weight);
        assert_eq!(counts(), (1, 1));
    });
}

#[test]
fn a_word_of_change_drops_every_cast() {
    let weight = parameter(&[1.0]);
    bf16().run(|| {
        let before = cast(&weight);
        parameters_changed();
        assert_ne!(before.id(), cast(&weight).id());
        assert_eq!((counts(), cache_stats().entries), ((2, 0), 1));
    });
}

#[test]
fn casts_without_gradients_never_serve_training_nor_the_reverse() {
    let weight = parameter(&[1.0]);
    bf16().run(|| {
        assert!(!no_grad(|| cast(&weight)).track_op());
        assert!(cast(&weight).track_op());
        assert!(!no_grad(|| cast(&weight)).track_op());
        assert!(cast(&weight).track_op());
        assert_eq!(counts(), (2, 2));
    });
}

#[test]
fn a_bounded_cache_drops_the_oldest() {
    let weights = [parameter(&[1.0; 4]), parameter(&[2.0; 4]), parameter(&[3.0; 4])];
    let big = parameter(&[4.0; 16]);
    bf16().with_cache(CachePolicy::Bounded { bytes: 16 }).run(|| {
        weights.iter().for_each(|weight| drop(cast(weight)));
        assert_eq!((cache_stats().entries, cache_stats().bytes), (2, 16));
        cast(&weights[2]);
        cast(&weights[1]);
        assert_eq!(counts(), (3, 2));
        cast(&big);
        assert_eq!(cache_stats().entries, 2, "what cannot fit evicts nothing");
        cast(&weights[0]);
        assert_eq!(counts(), (5, 2), "the first was evicted");
        assert!(cache_stats().bytes <= 16);
    });
}

#[test]
fn a_cache_can_be_off() {
    let weight = parameter(&[1.0]);
    bf16().with_cache(CachePolicy::Off).run(|| {
        assert_ne!(cast(&weight).id(), cast(&weight).id());
        assert_eq!(counts(), (2, 0));
        assert_eq!(cache_stats().entries, 0);
    });
}

#[test]
fn an_empty_parameter_is_cast_too() {
    let weight = Var::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    bf16().run(|| {
        assert_eq!(cast(&weight).dtype(), DType::BF16);
        assert_eq!(cast(&weight).dims(), [0, 3]);
    });
}
