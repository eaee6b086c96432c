//! Autocast for candle: inside a region, each op runs in the dtype that PyTorch would choose for it.
//!
//! - [`OpTable`] says which dtype that is, as data that can be read and changed.
//! - [`Autocast`] is the region, entered by guard or closure; [`no_grad`] runs ops without recording a graph, and
//!   [`with_mode`] says whether layers train or are used.
//! - [`ops`] are differentiable functions that follow the region, [`nn`] layers made of them, and [`cast_inputs`] lets an op
//!   of your own take part.
//! - [`backward`] differentiates graphs of any depth, and [`ComplexTensor`] is complex64 or complex128.
//!
//! The crate leaves the loss's scale and the update of parameters to others.
//!
//! ```
//! use autocast::{Autocast, backward, ops};
//! use candle_core::{DType, Device, Tensor, Var};
//! use precision_types::Accelerator;
//!
//! let weight = Var::randn(0f32, 1f32, (4, 3), &Device::Cpu)?;
//! let x = Tensor::randn(0f32, 1f32, (2, 3), &Device::Cpu)?;
//!
//! let autocast = Autocast::new(Accelerator::Cpu, DType::BF16)?;
//! let loss = autocast.run(|| -> autocast::Result<Tensor> {
//!     let y = ops::linear(&x, &weight, None)?;
//!     assert_eq!(y.dtype(), DType::BF16);
//!     Ok(y.to_dtype(DType::F32)?.sqr()?.mean_all()?)
//! })?;
//!
//! // The parameter is f32, and so is its gradient.
//! let grads = backward(loss)?;
//! assert_eq!(grads.get(&weight).map(|grad| grad.dtype()), Some(DType::F32));
//! # Ok::<(), autocast::Error>(())
//! ```

mod backward;
mod buffers;
mod complex;
mod dtypes;
mod error;
pub mod graph;
mod machine;
mod memory;
pub mod nn;
pub mod ops;
mod plain;
pub mod random;
mod recording;
mod region;
mod table;
mod total;

pub use backends::algorithms::{AlgorithmChoice, algorithm_choice, set_algorithm_choice};
pub use backward::{backward, backward_with, constant_gradients, narrow_gradients};
pub use buffers::{BufferUpdate, defer_buffers, defer_buffers_after};
pub use complex::{ComplexTensor, complex_dtype};
pub use error::{Error, Result};
pub use graph::{Anomaly, deep_stack, detect_anomaly};
pub use machine::{has_fast_product, join_host_threads, keep_host_memory, release_host_memory, to_device};
pub use memory::{DeviceMemory, device_memory, reset_peak_memory};
pub use recording::{RecordedStep, Recording, record_step, rehearse_step};
pub use region::{
    Autocast, CachePolicy, CacheStats, Mode, RegionGuard, cache_stats, cast_inputs, cast_slice, cast_to,
    fast_ops, mode, no_grad, parameters_changed, with_mode,
};
pub use table::{CastRule, OpTable};
