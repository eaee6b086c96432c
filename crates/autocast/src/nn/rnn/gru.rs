//! [`Gru`].

use candle_core::{Result, Tensor};
use candle_nn::rnn::GRUState;
use candle_nn::{GRUConfig, RNN, VarBuilder};

use super::cell::{Cell, Inits, joined, sigmoid, steps};
use crate::region::widen;

/// A gated recurrent layer.
#[derive(Debug, Clone)]
pub struct Gru {
    cell: Cell<3>,
    config: GRUConfig,
}

impl Gru {
    const OP: &'static str = "gru";

    /// A layer with the parameters `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and `bias_hh_l0`.
    ///
    /// # Errors
    ///
    /// What `vb` reports: a missing parameter or a wrong shape.
    pub fn new(in_dim: usize, hidden_dim: usize, config: GRUConfig, vb: VarBuilder) -> Result<Self> {
        let inits = Inits {
            w_ih: config.w_ih_init,
            w_hh: config.w_hh_init,
            b_ih: config.b_ih_init,
            b_hh: config.b_hh_init,
        };
        Ok(Self { cell: Cell::new(in_dim, hidden_dim, inits, "l0", &vb)?, config })
    }

    /// What the layer was made from.
    pub fn config(&self) -> &GRUConfig {
        &self.config
    }

    /// One step from the contribution of the input.
    fn advance(cell: &Cell<3>, from_input: &Tensor, h: &Tensor) -> Result<GRUState> {
        if h.elem_count() == 0 {
            return Ok(GRUState { h: cell.empty_state(Self::OP, from_input, [h])? });
        }
        let [reset_x, update_x, new_x] = cell.gates(from_input)?;
        let [reset_h, update_h, new_h] = cell.gates(&cell.state_part(Self::OP, h)?)?;
        let reset = sigmoid(&reset_x.add(&reset_h)?)?;
        let update = sigmoid(&update_x.add(&update_h)?)?;
        let new = new_x.add(&reset.mul(&new_h)?)?.tanh()?;
        // (1 - z) · n + z · h
        let next = new.add(&update.mul(&widen(h)?.sub(&new)?)?)?;
        Ok(GRUState { h: next.to_dtype(h.dtype())? })
    }
}

impl RNN for Gru {
    type State = GRUState;

    fn zero_state(&self, batch: usize) -> Result<GRUState> {
        Ok(GRUState { h: self.cell.zeros(batch)? })
    }

    fn step(&self, input: &Tensor, state: &GRUState) -> Result<GRUState> {
        let (cell, input, [h]) = self.cell.prepared(Self::OP, input, [&state.h])?;
        cell.check_state(Self::OP, input.dims2()?.0, &h)?;
        Self::advance(&cell, &cell.input_part(Self::OP, &input)?, &h)
    }

    fn seq_init(&self, input: &Tensor, state: &GRUState) -> Result<Vec<GRUState>> {
        let (cell, input, [h]) = self.cell.prepared(Self::OP, input, [&state.h])?;
        cell.check_state(Self::OP, input.dims3()?.0, &h)?;
        let mut state = GRUState { h };
        let mut states = Vec::new();
        for from_input in steps(&cell.input_part(Self::OP, &input)?)? {
            state = Self::advance(&cell, &from_input, &state.h)?;
            states.push(state.clone());
        }
        Ok(states)
    }

    /// The hidden states as `(batch, T, hidden)`. (candle-nn joins them to `(batch, T · hidden)`.)
    fn states_to_tensor(&self, states: &[GRUState]) -> Result<Tensor> {
        joined(Self::OP, states.iter().map(|state| &state.h))
    }
}

/// A layer as [`Gru::new`] makes it.
///
/// # Errors
///
/// What `vb` reports: a missing parameter or a wrong shape.
pub fn gru(in_dim: usize, hidden_dim: usize, config: GRUConfig, vb: VarBuilder) -> Result<Gru> {
    Gru::new(in_dim, hidden_dim, config, vb)
}
