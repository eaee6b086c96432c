//! Convolutions by a kernel, where one takes them: the value and both gradients from operands as they lie.

use backends::bridge::Call;
use backends::buffer::Ran;
use backends::kernels::add::add_row;
use backends::kernels::convolution::{
    Channels, Moves, by_library, image_gradient_of, kernel_gradient_of, laid_for_speed, values_of,
    values_plus_of,
};
use backends::kernels::relayout::{relaid, widened};
use candle_core::Tensor;

use super::convolution::Padding;
use super::correlation::{Steps, correlate, kernel_gradient, spread};
use crate::graph::{Attribute, Backward, Op, Value, record};
use crate::ops::pointwise::bias::add_bias;
use crate::ops::shape::broadcast::sum_to_vector;
use crate::ops::shape::layout::{channels_last, channels_second};
use crate::{Error, Result};

/// The channels that tensor cores read at a time, in 16 bits.
const WIDE: usize = 8;

/// Which of the three maps the value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// A convolution: the correlation of the input with the weight.
    Correlation,
    /// A transposed one: what the input spreads.
    Spread,
}

/// A convolution of images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Engine {
    pub(super) op: &'static str,
    pub(super) map: Map,
    pub(super) steps: Steps,
    pub(super) padding: Padding,
}

impl Engine {
    fn moves(self) -> Moves {
        let Steps { stride, dilation, .. } = self.steps;
        Moves { padding: self.padding.both(), stride: [stride; 2], dilation: [dilation; 2] }
    }

    /// The value of these dimensions with its bias, where a kernel takes the call.
    pub(super) fn value(
        self,
        input: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        dims: [usize; 4],
    ) -> Result<Option<Tensor>> {
        if dims.contains(&0) || input.elem_count() == 0 || weight.elem_count() == 0 {
            return Ok(None);
        }
        let (image, kernel) = match self.wide(input, weight)? {
            Some(wide) => wide,
            None => (laid_for_speed(input)?, laid_for_speed(weight)?),
        };
        let sum = match bias {
            Some(bias) => self.with_bias(&image, &kernel, bias, dims)?,
            None => None,
        };
        let summed = sum.is_some();
        let Some(value) = sum.map_or_else(|| self.mapped(&image, &kernel, dims), |sum| Ok(Some(sum)))? else {
            return Ok(None);
        };
        let lies = if value.is_contiguous() { Lies::Second } else { Lies::Last };
        let value = lies.laid(value)?;
        let op = By { engine: self, image, kernel, lies, bias: false, channels: input.dim(1)? };
        match bias {
            Some(bias)
                if summed || lies == Lies::Last && matches!(add_row(&value, bias)?, Ran::Kernel(_)) =>
            {
                let made = record(By { bias: true, ..op }, &[input, weight, bias], Value::fresh(value))?;
                Ok(Some(lies.seen(made)?))
            }
            Some(bias) => {
                let made = lies.seen(record(op, &[input, weight], Value::fresh(value))?)?;
                Ok(Some(add_bias(&made, bias, 1)?))
            }
            None => Ok(Some(lies.seen(record(op, &[input, weight], Value::fresh(value))?)?)),
        }
    }

    /// Both with zeros for channels up to eight, which tensor cores read at a time: images have one or three.
    fn wide(self, input: &Tensor, weight: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        let narrow = input.dtype().size_in_bytes() == 2 && self.steps.groups == 1;
        if self.map != Map::Correlation || !narrow || input.dim(1)? >= WIDE || !by_library(input) {
            return Ok(None);
        }
        Ok(widened(input, WIDE)?.zip(widened(weight, WIDE)?))
    }

    /// The value with its bias, where one kernel makes both.
    fn with_bias(
        self,
        input: &Tensor,
        kernel: &Tensor,
        bias: &Tensor,
        dims: [usize; 4],
    ) -> Result<Option<Tensor>> {
        if self.map != Map::Correlation {
            return Ok(None);
        }
        Ok(values_plus_of(self.moves(), input, kernel, &bias.detach(), dims)?.ran())
    }

