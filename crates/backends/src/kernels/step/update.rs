//! One step of an elementwise optimizer over one parameter: unscale, clip, update, write back, in one parallel pass.
//!
//! For each element, with arithmetic in `A` (f32, or f64 for f64 parameters):
//!
//! 1. `g = A(grad) * inv_scale`, then `g * clip_coef`, then clamped to `±clip_value`;
//! 2. `w` is the weight in full: the weight itself, its master, or the weight plus its compensation;
//! 3. the [`Rule`] maps `(w, g, moments)` to new ones;
//! 4. `w` is written back as [`WriteBack`] says.
//!
//! A buffer is cut into chunks for threads and into blocks for the first-level cache; no element looks at another, so the
//! result does not depend on the cutting. Contract: bit-exact against the scalar oracle. A NaN in a gradient goes where
//! the rule's arithmetic takes it.

use super::WriteBack;
use crate::simd::{Isa, Simd, Work};
use crate::{Element, Error, Floats, Real, Result, Store};

/// What an optimizer does to one element, over a block of them.
pub trait Rule<A: Real>: Send + Sync {
    /// How many of the two moment buffers the rule uses.
    fn moments(&self) -> usize;

    /// Updates weights and moments in place from unscaled gradients, which may be overwritten. A moment buffer that the
    /// rule does not use is empty.
    fn update(&self, weights: &mut [A], grads: &mut [A], first: &mut [A], second: &mut [A]);
}

/// What happens to a gradient between the store and the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradTransform {
    /// Takes the loss scale out.
    pub inv_scale: f32,
    /// Scales the unscaled gradient down to a global norm; 1 where it is not clipped.
    pub clip_coef: f64,
    /// Bounds the magnitude of each element after that.
    pub clip_value: Option<f64>,
}

impl Default for GradTransform {
    fn default() -> Self {
        Self { inv_scale: 1.0, clip_coef: 1.0, clip_value: None }
    }
}

/// The buffers of one parameter.
#[derive(Debug)]
pub struct Buffers<'a, T, A> {
    /// The parameter, as the model reads it.
    pub weights: &'a mut [T],
    /// How it keeps what `T` cannot hold.
    pub write_back: WriteBack<&'a mut [A], &'a mut [T]>,
    /// Its gradient, of any type.
    pub grad: Floats<'a>,
    /// The first moment, or empty.
    pub first: &'a mut [A],
    /// The second moment, or empty.
    pub second: &'a mut [A],
}

/// Elements per task given to another thread.
pub(super) const CHUNK: usize = 64 * 1024;
/// Elements worked on at once, so that the four working buffers stay in the first-level cache.
pub(super) const BLOCK: usize = 512;

/// Takes one step on one parameter.
///
/// # Errors
///
/// [`Error::LengthMismatch`] where a buffer's length is not that of the weights, or a moment that the rule needs is
/// absent.
pub fn fused_step<T, A>(
    buffers: Buffers<'_, T, A>,
    rule: &impl Rule<A>,
    transform: &GradTransform,
) -> Result<()>
where
    T: Store<A>,
    A: Real + Store<A>,
{
    check(&buffers, rule.moments())?;
    split(Task { buffers, start: 0 }, rule, transform);
    Ok(())
}

pub(super) fn check<T: Element, A: Real>(p: &Buffers<'_, T, A>, moments: usize) -> Result<()> {
    let len = p.weights.len();
    let kept = match &p.write_back {
        WriteBack::Nearest | WriteBack::Stochastic { .. } => len,
        WriteBack::Master(master) => master.len(),
        WriteBack::Kahan(compensation) => compensation.len(),
    };
    let wanted = |nth: usize| if nth < moments { len } else { 0 };
    for (argument, expected, got) in [
        ("grad", len, p.grad.len()),
        ("the write-back buffer", len, kept),
        ("the first moment", wanted(0), p.first.len()),
        ("the second moment", wanted(1), p.second.len()),
    ] {
        if expected != got {
            return Err(Error::LengthMismatch { op: "fused_step", argument, expected, got });
        }
    }
    Ok(())
}

/// A part of a parameter, which begins at element `start` of it.
struct Task<'a, T, A> {
    buffers: Buffers<'a, T, A>,
    start: usize,
}

impl<'a, T, A> Task<'a, T, A> {
    #[inline(always)]
    fn split_at(self, mid: usize) -> (Self, Self) {
        let Buffers { weights, write_back, grad, first, second } = self.buffers;
        let (weights, weights_tail) = weights.split_at_mut(mid);
        let (grad, grad_tail) = grad.split_at(mid);
        // An unused moment is empty on both sides.
        let (first, first_tail) = first.split_at_mut(mid.min(first.len()));
        let (second, second_tail) = second.split_at_mut(mid.min(second.len()));
        let (write_back, write_back_tail) = match write_back {
            WriteBack::Nearest => (WriteBack::Nearest, WriteBack::Nearest),
            WriteBack::Stochastic { key } => (WriteBack::Stochastic { key }, WriteBack::Stochastic { key }),
            WriteBack::Master(master) => {
                let (head, tail) = master.split_at_mut(mid);
                (WriteBack::Master(head), WriteBack::Master(tail))
            }
            WriteBack::Kahan(compensation) => {
                let (head, tail) = compensation.split_at_mut(mid);
                (WriteBack::Kahan(head), WriteBack::Kahan(tail))
            }
        };
        let head = Buffers { weights, write_back, grad, first, second };
        let tail = Buffers {
            weights: weights_tail,
            write_back: write_back_tail,
            grad: grad_tail,
            first: first_tail,
            second: second_tail,
        };
        (Task { buffers: head, start: self.start }, Task { buffers: tail, start: self.start + mid })
    }
}

