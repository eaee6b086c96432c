//! The types of elements, and slices whose type is a value.

use crate::Floats;
use half::{bf16, f16};

mod sealed {
    pub trait Sealed {}
}

/// The type of a buffer's elements, where it is one of those.
pub trait Scalar: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The type as a value.
    const TYPE: ScalarType;

    /// The elements, where they are of this type.
    fn read(slice: Slice<'_>) -> Option<&[Self]>;

    /// The elements, where they are of this type.
    fn write<'b>(slice: &'b mut SliceMut<'_>) -> Option<&'b mut [Self]>;
}

macro_rules! scalars {
    ($($(#[$doc:meta])* $variant:ident($type:ty)),* $(,)?) => {
        /// The types of elements that kernels meet: floats, and the integers that count or choose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ScalarType {
            $($(#[$doc])* $variant,)*
        }

        impl ScalarType {
            /// Bytes per element.
            pub fn bytes(self) -> usize {
                match self {
                    $(Self::$variant => size_of::<$type>(),)*
                }
            }
        }

        /// Elements in host memory that are read.
        #[derive(Clone, Copy, Debug)]
        pub enum Slice<'a> {
            $($(#[$doc])* $variant(&'a [$type]),)*
        }

        impl<'a> Slice<'a> {
            /// The type of the elements.
            pub fn scalar_type(self) -> ScalarType {
                match self {
                    $(Self::$variant(_) => ScalarType::$variant,)*
                }
            }

            /// How many there are.
            pub fn len(self) -> usize {
                match self {
                    $(Self::$variant(x) => x.len(),)*
                }
            }

            /// Whether there are none.
            pub fn is_empty(self) -> bool {
                self.len() == 0
            }

            /// Those from `start` on, none where that is past the end.
            pub fn from(self, start: usize) -> Self {
                match self {
                    $(Self::$variant(x) => Self::$variant(x.get(start..).unwrap_or_default()),)*
                }
            }

            /// Where the element of an index lies, or would if there were so many.
            pub(crate) fn address(self, index: usize) -> *const u8 {
                match self {
                    $(Self::$variant(x) => x.as_ptr().wrapping_add(index).cast(),)*
                }
            }

            /// The first `len`, or all where there are fewer.
            pub fn until(self, len: usize) -> Self {
                match self {
                    $(Self::$variant(x) => Self::$variant(x.get(..len).unwrap_or(x)),)*
                }
            }
        }

        /// Elements in host memory that are written.
        #[derive(Debug)]
        pub enum SliceMut<'a> {
            $($(#[$doc])* $variant(&'a mut [$type]),)*
        }

        impl<'a> SliceMut<'a> {
            /// The type of the elements.
            pub fn scalar_type(&self) -> ScalarType {
                match self {
                    $(Self::$variant(_) => ScalarType::$variant,)*
                }
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(x) => x.len(),)*
                }
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The first `len`, or all where there are fewer, for as long as this is borrowed.
            pub fn until(&mut self, len: usize) -> SliceMut<'_> {
                match self {
                    $(Self::$variant(x) => {
                        let len = len.min(x.len());
                        SliceMut::$variant(&mut x[..len])
                    })*
                }
            }

            /// The elements, to be read.
            pub fn as_slice(&self) -> Slice<'_> {
                match self {
                    $(Self::$variant(x) => Slice::$variant(x),)*
                }
            }

            /// The elements in runs of `len`, the last of which may be shorter.
            pub fn chunks(self, len: usize) -> Vec<Self> {
                match self {
                    $(Self::$variant(x) => x.chunks_mut(len.max(1)).map(Self::$variant).collect(),)*
                }
            }

            /// Those from `start` on, none where that is past the end.
            pub fn from(self, start: usize) -> Self {
                match self {
                    $(Self::$variant(x) => Self::$variant(x.get_mut(start..).unwrap_or_default()),)*
                }
            }
        }

        $(
            impl sealed::Sealed for $type {}

            impl Scalar for $type {
                const TYPE: ScalarType = ScalarType::$variant;

                fn read(slice: Slice<'_>) -> Option<&[Self]> {
                    match slice {
                        Slice::$variant(x) => Some(x),
                        _ => None,
                    }
                }

                fn write<'b>(slice: &'b mut SliceMut<'_>) -> Option<&'b mut [Self]> {
                    match slice {
                        SliceMut::$variant(x) => Some(x),
                        _ => None,
                    }
                }
            }
        )*
    };
}

scalars! {
    /// IEEE half precision.
    F16(f16),
    /// bfloat16.
    Bf16(bf16),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// Signed 64-bit integers.
    I64(i64),
    /// Unsigned 32-bit integers.
    U32(u32),
    /// Bytes.
    U8(u8),
}

impl ScalarType {
    /// Whether it is one of the four floats.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    /// Whether all are floats, and either all are f64 or none is: what is computed in f64 does not mix with the rest.
    pub fn are_floats_of_one_width(types: &[Self]) -> bool {
        types.iter().all(|t| *t == Self::F64)
            || types.iter().all(|t| matches!(t, Self::F16 | Self::Bf16 | Self::F32))
    }
}

impl<'a> Slice<'a> {
    /// The floats that it is of, or `None`.
    pub fn floats(self) -> Option<Floats<'a>> {
        Some(match self {
            Self::F16(x) => Floats::F16(x),
            Self::Bf16(x) => Floats::Bf16(x),
            Self::F32(x) => Floats::F32(x),
            Self::F64(x) => Floats::F64(x),
            _ => return None,
        })
    }
}

impl<'a> From<Floats<'a>> for Slice<'a> {
    #[inline]
    fn from(x: Floats<'a>) -> Self {
        match x {
            Floats::F16(x) => Self::F16(x),
            Floats::Bf16(x) => Self::Bf16(x),
            Floats::F32(x) => Self::F32(x),
            Floats::F64(x) => Self::F64(x),
        }
    }
}
