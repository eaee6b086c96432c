//! What the graph keeps: a forward pass its value and what it saves, a backward pass less with every node.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex, MutexGuard};

use autocast::graph::{Backward, Op, record};
use autocast::{Result, backward, no_grad, ops};
use candle_core::{DType, Device, Tensor, Var};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One test at a time: all share the allocator.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const MIB: usize = 1 << 20;
/// Nodes, shapes, lists, and the scratch of threads.
const SMALL: usize = 128 << 10;

/// How many bytes more are in use after `f` than before, and were at most in between.
fn growth<R>(f: impl FnOnce() -> R) -> (R, usize, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let made = f();
    let (peak, after) = (MEMORY.peak_usage(), MEMORY.current_usage());
    (made, after.saturating_sub(before), peak.saturating_sub(before))
}

fn numbers(dims: (usize, usize)) -> Var {
    Var::randn(0f32, 1f32, dims, &Device::Cpu).unwrap()
}

#[test]
fn a_forward_pass_allocates_its_value_and_what_it_saves() {
    let _alone = alone();
    let x = numbers((1024, 1024));
    let weight = Var::ones(1024, DType::F32, &Device::Cpu).unwrap();
    let targets = Tensor::zeros(1024, DType::U32, &Device::Cpu).unwrap();
    // So that threads and tables exist.
    drop(ops::layer_norm(&x, &[1024], Some(&weight), None, 1e-5).unwrap());
    type Run<'a> = Box<dyn Fn() -> Result<Tensor> + 'a>;
    let cases: [(&str, usize, Run<'_>); 6] = [
        ("add", 4 * MIB, Box::new(|| ops::add(&x, &x))),
        ("gelu", 4 * MIB, Box::new(|| ops::gelu_tanh(&x))),
        ("dropout", 4 * MIB, Box::new(|| ops::dropout(&x, 0.5, 1))),
        ("softmax", 4 * MIB, Box::new(|| ops::softmax(&x, 1))),
        // Three numbers of a row.
        (
            "layer_norm",
            4 * MIB + 1024 * 24,
            Box::new(|| ops::layer_norm(&x, &[1024], Some(&weight), None, 1e-5)),
        ),
        ("cross_entropy", 0, Box::new(|| ops::cross_entropy(&x, &targets, &Default::default()))),
    ];
    for (name, bytes, run) in cases {
        let (value, kept, peak) = growth(|| run().unwrap());
        assert!(value.track_op(), "{name}");
        assert!(kept >= bytes && kept <= bytes + SMALL, "{name} keeps {kept} bytes, not {bytes}");
        assert!(peak <= bytes + SMALL, "{name} takes {peak} bytes, not {bytes}");
        let (_, kept, _) = growth(|| no_grad(|| run().unwrap().elem_count()));
        assert!(kept <= SMALL, "{name} keeps {kept} bytes where nothing is recorded");
    }
}

/// The identity, which saves as much as it returns.
struct Keeper {
    _saved: Tensor,
    in_use: Arc<Mutex<Vec<usize>>>,
}

impl Op for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        self.in_use.lock().unwrap().push(MEMORY.current_usage());
        Ok(vec![Some(cx.grad().clone())])
    }
}

#[test]
fn memory_falls_as_the_walk_goes_on() {
    let _alone = alone();
    let x = numbers((256, 1024));
    let in_use = Arc::new(Mutex::new(Vec::new()));
    let mut y = x.as_tensor().clone();
    for _ in 0..24 {
        let saved = y.detach().copy().unwrap();
        y = record(Keeper { _saved: saved, in_use: in_use.clone() }, &[&y], y.detach()).unwrap();
    }
    let grads = backward(y).unwrap();
    assert!(grads.get(&x).is_some());
    let in_use = in_use.lock().unwrap();
    assert_eq!(in_use.len(), 24);
    for pair in in_use.windows(2) {
        assert!(pair[0] >= pair[1] + MIB - SMALL, "{} and then {} bytes", pair[0], pair[1]);
    }
}

#[test]
fn a_released_graph_leaves_nothing() {
    let _alone = alone();
    let x = numbers((256, 256));
    let run = || {
        let y = (0..50).fold(x.as_tensor().clone(), |y, _| ops::silu(&y.t().unwrap()).unwrap());
        backward(ops::sum_all(&y).unwrap()).unwrap();
        let z = (0..50).fold(x.as_tensor().clone(), |y, _| ops::silu(&y.t().unwrap()).unwrap());
        drop(z);
    };
    run();
    let ((), kept, _) = growth(|| (0..5).for_each(|_| run()));
    assert!(kept <= SMALL, "{kept} bytes are left");
}
