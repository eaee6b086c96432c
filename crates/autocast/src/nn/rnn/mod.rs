//! Recurrent layers: [`Lstm`] and [`Gru`], with candle-nn's configs, states and [`RNN`](candle_nn::RNN) trait. The
//! products run in the region's dtype, the gates in f32 (f64 for f64).

mod cell;
mod gru;
mod lstm;

pub use gru::{Gru, gru};
pub use lstm::{Lstm, lstm};
