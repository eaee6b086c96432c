//! What users of `optim` meet, in one binary, which is linked once.

mod candle_nn;
mod low_precision;
mod other_states;
mod saved_state;
mod schedules;
mod settings;
mod torch_reference;