    fn mapped(self, input: &Tensor, kernel: &Tensor, dims: [usize; 4]) -> Result<Option<Tensor>> {
        let call = match self.map {
            Map::Correlation => values_of(self.moves(), input, kernel, dims)?,
            Map::Spread => image_gradient_of(self.moves(), input, kernel, dims)?,
        };
        Ok(call.ran())
    }

    fn input_grad(self, grad: &Tensor, input: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        let dims = input.dims4()?;
        let dims = [dims.0, dims.1, dims.2, dims.3];
        let call = match self.map {
            Map::Correlation => image_gradient_of(self.moves(), grad, kernel, dims)?,
            Map::Spread => values_of(self.moves(), grad, kernel, dims)?,
        };
        if let Call::Ran(made) = call {
            return Ok(made);
        }
        let (height, width) = (dims[2], dims[3]);
        Ok(match self.map {
            Map::Correlation => {
                let [rows, columns] = self.padding.both();
                let size = (height + 2 * rows, width + 2 * columns);
                self.padding.cropped(&spread(grad, kernel, size, self.steps)?)?
            }
            Map::Spread => {
                let made = correlate(&self.padding.padded(grad)?, kernel, self.steps)?;
                made.narrow(2, 0, height)?.narrow(3, 0, width)?
            }
        })
    }

    fn weight_grad(self, grad: &Tensor, input: &Tensor, kernel: &Tensor) -> Result<Tensor> {
        let (out, channels, kh, kw) = kernel.dims4()?;
        let (image, values) = match self.map {
            Map::Correlation => (input, grad),
            Map::Spread => (grad, input),
        };
        match kernel_gradient_of(self.moves(), image, values, [out, channels, kh, kw])? {
            Call::Ran(made) => Ok(made),
            Call::Composed(_) => {
                Ok(kernel_gradient(&self.padding.padded(image)?, values, (kh, kw), self.steps)?)
            }
        }
    }
}

/// How a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    Second,
    Last,
}

impl Lies {
    /// The dimension of the channels.
    fn channels(self) -> usize {
        if self == Self::Last { 3 } else { 1 }
    }

    /// An image as it lies.
    fn laid(self, image: Tensor) -> Result<Tensor> {
        Ok(if self == Self::Last { channels_last(&image)? } else { image })
    }

    /// What lies so as an image.
    fn seen(self, laid: Tensor) -> Result<Tensor> {
        Ok(if self == Self::Last { channels_second(&laid)? } else { laid })
    }
}

/// A convolution with its operands as they were read.
struct By {
    engine: Engine,
    image: Tensor,
    kernel: Tensor,
    lies: Lies,
    bias: bool,
    /// Of the input, which `image` may have more of.
    channels: usize,
}

impl Op for By {
    fn name(&self) -> &'static str {
        self.engine.op
    }

    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let Steps { stride, dilation, groups } = self.engine.steps;
        let padding = Attribute::from(&self.engine.padding.both()[..]);
        vec![
            ("padding", padding),
            ("stride", stride.into()),
            ("dilation", dilation.into()),
            ("groups", groups.into()),
        ]
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        let grad = self.lies.seen(cx.grad().clone())?;
        let (image, kernel) = (&self.image, &self.kernel);
        let input = cx.wanted(0).then(|| self.engine.input_grad(&grad, image, kernel)).transpose()?;
        let weight = cx.wanted(1).then(|| self.engine.weight_grad(&grad, image, kernel)).transpose()?;
        let narrow = |grad: Tensor| -> Result<Tensor> {
            let wide = image.dim(1)? > self.channels;
            Ok(if wide { grad.narrow(1, 0, self.channels)? } else { grad })
        };
        // A weight is an operand of products elsewhere, and a variable's gradient: it lies as it is counted.
        let weight = weight.map(|grad| relaid(&narrow(grad)?, Channels::Second).map_err(Error::from));
        let mut grads = vec![input.map(narrow).transpose()?, weight.transpose()?];
        if self.bias {
            grads.push(cx.wanted(2).then(|| sum_to_vector(cx.grad(), self.lies.channels())).transpose()?);
        }
        Ok(grads)
    }
}
