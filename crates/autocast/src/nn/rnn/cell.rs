//! What the recurrent layers have in common: parameters, their casts, and the steps of a sequence.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::Error;
use crate::dtypes::same_dtype;
use crate::ops::products::linear::affine_map;
use crate::ops::shape::empty::without_gradient;
use crate::ops::shape::size::check_size;
use crate::region::{cast_slice, widen};

/// The parameters of one layer with `GATES` gates.
#[derive(Debug, Clone)]
pub(super) struct Cell<const GATES: usize> {
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Option<Tensor>,
    b_hh: Option<Tensor>,
    hidden: usize,
    device: Device,
    dtype: DType,
}

/// The initial values of a cell's parameters.
pub(super) struct Inits {
    pub(super) w_ih: Init,
    pub(super) w_hh: Init,
    pub(super) b_ih: Option<Init>,
    pub(super) b_hh: Option<Init>,
}

impl<const GATES: usize> Cell<GATES> {
    /// Parameters named `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0` and `bias_hh_l0`, for a `suffix` of `l0`.
    pub(super) fn new(
        in_dim: usize,
        hidden: usize,
        inits: Inits,
        suffix: &str,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let rows = GATES.saturating_mul(hidden);
        for width in [in_dim, hidden] {
            check_size("the recurrent layer", &[rows, width], vb.dtype())?;
        }
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
    pub(super) fn prepared<const N: usize>(
        &self,
        op: &str,
        input: &Tensor,
        states: [&Tensor; N],
    ) -> Result<(Self, Tensor, [Tensor; N])> {
        let mut named = vec![("input", input), ("weight_ih", &self.w_ih), ("weight_hh", &self.w_hh)];
        named.extend(states.map(|state| ("state", state)));
        named.extend(self.b_ih.iter().map(|bias| ("bias_ih", bias)));
        named.extend(self.b_hh.iter().map(|bias| ("bias_hh", bias)));
        let (names, tensors): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        let cast = cast_slice(op, &tensors)?;
        same_dtype(op, names.into_iter().zip(&cast))?;
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
    pub(super) fn input_part(&self, op: &str, input: &Tensor) -> Result<Tensor> {
        Ok(affine_map(op, input, &self.w_ih, self.b_ih.as_ref())?)
    }

    /// What the state contributes to the gates.
    pub(super) fn state_part(&self, op: &str, state: &Tensor) -> Result<Tensor> {
        Ok(affine_map(op, state, &self.w_hh, self.b_hh.as_ref())?)
    }

    /// The next state of a batch without elements, which `from_input`, `states` and all parameters lead to.
    pub(super) fn empty_state<const N: usize>(
        &self,
        op: &'static str,
        from_input: &Tensor,
        states: [&Tensor; N],
    ) -> Result<Tensor> {
        let mut inputs = vec![from_input, &self.w_ih, &self.w_hh];
        inputs.extend(states);
        inputs.extend(&self.b_ih);
        inputs.extend(&self.b_hh);
        let zeros = Tensor::zeros(states[0].dims(), states[0].dtype(), states[0].device())?;
        Ok(without_gradient(op, &inputs, zeros)?)
    }

    pub(super) fn zeros(&self, batch: usize) -> Result<Tensor> {
        Tensor::zeros((batch, self.hidden), self.dtype, &self.device)
    }

    pub(super) fn gates(&self, t: &Tensor) -> Result<[Tensor; GATES]> {
        let t = widen(t)?;
        let mut gates = Vec::with_capacity(GATES);
        for gate in 0..GATES {
            gates.push(t.narrow(D::Minus1, gate * self.hidden, self.hidden)?);
        }
        Ok(gates.try_into().expect("one part per gate"))
    }

    /// A state that fits a batch of inputs.
    pub(super) fn check_state(&self, op: &str, batch: usize, state: &Tensor) -> Result<()> {
        match state.dims() == [batch, self.hidden] {
            true => Ok(()),
            false => {
                Err(Error::shape(op, "state", state.dims(), format!("[{batch}, {}]", self.hidden)).into())
            }
        }
    }
}

/// `(batch, T, width)` as T tensors `(batch, width)`. By halves: the gradient of a part is padded to the size of what it
/// was taken from, which costs T² when each step is taken from the whole.
pub(super) fn steps(sequence: &Tensor) -> Result<Vec<Tensor>> {
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

fn steps_of_half(sequence: &Tensor, start: usize, len: usize) -> Result<Vec<Tensor>> {
    steps(&sequence.narrow(1, start, len)?)
}

/// The states of single steps, `(batch, hidden)`, as `(batch, T, hidden)`.
pub(super) fn joined<'a>(op: &str, states: impl Iterator<Item = &'a Tensor>) -> Result<Tensor> {
    let states: Vec<_> = states.collect();
    if states.is_empty() {
        return Err(Error::argument(op, "states", "an empty list", "the states of at least one step").into());
    }
    Tensor::stack(&states, 1)
}

pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::sigmoid(x)
}
