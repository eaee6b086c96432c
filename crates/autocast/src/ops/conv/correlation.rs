//! The three linear maps behind convolutions, transposed convolutions and their gradients, on untracked tensors:
//! cross-correlation of an image with a kernel, and its adjoints with respect to the image and to the kernel. Each
//! convolution is one of the first two, and its gradients are the other two.
//!
//! Images are `(batch, channels, height, width)` and come padded; kernels are `(out, in / groups, kh, kw)`. 16-bit
//! tensors are computed in f32 on a CPU (candle has no bf16 convolution there and accumulates f16 in f16) and with f32
//! accumulators on a GPU.

use backends::bridge::Call;
use backends::kernels::convolution::{Moves, image_gradient_of, kernel_gradient_of, values_of};
use candle_core::{Error, Result, Tensor};

use crate::dtypes::accumulation_dtype;

/// How a kernel moves over an image, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
}

impl Steps {
    /// How the kernel of a CPU moves, which takes images on which no more positions fit than there are values.
    fn on_host(
        self,
        operand: &Tensor,
        (height, width): (usize, usize),
        (kh, kw): (usize, usize),
        values: (usize, usize),
    ) -> Option<Moves> {
        let fits = (self.positions(height, kh), self.positions(width, kw)) == values;
        let Self { stride, dilation, .. } = self;
        let moves = Moves { padding: [0; 2], stride: [stride; 2], dilation: [dilation; 2] };
        (operand.device().is_cpu() && fits).then_some(moves)
    }

    /// The positions of a kernel of `kernel` taps along `size` pixels, none if it does not fit.
    pub(crate) fn positions(self, size: usize, kernel: usize) -> usize {
        match self.extent(1, kernel) {
            Some(span) if span <= size => (size - span) / self.stride + 1,
            _ => 0,
        }
    }

    /// The pixels that a kernel of `kernel` taps touches in `positions` positions, if they can be counted.
    pub(crate) fn extent(self, positions: usize, kernel: usize) -> Option<usize> {
        if positions == 0 {
            return Some(0);
        }
        let span = self.dilation.checked_mul(kernel - 1)?.checked_add(1)?;
        self.stride.checked_mul(positions - 1)?.checked_add(span)
    }
}

/// The correlation of `image` with `kernel`.
pub(crate) fn correlate(image: &Tensor, kernel: &Tensor, steps: Steps) -> Result<Tensor> {
    let (batch, _, height, width) = image.dims4()?;
    let (out, _, kh, kw) = kernel.dims4()?;
    let dims = [batch, out, steps.positions(height, kh), steps.positions(width, kw)];
    in_groups(image, 1, kernel, 0, dims, steps, |image, kernel| {
        if let Some(moves) = steps.on_host(image, (height, width), (kh, kw), (dims[2], dims[3])) {
            return ran(values_of(moves, image, kernel, [batch, kernel.dim(0)?, dims[2], dims[3]]));
        }
        image.conv2d(kernel, 0, steps.stride, steps.dilation, 1)
    })
}

/// Its adjoint for the image: what each position of `values` spreads over an image of `size` pixels.
pub(crate) fn spread(values: &Tensor, kernel: &Tensor, size: (usize, usize), steps: Steps) -> Result<Tensor> {
    let (batch, _, rows, columns) = values.dims4()?;
    let (_, channels, kh, kw) = kernel.dims4()?;
    let untouched = |size: usize, positions: usize, kernel: usize| {
        steps.extent(positions, kernel).map_or(0, |touched| size.saturating_sub(touched))
    };
    let behind = (untouched(size.0, rows, kh), untouched(size.1, columns, kw));
    let dims = [batch, channels * steps.groups, size.0, size.1];
    in_groups(values, 1, kernel, 0, dims, steps, |values, kernel| {
        if let Some(moves) = steps.on_host(values, size, (kh, kw), (rows, columns)) {
            return ran(image_gradient_of(moves, values, kernel, [batch, channels, size.0, size.1]));
        }
        let image = values.conv_transpose2d(kernel, 0, 0, steps.stride, steps.dilation)?;
        // Pixels behind the last position belong to no kernel.
        image.pad_with_zeros(2, 0, behind.0)?.pad_with_zeros(3, 0, behind.1)
    })
}

/// Its adjoint for a kernel of `kernel` taps: the correlation of the image with the values, positions and taps swapped.
pub(crate) fn kernel_gradient(
    image: &Tensor,
    values: &Tensor,
    kernel: (usize, usize),
    steps: Steps,
) -> Result<Tensor> {
    let ((_, channels, height, width), (_, out, rows, columns)) = (image.dims4()?, values.dims4()?);
    let dims = [out, channels / steps.groups, kernel.0, kernel.1];
    let by_group = in_groups(image, 1, values, 1, dims, steps, |image, values| {
        if let Some(moves) = steps.on_host(image, (height, width), kernel, (rows, columns)) {
            return ran(kernel_gradient_of(
                moves,
                image,
                values,
                [values.dim(1)?, image.dim(1)?, kernel.0, kernel.1],
            ));
        }
        let taps =
            image.transpose(0, 1)?.conv2d(&values.transpose(0, 1)?, 0, steps.dilation, steps.stride, 1)?;
        // Pixels behind the last position make taps that the kernel does not have.
        taps.narrow(2, 0, kernel.0)?.narrow(3, 0, kernel.1)?.transpose(0, 1)?.contiguous()
    })?;
    Ok(by_group)
}

/// `map` on each group of `a` along `a_dim` with that of `b` along `b_dim`, in a dtype that it accumulates well in. The
/// results are joined along the dimension that holds the output channels.
fn in_groups(
    a: &Tensor,
    a_dim: usize,
    b: &Tensor,
    b_dim: usize,
    dims: [usize; 4],
    steps: Steps,
    map: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let dtype = a.dtype();
    if a.elem_count() == 0 || b.elem_count() == 0 || dims.contains(&0) {
        return Tensor::zeros(&dims, dtype, a.device());
    }
    let working = if a.device().is_cpu() { accumulation_dtype(dtype) } else { dtype };
    let (a, b) = (a.detach().to_dtype(working)?.contiguous()?, b.detach().to_dtype(working)?.contiguous()?);
    let joined = if steps.groups == 1 {
        map(&a, &b)?
    } else {
        // A kernel's gradient is stacked like the kernel, by output channels: dimension 0. Images are by dimension 1.
        let along = if b_dim == 1 { 0 } else { 1 };
        let pairs = a.chunk(steps.groups, a_dim)?.into_iter().zip(b.chunk(steps.groups, b_dim)?);
        let parts =
            pairs.map(|(a, b)| map(&a.contiguous()?, &b.contiguous()?)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, along)?
    };
    joined.to_dtype(dtype)
}

/// What a kernel made that takes every call on a CPU.
fn ran(call: backends::Result<Call<Tensor>>) -> Result<Tensor> {
    match call.map_err(Error::wrap)? {
        Call::Ran(made) => Ok(made),
        Call::Composed(why) => candle_core::bail!("a convolution on the CPU was not taken: {why:?}"),
    }
}
