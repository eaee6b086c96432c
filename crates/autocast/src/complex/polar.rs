//! Modulus, angle and exponential.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use candle_core::Tensor;

use super::ComplexTensor;
use crate::Result;

impl ComplexTensor {
    /// `abs · (cos angle + i sin angle)`.
    ///
    /// # Errors
    ///
    /// Unless both have the same shape and are both f32 or both f64.
    pub fn from_polar(abs: &Tensor, angle: &Tensor) -> Result<Self> {
        let polar = Self::new(abs.clone(), angle.clone())?.recorded();
        Ok(Self { re: (&polar.re * polar.im.cos()?)?, im: (&polar.re * polar.im.sin()?)? })
    }

    /// `|self|`, which overflows only where the modulus itself does. Its gradient is the direction; 0 at 0.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn abs(&self) -> Result<Tensor> {
        // |z| = re·cos θ + im·sin θ, and with the direction held fixed this has the right gradient too.
        let (z, direction) = (self.recorded(), self.direction()?);
        let product = |part: &Tensor, cosine: &Tensor| -> Result<Tensor> {
            // A direction of 0 is none: also beside an infinite part, which would make it NaN.
            let zero = cosine.zeros_like()?;
            Ok(cosine.eq(&zero)?.where_cond(&zero, &(part * cosine)?)?)
        };
        Ok((product(&z.re, &direction.re)? + product(&z.im, &direction.im)?)?)
    }

    /// The angle in (−π, π], −π just below the negative axis. Its gradient is `(−im, re) / |z|²`; 0 at 0.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn angle(&self) -> Result<Tensor> {
        let (z, direction) = (self.recorded(), self.direction()?);
        let angle = direction.atan2()?;
        // With θ and |z| held fixed, cos θ·(im/|z|) − sin θ·(re/|z|) has the angle's gradient; its value is rounding.
        let modulus = self.abs()?.detach();
        let finite =
            modulus.gt(&modulus.zeros_like()?)?.mul(&modulus.lt(&constant(&modulus, f64::INFINITY)?)?)?;
        let modulus = finite.where_cond(&modulus, &modulus.ones_like()?)?;
        let slope = ((&direction.re * z.im.div(&modulus)?)? - (&direction.im * z.re.div(&modulus)?)?)?;
        let zero = finite.where_cond(&(&slope - slope.detach())?, &slope.zeros_like()?)?;
        Ok((angle + zero)?)
    }

    /// `e^self`.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn exp(&self) -> Result<Self> {
        // Half of the growth on either side of the product, so that a huge modulus meets a tiny cosine before it overflows.
        let z = self.recorded();
        let half = z.re.affine(0.5, 0.0)?.exp()?;
        let part = |turn: Tensor| -> Result<Tensor> { Ok(((&half * turn)? * &half)?) };
        Self::new(part(z.im.cos()?)?, part(z.im.sin()?)?)
    }

    /// `self / |self|` as a constant; 0 at 0.
    fn direction(&self) -> Result<Self> {
        let z = Self { re: self.re.detach(), im: self.im.detach() };
        let scale = z.scale()?;
        let z = z.each(|part| part.div(&scale))?;
        // Before an infinity, finite parts vanish.
        let infinity = constant(&z.re, f64::INFINITY)?;
        let infinite = |part: &Tensor| part.abs()?.eq(&infinity);
        let any = infinite(&z.re)?.maximum(&infinite(&z.im)?)?;
        let z = z.each(|part| {
            let sign = infinite(part)?.where_cond(&part.sign()?, &part.zeros_like()?)?;
            any.where_cond(&sign, part)
        })?;
        let norm = (z.re.sqr()? + z.im.sqr()?)?.sqrt()?;
        let norm = norm.ne(&norm.zeros_like()?)?.where_cond(&norm, &norm.ones_like()?)?;
        z.each(|part| part.div(&norm))
    }

    /// The angle of a direction (cos θ, sin θ).
    ///
    /// candle has no arc tangent. A cubic guess within 0.06 of the ratio, relative, is turned three times by the sine of
    /// what is missing; each time the error is cubed.
    fn atan2(&self) -> Result<Tensor> {
        let (x, y) = (self.re.abs()?, self.im.abs()?);
        let steep = y.gt(&x)?;
        let (low, high) = (x.minimum(&y)?, x.maximum(&y)?);
        let high = high.ne(&high.zeros_like()?)?.where_cond(&high, &high.ones_like()?)?;
        let ratio = low.div(&high)?;
        let mut angle = (&ratio * ratio.affine(-0.273, FRAC_PI_4 + 0.273)?)?;
        for _ in 0..3 {
            let missing = ((&low * angle.cos()?)? - (&high * angle.sin()?)?)?;
            angle = (angle + missing)?;
        }
        let angle = steep.where_cond(&angle.affine(-1.0, FRAC_PI_2)?, &angle)?;
        let angle = sign_bit(&self.re)?.where_cond(&angle.affine(-1.0, PI)?, &angle)?;
        Ok(sign_bit(&self.im)?.where_cond(&angle.neg()?, &angle)?)
    }
}

/// Whether a number is negative or −0.
fn sign_bit(t: &Tensor) -> Result<Tensor> {
    let zero = t.zeros_like()?;
    let visible = t.eq(&zero)?.where_cond(&t.recip()?, t)?;
    Ok(visible.lt(&zero)?)
}

/// `value` in the shape and dtype of `t`.
pub(super) fn constant(t: &Tensor, value: f64) -> Result<Tensor> {
    Ok(t.ones_like()?.affine(value, 0.0)?)
}
