//! Complex tensors as pairs of real ones. They are differentiable through their parts and never cast by autocast: their
//! arithmetic goes to candle directly, in f32 or f64.

mod arithmetic;
mod polar;

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::{Init, VarBuilder};
use precision_types::ComplexDType;

use crate::dtypes::{promote_types, same_dtype};
use crate::ops::reduce::sums::summed;
use crate::region::{grad_mode, recorded};
use crate::{Error, Result};

/// A complex64 (two f32) or complex128 (two f64) tensor.
///
/// The gradients of a real loss are those of the two parts; together they are PyTorch's gradient of the complex tensor.
///
/// ```
/// use autocast::ComplexTensor;
/// use candle_core::{Device, Tensor};
///
/// let i = ComplexTensor::new(Tensor::new(0f64, &Device::Cpu)?, Tensor::new(1f64, &Device::Cpu)?)?;
/// let square = i.mul(&i)?;
/// assert_eq!(square.real().to_scalar::<f64>()?, -1.0);
/// # Ok::<(), autocast::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ComplexTensor {
    re: Tensor,
    im: Tensor,
}

/// The complex dtype that goes with parameters of dtype `real`: complex128 with f64, complex64 with all others.
pub fn complex_dtype(real: DType) -> ComplexDType {
    if real == DType::F64 { ComplexDType::Complex128 } else { ComplexDType::Complex64 }
}

impl ComplexTensor {
    /// `re + i·im`.
    ///
    /// # Errors
    ///
    /// Unless both parts have the same shape and are both f32 or both f64.
    pub fn new(re: Tensor, im: Tensor) -> Result<Self> {
        if re.shape() != im.shape() {
            return Err(Error::shape("complex", "im", im.dims(), format!("{:?} like re", re.dims())));
        }
        match same_dtype("complex", [("re", &re), ("im", &im)])? {
            DType::F32 | DType::F64 => Ok(Self { re, im }),
            other => Err(Error::dtype("complex", "re", other, &[DType::F32, DType::F64])),
        }
    }

    /// A real tensor with a zero imaginary part.
    ///
    /// # Errors
    ///
    /// Unless `re` is f32 or f64.
    pub fn from_real(re: Tensor) -> Result<Self> {
        let im = re.zeros_like()?;
        Self::new(re, im)
    }

    /// Zeros.
    ///
    /// # Errors
    ///
    /// Where the device refuses.
    pub fn zeros(shape: impl Into<Shape>, dtype: ComplexDType, device: &Device) -> Result<Self> {
        Self::from_real(Tensor::zeros(shape, dtype.real_dtype().into(), device)?)
    }

    /// A model's complex parameter: the tensors `<name>.re` and `<name>.im` of `vb`, created by `init` where they do not
    /// exist, and so saved and loaded with the model.
    ///
    /// It is complex128 where the builder's dtype is f64 (under `64-true`), else complex64, also under 16-bit precisions.
    ///
    /// # Errors
    ///
    /// Where the builder has a tensor of another shape, or lacks one and cannot create it.
    pub fn var(vb: &VarBuilder, shape: impl Into<Shape>, name: &str, init: Init) -> Result<Self> {
        let (shape, dtype) = (shape.into(), complex_dtype(vb.dtype()).real_dtype().into());
        let part = |part: &str| -> Result<Tensor> {
            let tensor = vb.get_with_hints_dtype(shape.clone(), &format!("{name}.{part}"), init, dtype)?;
            // A builder over an existing `VarMap` hands out what is there, whatever dtype was asked for.
            Ok(tensor.to_dtype(dtype)?)
        };
        Self::new(part("re")?, part("im")?)
    }

    /// complex64 or complex128.
    pub fn dtype(&self) -> ComplexDType {
        complex_dtype(self.re.dtype())
    }

    /// The real part.
    pub fn real(&self) -> &Tensor {
        &self.re
    }

    /// The imaginary part.
    pub fn imag(&self) -> &Tensor {
        &self.im
    }

    /// The shape of either part.
    pub fn shape(&self) -> &Shape {
        self.re.shape()
    }

    /// The sizes of either part.
    pub fn dims(&self) -> &[usize] {
        self.re.dims()
    }

    /// The device of the parts.
    pub fn device(&self) -> &Device {
        self.re.device()
    }

    /// The same values in another complex dtype.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn to_dtype(&self, dtype: ComplexDType) -> Result<Self> {
        self.each(|part| part.to_dtype(dtype.real_dtype().into()))
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.elem_count() != self.re.elem_count() {
            return Err(Error::shape(
                "reshape",
                "shape",
                shape.dims(),
                format!("{} elements", self.re.elem_count()),
            ));
        }
        self.each(|part| part.reshape(&shape))
    }

    /// Two dimensions swapped; nothing is conjugated.
    ///
    /// # Errors
    ///
    /// Where there is no such dimension.
    pub fn transpose(&self, dim1: usize, dim2: usize) -> Result<Self> {
        self.each(|part| part.transpose(dim1, dim2))
    }

    /// The sum of all elements.
    ///
    /// # Errors
    ///
    /// Where candle refuses.
    pub fn sum_all(&self) -> Result<Self> {
        let all = |part: &Tensor| Ok(summed("sum", part, (0..part.rank()).collect())?);
        self.each(all)
    }

    /// `f` of each part.
    fn each(&self, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        let z = self.recorded();
        Ok(Self { re: f(&z.re)?, im: f(&z.im)? })
    }

    /// The tensor as an op may use it: without its history inside [`no_grad`](crate::no_grad).
    fn recorded(&self) -> Self {
        let grad_mode = grad_mode();
        Self { re: recorded(&self.re, grad_mode), im: recorded(&self.im, grad_mode) }
    }

    /// Both operands in the wider dtype of the two.
    fn promoted(&self, op: &str, other: &Self) -> Result<(Self, Self)> {
        let dtype = promote_types(op, self.re.dtype(), other.re.dtype())?;
        Ok((self.each(|part| part.to_dtype(dtype))?, other.each(|part| part.to_dtype(dtype))?))
    }
}
