//! The graph under candle's tensors. An op of this crate is a [`Node`] that holds its inputs and what it saved; candle sees
//! its value as a custom op whose backward is the border between the two graphs. Start at [`record`], which makes a node, and
//! at [`backward`](crate::backward), which walks from a loss.
//!
//! - Nodes are walked by creation, newest first, so that each has its whole gradient when its turn comes; what only the walk
//!   still holds is released as it goes on. Neither the walk nor a release recurses.
//! - A view of a value or of a parameter (reshape, transpose, permute, narrow, squeeze, broadcast) is known by its storage
//!   and layout, and is no node.
//! - Any other candle op in between is differentiated by candle, seeded with the gradient that has come so far.
//!
//! ```
//! use autocast::graph::{Backward, Op, record};
//! use autocast::{Result, backward};
//! use candle_core::{Device, Tensor, Var};
//!
//! struct Cube {
//!     x: Tensor,
//! }
//!
//! impl Op for Cube {
//!     fn name(&self) -> &'static str {
//!         "cube"
//!     }
//!     fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
//!         Ok(vec![Some((cx.grad() * (self.x.sqr()? * 3.)?)?)])
//!     }
//! }
//!
//! fn cube(x: &Tensor) -> Result<Tensor> {
//!     let plain = x.detach();
//!     let value = (plain.sqr()? * &plain)?;
//!     record(Cube { x: plain }, &[x], value)
//! }
//!
//! let x = Var::new(2f32, &Device::Cpu)?;
//! let grads = backward(cube(&x)?)?;
//! assert_eq!(grads.get(&x).map(|grad| grad.to_scalar::<f32>()).transpose()?, Some(12.));
//! # Ok::<(), autocast::Error>(())
//! ```

mod anomaly;
mod border;
mod composed;
mod finals;
mod foreign;
mod gradients;
mod held;
mod node;
mod record;
mod registry;
mod stack;
mod view;
mod walk;

pub use anomaly::{Anomaly, Pass, detect_anomaly};
pub(crate) use composed::{Call, Keep, composed, wide};
pub use finals::OnFinal;
pub use node::{Attribute, Backward, Input, Node, Op};
pub use record::{Value, record};
pub use stack::deep_stack;
pub(crate) use walk::walk;
