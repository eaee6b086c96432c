//! A norm and its gradients in tensor ops. The backward normalises again from the input rather than keeping a wide copy of
//! it.

use backends::kernels::sum::Term;
use candle_core::Tensor;

use super::view::{Centre, View};
use crate::Result;
use crate::graph::wide;
use crate::ops::shape::broadcast::sum_to;
use crate::plain::{minus, over, plus, times};
use crate::total::{centred, quotient_of, total, total_f64};

/// A norm of a view.
pub(super) struct Norm {
    pub(super) view: View,
    pub(super) centre: Centre,
    /// Added to the mean square.
    pub(super) eps: f64,
}

impl Norm {
    pub(super) fn forward(
        &self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (y, _) = self.normalized(x)?;
        let mut y = y.reshape(&*self.view.affine)?;
        if let Some(weight) = weight {
            y = times(&y, &self.parameter(weight)?)?;
        }
        if let Some(bias) = bias {
            y = plus(&y, &self.parameter(bias)?)?;
        }
        Ok(y.reshape(x.dims())?.to_dtype(x.dtype())?)
    }

    /// The gradients of input and weight; one that is not wanted means nothing.
    pub(super) fn backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        weight: Option<&Tensor>,
        wanted: [bool; 2],
    ) -> Result<(Tensor, Tensor)> {
        let (normalized, rms) = self.normalized(x)?;
        let length = self.view.rows[1];
        let mut dy = grad.reshape(&self.view.rows)?;
        let mut dw = dy.clone();
        if let Some(weight) = weight {
            if wanted[1] {
                dw = self.sum_to_weight(&times(&dy, &normalized)?)?;
            }
            dy = times(&dy.reshape(&*self.view.affine)?, &self.parameter(weight)?)?;
            dy = dy.reshape(&self.view.rows)?;
        }
        if !wanted[0] {
            return Ok((dy, dw));
        }
        let along = quotient_of(&total(&times(&dy, &normalized)?, &[1])?, length as f64)?;
        if self.centre == Centre::Mean {
            dy = centred(&dy, &[1], length)?;
        }
        let dx = over(&minus(&dy, &times(&normalized, &along)?)?, &rms)?;
        Ok((dx.reshape(x.dims())?, dw))
    }

    /// The rows of `x`, normalised, and what each was divided by.
    fn normalized(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let [x] = wide([x])?;
        let rows = x.reshape(&self.view.rows)?;
        let length = self.view.rows[1];
        let rows = match self.centre {
            Centre::Mean => centred(&rows, &[1], length)?,
            Centre::Zero => rows,
        };
        // In f64, whose squares of f32 neither overflow nor vanish.
        let mean_square = quotient_of(&total_f64(&rows, &[1], Term::Square)?, length as f64)?;
        let rms = (mean_square + self.eps)?.sqrt()?.to_dtype(rows.dtype())?;
        Ok((over(&rows, &rms)?, rms))
    }

    fn parameter(&self, parameter: &Tensor) -> Result<Tensor> {
        let [parameter] = wide([parameter])?;
        Ok(parameter.reshape(&*self.view.weight)?)
    }

    pub(super) fn sum_to_weight(&self, grad: &Tensor) -> Result<Tensor> {
        let summed = sum_to(&grad.reshape(&*self.view.affine)?, &self.view.weight)?;
        Ok(summed.reshape(&*self.view.weight_dims)?)
    }
}
