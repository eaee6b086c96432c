//! [`Lstm`].

use candle_core::{Result, Tensor};
use candle_nn::rnn::{Direction, LSTMState};
use candle_nn::{LSTMConfig, RNN, VarBuilder};

use super::cell::{Cell, Inits, joined, sigmoid, steps};
use crate::region::widen;

/// A long short-term memory layer.
#[derive(Debug, Clone)]
pub struct Lstm {
    cell: Cell<4>,
    config: LSTMConfig,
}

impl Lstm {
    const OP: &'static str = "lstm";

    /// A layer with the parameters `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and `bias_hh_l0`; the config's layer
    /// stands for the 0, and a backward direction adds `_reverse`.
    ///
    /// # Errors
    ///
    /// What `vb` reports: a missing parameter or a wrong shape.
    pub fn new(in_dim: usize, hidden_dim: usize, config: LSTMConfig, vb: VarBuilder) -> Result<Self> {
        let direction = match config.direction {
            Direction::Forward => "",
            Direction::Backward => "_reverse",
        };
        let inits = Inits {
            w_ih: config.w_ih_init,
            w_hh: config.w_hh_init,
            b_ih: config.b_ih_init,
            b_hh: config.b_hh_init,
        };
        let suffix = format!("l{}{direction}", config.layer_idx);
        Ok(Self { cell: Cell::new(in_dim, hidden_dim, inits, &suffix, &vb)?, config })
    }

    /// What the layer was made from.
    pub fn config(&self) -> &LSTMConfig {
        &self.config
    }

    /// One step from the contribution of the input.
    fn advance(cell: &Cell<4>, from_input: &Tensor, state: &LSTMState) -> Result<LSTMState> {
        if state.h.elem_count() == 0 {
            let empty = cell.empty_state(Self::OP, from_input, [&state.h, &state.c])?;
            return Ok(LSTMState { h: empty.clone(), c: empty });
        }
        let dtype = state.h.dtype();
        let from_state = cell.state_part(Self::OP, &state.h)?;
        let [input, forget, candidate, output] =
            cell.gates(&widen(from_input)?.add(&widen(&from_state)?)?)?;
        let kept = sigmoid(&forget)?.mul(&widen(&state.c)?)?;
        let added = sigmoid(&input)?.mul(&candidate.tanh()?)?;
        let c = kept.add(&added)?;
        let h = sigmoid(&output)?.mul(&c.tanh()?)?;
        Ok(LSTMState { h: h.to_dtype(dtype)?, c: c.to_dtype(dtype)? })
    }
}

impl RNN for Lstm {
    type State = LSTMState;

    fn zero_state(&self, batch: usize) -> Result<LSTMState> {
        let zeros = self.cell.zeros(batch)?;
        Ok(LSTMState { h: zeros.clone(), c: zeros })
    }

    fn step(&self, input: &Tensor, state: &LSTMState) -> Result<LSTMState> {
        let (cell, input, [h, c]) = self.cell.prepared(Self::OP, input, [&state.h, &state.c])?;
        let batch = input.dims2()?.0;
        cell.check_state(Self::OP, batch, &h)?;
        cell.check_state(Self::OP, batch, &c)?;
        Self::advance(&cell, &cell.input_part(Self::OP, &input)?, &LSTMState { h, c })
    }

    fn seq_init(&self, input: &Tensor, state: &LSTMState) -> Result<Vec<LSTMState>> {
        let (cell, input, [h, c]) = self.cell.prepared(Self::OP, input, [&state.h, &state.c])?;
        let batch = input.dims3()?.0;
        cell.check_state(Self::OP, batch, &h)?;
        cell.check_state(Self::OP, batch, &c)?;
        let mut state = LSTMState { h, c };
        let mut states = Vec::new();
        // One product for all steps of the input; only the state's has to wait.
        for from_input in steps(&cell.input_part(Self::OP, &input)?)? {
            state = Self::advance(&cell, &from_input, &state)?;
            states.push(state.clone());
        }
        Ok(states)
    }

    fn states_to_tensor(&self, states: &[LSTMState]) -> Result<Tensor> {
        joined(Self::OP, states.iter().map(|state| &state.h))
    }
}

/// A layer as [`Lstm::new`] makes it.
///
/// # Errors
///
/// What `vb` reports: a missing parameter or a wrong shape.
pub fn lstm(in_dim: usize, hidden_dim: usize, config: LSTMConfig, vb: VarBuilder) -> Result<Lstm> {
    Lstm::new(in_dim, hidden_dim, config, vb)
}
