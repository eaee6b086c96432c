//! Sums, products and quotients. Operands broadcast, and complex64 with complex128 gives complex128, as in PyTorch.

use candle_core::Tensor;

use super::{ComplexTensor, polar::constant};
use crate::{Error, Result};

impl ComplexTensor {
    /// `self + other`.
    ///
    /// # Errors
    ///
    /// Where the shapes do not broadcast.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.operands("add", other)?;
        Ok(Self { re: a.re.broadcast_add(&b.re)?, im: a.im.broadcast_add(&b.im)? })
    }

    /// `self − other`.
    ///
    /// # Errors
    ///
    /// Where the shapes do not broadcast.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.operands("sub", other)?;
        Ok(Self { re: a.re.broadcast_sub(&b.re)?, im: a.im.broadcast_sub(&b.im)? })
    }

    /// `self · other`, element by element.
    ///
    /// # Errors
    ///
    /// Where the shapes do not broadcast.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.operands("mul", other)?;
        a.product(&b, Tensor::broadcast_mul)
    }

    /// The matrix product; leading dimensions broadcast.
    ///
    /// # Errors
    ///
    /// Where the inner sizes differ or the leading ones do not broadcast.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let fits = matches!(
            (self.dims(), other.dims()),
            ([.., _, inner], [.., rows, _]) if inner == rows
        );
        if !fits {
            return Err(Error::shape(
                "matmul",
                "other",
                other.dims(),
                format!("a matrix to follow {:?}", self.dims()),
            ));
        }
        let (a, b) = self.promoted("matmul", other)?;
        a.product(&b, Tensor::broadcast_matmul)
    }

    /// `self / other`, element by element. The divisor is scaled first, so that its square neither overflows nor vanishes.
    ///
    /// # Errors
    ///
    /// Where the shapes do not broadcast.
    pub fn div(&self, other: &Self) -> Result<Self> {
        let (a, b) = self.operands("div", other)?;
        // The quotient does not depend on the scale, so the scale needs no gradient.
        let scale = b.scale()?;
        let (a, b) = (a.each(|part| part.broadcast_div(&scale))?, b.each(|part| part.div(&scale))?);
        let norm = (b.re.sqr()? + b.im.sqr()?)?;
        a.product(&b.conj()?, Tensor::broadcast_mul)?.each(|part| part.broadcast_div(&norm))
    }

    /// `−self`.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn neg(&self) -> Result<Self> {
        self.each(Tensor::neg)
    }

    /// The complex conjugate.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn conj(&self) -> Result<Self> {
        let z = self.recorded();
        Ok(Self { im: z.im.neg()?, ..z })
    }

    /// `factor · self` for a real factor.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn mul_scalar(&self, factor: f64) -> Result<Self> {
        self.each(|part| part.affine(factor, 0.0))
    }

    /// `(ac − bd) + i(ad + bc)` for a bilinear `times`.
    fn product(
        &self,
        other: &Self,
        times: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        let re = (times(&self.re, &other.re)? - times(&self.im, &other.im)?)?;
        let im = (times(&self.re, &other.im)? + times(&self.im, &other.re)?)?;
        Ok(Self { re, im })
    }

    /// Operands of one dtype whose shapes broadcast.
    fn operands(&self, op: &str, other: &Self) -> Result<(Self, Self)> {
        let lhs = self.dims().iter().rev();
        if lhs.zip(other.dims().iter().rev()).any(|(&a, &b)| a != b && a != 1 && b != 1) {
            return Err(Error::shape(
                op,
                "other",
                other.dims(),
                format!("a shape that broadcasts with {:?}", self.dims()),
            ));
        }
        self.promoted(op, other)
    }

    /// The larger of |re| and |im| as a constant; 1 where that cannot scale anything: for zeros, infinities and NaN.
    pub(super) fn scale(&self) -> Result<Tensor> {
        let largest = self.re.detach().abs()?.maximum(&self.im.detach().abs()?)?;
        let ones = largest.ones_like()?;
        let usable =
            largest.gt(&largest.zeros_like()?)?.mul(&largest.lt(&constant(&largest, f64::INFINITY)?)?)?;
        Ok(usable.where_cond(&largest, &ones)?)
    }
}
