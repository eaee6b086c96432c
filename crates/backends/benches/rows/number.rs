//! The types of elements that are measured.

use backends::buffer::{In, Out, Scalar, Slice, SliceMut};
use backends::kernels::pointwise::Rounded;
use half::{bf16, f16};

/// A type of elements.
pub(super) trait Number: Scalar + Rounded + candle_core::WithDType {
    const NAME: &'static str;
    fn of(x: f64) -> Self;
    fn slice(x: &[Self]) -> Slice<'_>;
    fn slice_mut(x: &mut [Self]) -> SliceMut<'_>;

    /// Numbers from −2 to 2.
    fn numbers(len: usize) -> Vec<Self> {
        (0..len).map(|i| Self::of((i * 7919 % 1000) as f64 / 250. - 2.)).collect()
    }
}

macro_rules! numbers {
    ($($type:ident $variant:ident $of:expr;)*) => {$(
        impl Number for $type {
            const NAME: &'static str = stringify!($type);

            fn of(x: f64) -> Self {
                $of(x)
            }

            fn slice(x: &[Self]) -> Slice<'_> {
                Slice::$variant(x)
            }

            fn slice_mut(x: &mut [Self]) -> SliceMut<'_> {
                SliceMut::$variant(x)
            }
        }
    )*};
}
numbers! {
    f16 F16 f16::from_f64;
    bf16 Bf16 bf16::from_f64;
    f32 F32 |x| x as f32;
    f64 F64 |x| x;
}

/// What a kernel reads.
pub(super) fn read<'a>(x: Slice<'a>, dims: &[usize]) -> In<'a> {
    let strides: Vec<usize> = (1..=dims.len()).map(|i| dims[i..].iter().product()).collect();
    In::host("x", x, dims, &strides).expect("fits")
}

/// What a kernel writes.
pub(super) fn written<'a>(x: SliceMut<'a>, dims: &[usize]) -> Out<'a> {
    Out::host("y", x, dims).expect("fits")
}
