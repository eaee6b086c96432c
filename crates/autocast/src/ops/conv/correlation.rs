//! The three linear maps behind convolutions, transposed convolutions and their gradients, on untracked tensors:
//! cross-correlation of an image with a kernel, and its adjoints with respect to the image and to the kernel. Each
//! convolution is one of the first two, and its gradients are the other two.
//!
//! Images are `(batch, channels, height, width)` and come padded; kernels are `(out, in / groups, kh, kw)`. 16-bit
//! tensors are computed in f32 on a CPU (candle has no bf16 convolution there and accumulates f16 in f16) and with f32
//! accumulators on a GPU.

use crate::dtypes::accumulation_dtype;
use candle_core::{Result, Tensor};

/// How a kernel moves over an image, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
}

impl Steps {
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
    in_groups(image, 1, kernel, 0, &dims, steps, |image, kernel| {
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
    in_groups(values, 1, kernel, 0, &dims, steps, |values, kernel| {
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
    let (channels, out) = (image.dim(1)?, values.dim(1)?);
    let dims = [out, channels / steps.groups, kernel.0, kernel.1];
    let by_group = in_groups(image, 1, values, 1, &dims, steps, |image, values| {
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
    dims: &[usize; 4],
    steps: Steps,
    map: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let dtype = a.dtype();
    if a.elem_count() == 0 || b.elem_count() == 0 || dims.contains(&0) {
        return Tensor::zeros(dims, dtype, a.device());
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
