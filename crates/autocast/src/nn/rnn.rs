//! Recurrent layers: [`Lstm`] and [`Gru`], with candle-nn's configs, states and [`RNN`] trait. The products run in the
//! region's dtype, the gates in f32 (f64 for f64).

use candle_core::{D, DType, Device, Tensor};
use candle_nn::rnn::{Direction, GRUState, LSTMState};
use candle_nn::{GRUConfig, Init, LSTMConfig, RNN, VarBuilder};

use crate::ops::linear::affine_map;
use crate::prepare::{cast_slice, same_dtype, widen};
use crate::{Error, Result};

/// The parameters of one layer with `GATES` gates.
#[derive(Debug, Clone)]
struct Cell<const GATES: usize> {
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Option<Tensor>,
    b_hh: Option<Tensor>,
    hidden: usize,
    device: Device,
    dtype: DType,
}

/// The initial values of a cell's parameters.
struct Inits {
    w_ih: Init,
    w_hh: Init,
    b_ih: Option<Init>,
    b_hh: Option<Init>,
}

impl<const GATES: usize> Cell<GATES> {
    /// Parameters named `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and `bias_hh_l0`, for a `suffix` of `l0`.
    fn new(in_dim: usize, hidden: usize, inits: Inits, suffix: &str, vb: &VarBuilder) -> Result<Self> {
        let rows = GATES * hidden;
        let weight = |width: usize, name: &str, init: Init| {
            vb.get_with_hints((rows, width), &format!("weight_{name}_{suffix}"), init)
        };
        let bias = |name: &str, init: Option<Init>| {
            init.map(|init| vb.get_with_hints(rows, &format!("bias_{name}_{suffix}"), init)).transpose()
        };
        Ok(Self {
            w_ih: weight(in_dim, "ih", inits.w_ih)?,
            w_hh: weight(hidden, "hh", inits.w_hh)?,
            b_ih: bias("ih", inits.b_ih)?,
            b_hh: bias("hh", inits.b_hh)?,
            hidden,
            device: vb.device().clone(),
            dtype: vb.dtype(),
        })
    }

    /// `input`, `states` and the parameters as the region wants them for `op`, of one dtype.
    fn prepared<const N: usize>(
        &self,
        op: &str,
        input: &Tensor,
        states: [&Tensor; N],
    ) -> Result<(Self, Tensor, [Tensor; N])> {
        let mut tensors = vec![input, &self.w_ih, &self.w_hh];
        tensors.extend(states);
        tensors.extend(&self.b_ih);
        tensors.extend(&self.b_hh);
        let cast = cast_slice(op, &tensors)?;
        same_dtype(op, &cast.iter().collect::<Vec<_>>())?;
        let mut cast = cast.into_iter();
        let mut next = || cast.next().expect("as many tensors come out as went in");
        let (input, w_ih, w_hh) = (next(), next(), next());
        let states = states.map(|_| next());
        let b_ih = self.b_ih.as_ref().map(|_| next());
        let b_hh = self.b_hh.as_ref().map(|_| next());
        let cell = Self { w_ih, w_hh, b_ih, b_hh, device: self.device.clone(), ..*self };
        Ok((cell, input, states))
    }

    /// What the input contributes to the gates.
    fn input_part(&self, op: &str, input: &Tensor) -> Result<Tensor> {
        affine_map(op, input, &self.w_ih, self.b_ih.as_ref())
    }

    /// What the state contributes to the gates.
    fn state_part(&self, op: &str, state: &Tensor) -> Result<Tensor> {
        affine_map(op, state, &self.w_hh, self.b_hh.as_ref())
    }

    fn zeros(&self, batch: usize) -> candle_core::Result<Tensor> {
        Tensor::zeros((batch, self.hidden), self.dtype, &self.device)
    }

    fn gates(&self, t: &Tensor) -> Result<[Tensor; GATES]> {
        let t = widen(t)?;
        let mut gates = Vec::with_capacity(GATES);
        for gate in 0..GATES {
            gates.push(t.narrow(D::Minus1, gate * self.hidden, self.hidden)?);
        }
        Ok(gates.try_into().expect("one part per gate"))
    }

    /// A state that fits a batch of inputs.
    fn check_state(&self, op: &str, batch: usize, state: &Tensor) -> Result<()> {
        match state.dims() == [batch, self.hidden] {
            true => Ok(()),
            false => {
                Err(Error::shape(op, format!("a state of shape ({batch}, {})", self.hidden), state.dims()))
            }
        }
    }
}

/// `(batch, T, width)` as T tensors `(batch, width)`. By halves: the gradient of a part is padded to the size of what it
/// was taken from, which costs T² when each step is taken from the whole.
fn steps(sequence: &Tensor) -> candle_core::Result<Vec<Tensor>> {
    match sequence.dim(1)? {
        0 => Ok(Vec::new()),
        1 => Ok(vec![sequence.squeeze(1)?]),
        count => {
            let mut steps = steps_of_half(sequence, 0, count / 2)?;
            steps.extend(steps_of_half(sequence, count / 2, count - count / 2)?);
            Ok(steps)
        }
    }
}

fn steps_of_half(sequence: &Tensor, start: usize, len: usize) -> candle_core::Result<Vec<Tensor>> {
    steps(&sequence.narrow(1, start, len)?)
}

fn sigmoid(x: &Tensor) -> candle_core::Result<Tensor> {
    candle_nn::ops::sigmoid(x)
}

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

    fn zero_state(&self, batch: usize) -> candle_core::Result<LSTMState> {
        let zeros = self.cell.zeros(batch)?;
        Ok(LSTMState { h: zeros.clone(), c: zeros })
    }

    fn step(&self, input: &Tensor, state: &LSTMState) -> candle_core::Result<LSTMState> {
        let (cell, input, [h, c]) = self.cell.prepared(Self::OP, input, [&state.h, &state.c])?;
        let batch = input.dims2()?.0;
        cell.check_state(Self::OP, batch, &h)?;
        cell.check_state(Self::OP, batch, &c)?;
        Ok(Self::advance(&cell, &cell.input_part(Self::OP, &input)?, &LSTMState { h, c })?)
    }

    fn seq_init(&self, input: &Tensor, state: &LSTMState) -> candle_core::Result<Vec<LSTMState>> {
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

    fn states_to_tensor(&self, states: &[LSTMState]) -> candle_core::Result<Tensor> {
        Tensor::stack(&states.iter().map(|state| &state.h).collect::<Vec<_>>(), 1)
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

    fn zero_state(&self, batch: usize) -> candle_core::Result<GRUState> {
        Ok(GRUState { h: self.cell.zeros(batch)? })
    }

    fn step(&self, input: &Tensor, state: &GRUState) -> candle_core::Result<GRUState> {
        let (cell, input, [h]) = self.cell.prepared(Self::OP, input, [&state.h])?;
        cell.check_state(Self::OP, input.dims2()?.0, &h)?;
        Ok(Self::advance(&cell, &cell.input_part(Self::OP, &input)?, &h)?)
    }

    fn seq_init(&self, input: &Tensor, state: &GRUState) -> candle_core::Result<Vec<GRUState>> {
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
    fn states_to_tensor(&self, states: &[GRUState]) -> candle_core::Result<Tensor> {
        Tensor::stack(&states.iter().map(|state| &state.h).collect::<Vec<_>>(), 1)
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
