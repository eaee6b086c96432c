//! What a tensor holds: the four real dtypes that training runs in and the two complex ones. The numbers behind a dtype
//! (its range, its spacing) are its [`FloatFormat`]'s.

use std::fmt;

use crate::FloatFormat;

/// The dtype of a real tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl DType {
    /// Every dtype, narrowest first.
    pub const ALL: [Self; 4] = [Self::F16, Self::Bf16, Self::F32, Self::F64];

    /// The float format of one element.
    pub const fn format(self) -> FloatFormat {
        match self {
            Self::F16 => FloatFormat::F16,
            Self::Bf16 => FloatFormat::Bf16,
            Self::F32 => FloatFormat::F32,
            Self::F64 => FloatFormat::F64,
        }
    }

    /// The storage of one element.
    pub const fn size_in_bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The dtype's short name, as candle writes it: `"f16"`, `"bf16"`, `"f32"`, `"f64"`.
    pub const fn as_str(self) -> &'static str {
        self.format().as_str()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<DType> for FloatFormat {
    fn from(dtype: DType) -> Self {
        dtype.format()
    }
}

/// The dtype of a complex tensor, named as PyTorch names it: by the size of the whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComplexDType {
    /// Two f32.
    Complex64,
    /// Two f64.
    Complex128,
}

impl ComplexDType {
    /// The dtype of the real part, and of the imaginary part.
    pub const fn real_dtype(self) -> DType {
        match self {
            Self::Complex64 => DType::F32,
            Self::Complex128 => DType::F64,
        }
    }

    /// The storage of one complex element.
    pub const fn size_in_bytes(self) -> usize {
        2 * self.real_dtype().size_in_bytes()
    }

    /// The dtype's name: `"complex64"` or `"complex128"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
        }
    }
}

impl fmt::Display for ComplexDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(feature = "candle")]
mod candle {
    use super::DType;
    use crate::Error;

    impl From<DType> for candle_core::DType {
        fn from(dtype: DType) -> Self {
            match dtype {
                DType::F16 => Self::F16,
                DType::Bf16 => Self::BF16,
                DType::F32 => Self::F32,
                DType::F64 => Self::F64,
            }
        }
    }

    impl TryFrom<candle_core::DType> for DType {
        type Error = Error;

        fn try_from(dtype: candle_core::DType) -> Result<Self, Error> {
            match dtype {
                candle_core::DType::F16 => Ok(Self::F16),
                candle_core::DType::BF16 => Ok(Self::Bf16),
                candle_core::DType::F32 => Ok(Self::F32),
                candle_core::DType::F64 => Ok(Self::F64),
                other => Err(Error::UnsupportedDType { got: other.as_str() }),
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn candle_agrees_on_names_and_sizes() {
            for dtype in DType::ALL {
                let theirs = candle_core::DType::from(dtype);
                assert_eq!(theirs.as_str(), dtype.as_str());
                assert_eq!(theirs.size_in_bytes(), dtype.size_in_bytes());
                assert_eq!(DType::try_from(theirs), Ok(dtype));
            }
        }

        #[test]
        fn an_integer_dtype_is_refused_by_name() {
            let error = DType::try_from(candle_core::DType::U32).unwrap_err();
            assert_eq!(error, Error::UnsupportedDType { got: "u32" });
        }
    }
}
