//! Graphs of a million of our chained ops, and of 100,000 of candle's, on an ordinary thread: the right gradient, and no
//! overflow when the graph is released.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::thread;

use autocast::ops;
use candle_core::{Device, Tensor, Var};

const OPS: usize = 100_000;

/// `x` doubled and halved in turn, and one added each time. The slope is 1 after an even number of ops, 2 after an odd
/// one, and every value is exact in f64.
fn chain(x: &Tensor, ops: usize) -> Tensor {
    (0..ops).fold(x.clone(), |y, i| y.affine(if i % 2 == 0 { 2.0 } else { 0.5 }, 1.0).unwrap())
}

/// Runs `f` on a thread with the usual 2 MiB of stack.
fn on_an_ordinary_thread(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(2 << 20).spawn(f).unwrap().join().unwrap();
}

#[test]
fn the_gradient_of_a_hundred_thousand_ops() {
    on_an_ordinary_thread(|| {
        let x = Var::new(&[1.5f64, -2.0], &Device::Cpu).unwrap();
        // One op more than pairs of ×2 and ×0.5, and a square on top: d/dx (2x + …)² = 4 (2x + …).
        let y = chain(&x, OPS + 1);
        let value = y.to_vec1::<f64>().unwrap();
        let loss = y.sqr().unwrap().sum_all().unwrap();
        drop(y);
        let grads = autocast::backward(loss).unwrap();
        let got = grads.get(&x).unwrap().to_vec1::<f64>().unwrap();
        assert_eq!(got, value.iter().map(|v| 4.0 * v).collect::<Vec<_>>());
        assert!(value[0] - value[1] == 7.0, "the chain has a slope of 2: {value:?}");
    });
}

#[test]
fn two_paths_of_a_deep_graph_add_up() {
    on_an_ordinary_thread(|| {
        let x = Var::new(3f64, &Device::Cpu).unwrap();
        let deep = chain(&x, OPS);
        let loss = (&deep * x.as_tensor()).unwrap();
        let value = deep.to_scalar::<f64>().unwrap();
        drop(deep);
        let grads = autocast::backward(loss).unwrap();
        assert_eq!(grads.get(&x).unwrap().to_scalar::<f64>().unwrap(), value + 3.0);
    });
}

#[test]
fn a_deep_graph_that_is_held_elsewhere_is_released_on_a_deep_stack() {
    on_an_ordinary_thread(|| {
        let x = Var::new(1f64, &Device::Cpu).unwrap();
        let kept = chain(&x, OPS);
        let grads = autocast::backward(kept.sqr().unwrap()).unwrap();
        assert!(grads.get(&x).is_some());
        autocast::deep_stack(move || drop(kept));
    });
}

/// As [`chain`], of ops of this crate. The scalars are exact.
fn chain_of_ours(x: &Tensor, ops: usize) -> Tensor {
    let link = |y: Tensor, i: usize| ops::mul_scalar(&y, if i.is_multiple_of(2) { 2. } else { 0.5 }).unwrap();
    (0..ops).fold(x.clone(), link)
}

#[test]
fn a_million_of_our_ops_need_no_deep_stack() {
    on_an_ordinary_thread(|| {
        let x = Var::new(1.5f64, &Device::Cpu).unwrap();
        let grads = autocast::backward(chain_of_ours(&x, 1_000_001)).unwrap();
        assert_eq!(grads.get(&x).unwrap().to_scalar::<f64>().unwrap(), 2.);
        // Released without a walk.
        drop(chain_of_ours(&x, 1_000_000));
    });
}

#[test]
fn our_ops_and_candles_in_turn_are_released_without_a_deep_stack() {
    on_an_ordinary_thread(|| {
        let x = Var::new(1.5f64, &Device::Cpu).unwrap();
        let link = |y: Tensor, _: usize| ops::mul_scalar(&y, 2.).unwrap().affine(0.5, 0.).unwrap();
        let chain = || (0..OPS).fold(x.as_tensor().clone(), link);
        let grads = autocast::backward(chain()).unwrap();
        assert_eq!(grads.get(&x).unwrap().to_scalar::<f64>().unwrap(), 1.);
        drop(chain());
    });
}
