//! The look at gradients before a step, and the step: AdamW and SGD with momentum.

use super::number::Number;
use super::{Case, Kernel, Size};
use backends::Store;
use backends::kernels::adamw::{Decay, Settings};
use backends::kernels::sgd::{self, Momentum};
use backends::kernels::step::{Buffers, GradTransform, RuleSettings, WriteBack, fused_step, grad_stats};
use half::{bf16, f16};
use std::any::TypeId;
use std::hint::black_box;

pub(super) fn kernels<T: Number>() -> Vec<Kernel> {
    let mut all: Vec<Kernel> = vec![("finite and norm", look::<T>)];
    let of = TypeId::of::<T>();
    if of == TypeId::of::<f32>() {
        all.extend(nearest::<f32, f32>());
    } else if of == TypeId::of::<f64>() {
        all.extend(nearest::<f64, f64>());
    } else if of == TypeId::of::<bf16>() {
        all.extend(nearest::<bf16, f32>());
        all.push(("adamw, f32 master", |size| master::<bf16>(size)));
        all.push(("adamw, stochastic", |size| step::<bf16, f32>(ADAMW, 2, Kept::Chance, size)));
    } else {
        all.extend(nearest::<f16, f32>());
        all.push(("adamw, f32 master", |size| master::<f16>(size)));
    }
    all
}

const ADAMW: Settings = Settings { lr: 1e-4, betas: (0.9, 0.999), eps: 1e-8, decay: Decay::Decoupled(0.1) };
const SGD: sgd::Settings =
    sgd::Settings { lr: 1e-4, weight_decay: 0.1, momentum: Momentum::Heavy { momentum: 0.9, dampening: 0. } };

fn nearest<T: Number + Store<A>, A: Number + backends::Real + Store<A>>() -> [Kernel; 2] {
    [
        ("adamw", |size| step::<T, A>(ADAMW, 2, Kept::Nowhere, size)),
        ("sgd", |size| step::<T, A>(SGD, 1, Kept::Nowhere, size)),
    ]
}

fn master<T: Number + Store<f32>>(size: Size) -> Case {
    step::<T, f32>(ADAMW, 2, Kept::Master, size)
}

fn look<T: Number>(size: Size) -> Case {
    let x = T::numbers(size.len());
    Case::new(size_of_val(&*x), move || drop(black_box(grad_stats(&[T::floats(&x)], 0.5))))
}

#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nowhere,
    Master,
    Chance,
}

fn step<T: Number + Store<A>, A: Number + backends::Real + Store<A>>(
    settings: impl RuleSettings + 'static,
    moments: usize,
    kept: Kept,
    size: Size,
) -> Case {
    let len = size.len();
    let (mut weights, grad) = (T::numbers(len), T::numbers(len));
    let mut state: [Vec<A>; 2] = [0, 1].map(|i| if i < moments { vec![A::of(0.1); len] } else { vec![] });
    let mut full: Vec<A> =
        if kept == Kept::Master { weights.iter().map(|w| A::of(w.to_f64())).collect() } else { vec![] };
    let moved = 3 * size_of_val(&*weights) + 2 * moments * len * size_of::<A>() + 2 * size_of_val(&*full);
    Case::new(moved, move || {
        let [first, second] = &mut state;
        let write_back = match kept {
            Kept::Nowhere => WriteBack::Nearest,
            Kept::Master => WriteBack::Master(&mut full[..]),
            Kept::Chance => WriteBack::Stochastic { key: 7 },
        };
        let buffers =
            Buffers { weights: &mut weights[..], write_back, grad: T::floats(&grad), first, second };
        fused_step(buffers, &settings.rule::<A>(9), &GradTransform::default()).expect("as long");
    })
}