fn split<T, A>(task: Task<'_, T, A>, rule: &impl Rule<A>, transform: &GradTransform)
where
    T: Store<A>,
    A: Real + Store<A>,
{
    let len = task.buffers.weights.len();
    if len > CHUNK {
        let mid = (len / CHUNK).div_ceil(2) * CHUNK;
        let (head, tail) = task.split_at(mid);
        rayon::join(|| split(head, rule, transform), || split(tail, rule, transform));
    } else {
        Isa::best().run(ByBlocks(task, rule, transform));
    }
}

struct ByBlocks<'a, 'b, T, A, R>(Task<'a, T, A>, &'b R, &'b GradTransform);

impl<T: Store<A>, A: Real + Store<A>, R: Rule<A>> Work for ByBlocks<'_, '_, T, A, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self(mut task, rule, transform) = self;
        let mut scratch = Scratch::new();
        loop {
            let len = task.buffers.weights.len().min(BLOCK);
            let (block, rest) = task.split_at(len);
            scratch.step(block, rule, transform);
            if rest.buffers.weights.is_empty() {
                return;
            }
            task = rest;
        }
    }
}

/// The working copies of one block.
struct Scratch<T, A> {
    weights: [A; BLOCK],
    grads: [A; BLOCK],
    extra: [A; BLOCK],
    rounded: [T; BLOCK],
}

impl<T: Store<A>, A: Real + Store<A>> Scratch<T, A> {
    fn new() -> Self {
        let zeros = [A::ZERO; BLOCK];
        Self { weights: zeros, grads: zeros, extra: zeros, rounded: [T::default(); BLOCK] }
    }

    #[inline(always)]
    fn step(&mut self, task: Task<'_, T, A>, rule: &impl Rule<A>, transform: &GradTransform) {
        let Task { buffers: Buffers { weights, write_back, grad, first, second }, start } = task;
        let len = weights.len();
        let grads = &mut self.grads[..len];
        A::load(grad, grads);
        transform_grads(grads, transform);
        let full = &mut self.weights[..len];
        match write_back {
            WriteBack::Nearest => {
                A::load(T::floats(weights), full);
                rule.update(full, grads, first, second);
                T::store(full, weights);
            }
            WriteBack::Master(master) => {
                let (rounded, extra) = (&mut self.rounded[..len], &mut self.extra[..len]);
                T::store(master, rounded);
                A::load(T::floats(weights), extra);
                // Not where one of them lies: that becomes a store with a mask, which is slow on some processors.
                for ((((full, &m), &f), &w), &r) in
                    full.iter_mut().zip(&*master).zip(&*extra).zip(&*weights).zip(&*rounded)
                {
                    *full = if w.same_bits(r) { m } else { f };
                }
                rule.update(full, grads, first, second);
                master.copy_from_slice(full);
                T::store(full, weights);
            }
            WriteBack::Kahan(compensation) => {
                A::load(T::floats(weights), full);
                let extra = &mut self.extra[..len];
                A::load(T::floats(compensation), extra);
                for (w, &c) in full.iter_mut().zip(&*extra) {
                    *w = *w + c;
                }
                rule.update(full, grads, first, second);
                T::store(full, weights);
                A::load(T::floats(weights), extra);
                for (c, &w) in extra.iter_mut().zip(&*full) {
                    *c = w - *c;
                }
                T::store(extra, compensation);
            }
            WriteBack::Stochastic { key } => {
                A::load(T::floats(weights), full);
                rule.update(full, grads, first, second);
                for (i, (w, &f)) in weights.iter_mut().zip(&*full).enumerate() {
                    *w = T::round_stochastic(f, random_bits(key, (start + i) as u64));
                }
            }
        }
    }
}

#[inline(always)]
fn transform_grads<A: Real>(grads: &mut [A], transform: &GradTransform) {
    let inv_scale = A::from_f64(f64::from(transform.inv_scale));
    let clip_coef = A::from_f64(transform.clip_coef);
    match transform.clip_value.map(A::from_f64) {
        None => grads.iter_mut().for_each(|g| *g = *g * inv_scale * clip_coef),
        Some(limit) => grads.iter_mut().for_each(|g| *g = (*g * inv_scale * clip_coef).clamp_to(limit)),
    }
}

/// 32 bits that depend on nothing but `key` and `index`, so that every device and every cutting draws the same.
///
/// # Source
///
/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014), over a counter.
#[inline(always)]
pub fn random_bits(key: u64, index: u64) -> u32 {
    let mut z = key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}
