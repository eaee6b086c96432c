//! `Precision`: the string a user writes, and what it means for parameters, arithmetic, results and the loss. Where it
//! runs is decided in `support`, what may be written for it in `request`.

use std::fmt;

use crate::{ComplexDType, DType};

/// A training precision.
///
/// A *mixed* precision keeps parameters in f32 and lets autocast run each operation in the 16-bit dtype where that is
/// safe. A *true* precision holds and computes everything in one dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// `"16-mixed"`: f32 parameters, f16 autocast, dynamic loss scaling.
    F16Mixed,
    /// `"bf16-mixed"`: f32 parameters, bf16 autocast.
    Bf16Mixed,
    /// `"16-true"`: everything in f16, with loss scaling.
    F16True,
    /// `"bf16-true"`: everything in bf16.
    Bf16True,
    /// `"32-true"`: everything in f32. The default.
    #[default]
    F32True,
    /// `"64-true"`: everything in f64, complex tensors in complex128.
    F64True,
}

impl Precision {
    /// Every precision, in the order in which messages and tables list them.
    pub const ALL: [Self; 6] =
        [Self::F16Mixed, Self::Bf16Mixed, Self::F16True, Self::Bf16True, Self::F32True, Self::F64True];

    /// The canonical string: what [`Display`](fmt::Display) prints, `FromStr` reads back and checkpoints store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F16Mixed => "16-mixed",
            Self::Bf16Mixed => "bf16-mixed",
            Self::F16True => "16-true",
            Self::Bf16True => "bf16-true",
            Self::F32True => "32-true",
            Self::F64True => "64-true",
        }
    }

    /// Whether autocast chooses each operation's dtype (`-mixed`), or one dtype holds throughout (`-true`).
    pub const fn is_mixed(self) -> bool {
        matches!(self, Self::F16Mixed | Self::Bf16Mixed)
    }

    /// The dtype in which the model stores its parameters.
    pub const fn param_dtype(self) -> DType {
        match self {
            Self::F16True => DType::F16,
            Self::Bf16True => DType::Bf16,
            Self::F16Mixed | Self::Bf16Mixed | Self::F32True => DType::F32,
            Self::F64True => DType::F64,
        }
    }

    /// The dtype in which matrix products run: a mixed precision's autocast dtype, a true precision's only one.
    pub const fn compute_dtype(self) -> DType {
        match self {
            Self::F16Mixed | Self::F16True => DType::F16,
            Self::Bf16Mixed | Self::Bf16True => DType::Bf16,
            Self::F32True => DType::F32,
            Self::F64True => DType::F64,
        }
    }

    /// The dtype in which a model's results leave it: f32 for a mixed precision, the dtype itself for a true one.
    ///
    /// Inside an autocast region the last layer may well produce 16 bits. Whoever stands outside (a loss, a metric, a
    /// logger) asked for f32 training with fast insides, and gets f32: 16-bit losses neither add up nor scale.
    ///
    /// # Source
    ///
    /// `Policy.output_dtype` in jmp; Lightning Fabric's `MixedPrecision.convert_output`.
    pub const fn output_dtype(self) -> DType {
        self.param_dtype()
    }

    /// The dtype of complex tensors made while a model is built: complex128 under `64-true`, otherwise complex64.
    ///
    /// There is no 16-bit complex dtype, and autocast never casts complex tensors.
    pub const fn complex_dtype(self) -> ComplexDType {
        match self {
            Self::F64True => ComplexDType::Complex128,
            _ => ComplexDType::Complex64,
        }
    }

    /// Whether the loss has to be scaled before the backward pass.
    ///
    /// It has to wherever gradients are f16: those below 2⁻²⁵ would be zero. bf16 has f32's range and needs none.
    pub const fn needs_loss_scaling(self) -> bool {
        matches!(self.compute_dtype(), DType::F16)
    }

    /// The storage of one parameter of the model, and nothing else.
    ///
    /// Gradients, the optimizer's moments, f32 master copies and autocast's cached 16-bit casts come on top; they
    /// depend on the optimizer and on the model, not on the precision alone.
    pub const fn bytes_per_parameter(self) -> usize {
        self.param_dtype().size_in_bytes()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ComplexDType::{Complex64, Complex128};

    #[test]
    fn every_precision_means_what_the_reference_says() {
        use DType::{Bf16, F16, F32, F64};
        let expected = [
            ("16-mixed", F32, F16, F32, Complex64, true, 4),
            ("bf16-mixed", F32, Bf16, F32, Complex64, false, 4),
            ("16-true", F16, F16, F16, Complex64, true, 2),
            ("bf16-true", Bf16, Bf16, Bf16, Complex64, false, 2),
            ("32-true", F32, F32, F32, Complex64, false, 4),
            ("64-true", F64, F64, F64, Complex128, false, 8),
        ];
        let actual = Precision::ALL.map(|p| {
            (
                p.as_str(),
                p.param_dtype(),
                p.compute_dtype(),
                p.output_dtype(),
                p.complex_dtype(),
                p.needs_loss_scaling(),
                p.bytes_per_parameter(),
            )
        });
        assert_eq!(actual, expected);
    }

    #[test]
    fn the_default_is_32_true() {
        assert_eq!(Precision::default(), Precision::F32True);
    }

    #[test]
    fn display_honours_width() {
        assert_eq!(format!("[{:<10}]", Precision::F32True), "[32-true   ]");
    }
}
