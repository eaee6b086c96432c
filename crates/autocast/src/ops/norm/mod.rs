//! Norms. Statistics are f32 (f64 for f64).

pub(crate) mod batch_norm;
mod by_channel;
mod formula;
mod groups;
mod layer_norm;
pub(crate) mod normalize;
mod rows;
mod saved;
pub(crate) mod view;

pub use batch_norm::{
    BatchNormOutput, batch_norm_add_relu, batch_norm_eval, batch_norm_relu, batch_norm_train,
};
pub use layer_norm::{group_norm, layer_norm, rms_norm};
