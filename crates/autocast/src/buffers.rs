//! Buffers: what a layer writes in its forward pass beside the graph, such as running statistics. A forward pass comes
//! before anybody knows whether its step will be taken, so the writes can be held back until then.

use std::cell::RefCell;

use candle_core::{Tensor, Var};

use crate::region::{Mode, mode};
use crate::{Error, Result};

/// A write to a buffer that was held back: the variable and its new value, of one shape and dtype.
pub type BufferUpdate = (Var, Tensor);

thread_local! {
    /// The writes that are held back, where somebody asked for it.
    static DEFERRED: RefCell<Option<Vec<BufferUpdate>>> = const { RefCell::new(None) };
}

/// Runs `f` without letting it write to buffers; gives its result and the writes, at most one for each buffer. To make
/// them is the caller's business, once it knows that the step is taken.
///
/// ```
/// use autocast::{defer_buffers, nn};
/// # use candle_core::{DType, Device, Tensor};
///
/// # let of = |value: f64| Tensor::full(value as f32, 2, &Device::Cpu);
/// let norm = nn::BatchNorm::new_no_bias(2, of(0.)?, of(1.)?, 1e-5)?;
/// let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let (output, updates) = defer_buffers(|| norm.forward_train(&x));
/// output?;
/// assert_eq!(norm.running_mean().to_vec1::<f32>()?, [0., 0.]);
/// for (buffer, value) in updates {
///     buffer.set(&value)?;
/// }
/// assert_eq!(norm.running_mean().to_vec1::<f32>()?, [0.2, 0.3]);
/// # Ok::<(), autocast::Error>(())
/// ```
pub fn defer_buffers<R>(f: impl FnOnce() -> R) -> (R, Vec<BufferUpdate>) {
    defer_buffers_after(Vec::new(), f)
}

/// [`defer_buffers`] after writes that are held back already, for a step over several forward passes: layers go on from
/// these, and they are among the writes that it gives.
pub fn defer_buffers_after<R>(held: Vec<BufferUpdate>, f: impl FnOnce() -> R) -> (R, Vec<BufferUpdate>) {
    /// Puts back what was held back outside, also where `f` panics.
    struct Restore(Option<Vec<BufferUpdate>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DEFERRED.set(self.0.take());
        }
    }
    let _restore = Restore(DEFERRED.replace(Some(held)));
    let result = f();
    (result, DEFERRED.take().unwrap_or_default())
}

/// Writes `next(now)` to `buffer`, at once or when [`defer_buffers`] hands it out; nothing in [`Mode::Evaluate`]. `now`
/// counts the writes that are held back.
pub(crate) fn write(buffer: &Var, next: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<()> {
    if mode() == Mode::Evaluate {
        return Ok(());
    }
    let held = DEFERRED.with_borrow(|deferred| {
        let writes = deferred.as_ref()?;
        let earlier = writes.iter().find(|(held, _)| held.id() == buffer.id());
        Some(earlier.map_or_else(|| buffer.as_detached_tensor(), |(_, value)| value.clone()))
    });
    match held {
        None => buffer.set(&next(&buffer.as_detached_tensor())?).map_err(Error::from),
        Some(now) => {
            let value = next(&now)?;
            DEFERRED.with_borrow_mut(|deferred| {
                let writes = deferred.get_or_insert_default();
                writes.retain(|(held, _)| held.id() != buffer.id());
                writes.push((buffer.clone(), value));
            });
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn writes_after_others_go_on_from_them() -> Result<()> {
        let buffer = Var::new(1f32, &Device::Cpu)?;
        let double = || write(&buffer, |now| Ok((now * 2.)?));
        let (result, held) = defer_buffers(double);
        result?;
        let (result, held) = defer_buffers_after(held, double);
        result?;
        let [(_, value)] = &held[..] else { panic!("{held:?}") };
        assert_eq!((value.to_scalar::<f32>()?, buffer.to_scalar::<f32>()?), (4., 1.));
        Ok(())
    }
}
