//! What a norm that is one kernel each way is given, and what it keeps for its backward.

use backends::kernels::norm::{Gradients, Wanted};
use candle_core::{DType, Tensor};

use crate::graph::Backward;

/// Which parameters a norm has, after its input.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) weight: bool,
    pub(super) bias: bool,
}

/// A norm's inputs off the graph, as they are.
pub(super) struct Given {
    pub(super) x: Tensor,
    pub(super) weight: Option<Tensor>,
    pub(super) bias: Option<Tensor>,
    dtypes: Vec<DType>,
}

impl Given {
    pub(super) fn of(inputs: &[&Tensor], parts: Parts) -> Self {
        let plain = |input: usize| inputs[input].detach();
        Self {
            x: plain(0),
            weight: parts.weight.then(|| plain(1)),
            bias: parts.bias.then(|| plain(1 + usize::from(parts.weight))),
            dtypes: inputs.iter().map(|input| input.dtype()).collect(),
        }
    }

    /// What the backward needs of them.
    pub(super) fn saved(self, statistics: Tensor) -> Saved {
        let Self { x, weight, bias, dtypes } = self;
        Saved { x, weight, bias: bias.is_some(), statistics, dtypes }
    }
}

/// What a norm's backward takes from its forward.
pub(super) struct Saved {
    pub(super) x: Tensor,
    pub(super) weight: Option<Tensor>,
    bias: bool,
    pub(super) statistics: Tensor,
    /// Of the inputs.
    dtypes: Vec<DType>,
}

impl Saved {
    /// The gradients that are wanted, each in its input's dtype.
    pub(super) fn wanted(&self, cx: &Backward<'_>) -> Wanted {
        let has_weight = self.weight.is_some();
        let dtype_of = |has: bool, input: usize| (has && cx.wanted(input)).then(|| self.dtypes[input]);
        Wanted {
            x: dtype_of(true, 0),
            weight: dtype_of(has_weight, 1),
            bias: dtype_of(self.bias, 1 + usize::from(has_weight)),
        }
    }

    /// Gradients in the order of the inputs.
    pub(super) fn of_inputs(&self, Gradients { x, weight, bias }: Gradients) -> Vec<Option<Tensor>> {
        let parameters = [self.weight.as_ref().map(|_| weight), self.bias.then_some(bias)];
        std::iter::once(x).chain(parameters.into_iter().flatten()).collect()
    }
}
