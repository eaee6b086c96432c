//! Between f32 and 16 bits on the CPU: several elements at once, on as many threads as are worth it.

use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::simd::convert::Stored;
use crate::simd::{Isa, Simd, Work};
use crate::{Floats, Result};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// Elements per task, and those that are worked on at a time between two types of 16 bits.
const CHUNK: usize = 32 * 1024;
const BLOCK: usize = 512;

/// Writes `x`, contiguous and of f16, bf16 or f32, in the type of `out`, one of these too.
pub(super) fn convert(isa: Isa, x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let (Some(x), Some(out)) = (x.host_slice(), out.host_slice()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    Ok(convert_slice(isa, x, out))
}

/// [`convert`] of slices of one length.
pub(crate) fn convert_slice(isa: Isa, x: Slice<'_>, out: SliceMut<'_>) -> Ran {
    match (x, out) {
        (Slice::F16(x), SliceMut::F16(out)) => typed(isa, x, out),
        (Slice::F16(x), SliceMut::Bf16(out)) => typed(isa, x, out),
        (Slice::F16(x), SliceMut::F32(out)) => typed(isa, x, out),
        (Slice::Bf16(x), SliceMut::F16(out)) => typed(isa, x, out),
        (Slice::Bf16(x), SliceMut::Bf16(out)) => typed(isa, x, out),
        (Slice::Bf16(x), SliceMut::F32(out)) => typed(isa, x, out),
        (Slice::F32(x), SliceMut::F16(out)) => typed(isa, x, out),
        (Slice::F32(x), SliceMut::Bf16(out)) => typed(isa, x, out),
        (Slice::F32(x), SliceMut::F32(out)) => typed(isa, x, out),
        _ => return Ran::Composed(Why::Dtype("the result")),
    }
    Ran::Kernel("cast")
}

fn typed<X: Stored<f32>, Y: Stored<f32>>(isa: Isa, x: &[X], out: &mut [Y]) {
    let part = |(x, to): (&[X], &mut [Y])| isa.run(Convert(x, to));
    match out.len() > CHUNK {
        true => x.par_chunks(CHUNK).zip(out.par_chunks_mut(CHUNK)).for_each(part),
        false => part((x, out)),
    }
}

struct Convert<'a, X, Y>(&'a [X], &'a mut [Y]);

impl<X: Stored<f32>, Y: Stored<f32>> Work for Convert<'_, X, Y> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(x, to) = self;
        // Where one side is in f32, nothing lies between.
        if let Some(x) = X::as_it_is(x) {
            return Y::write(simd, x, to);
        }
        if let Some(to) = Y::in_place(to) {
            return X::read(simd, x, to);
        }
        let mut wide = [0f32; BLOCK];
        for (x, to) in x.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
            X::read(simd, x, &mut wide[..x.len()]);
            Y::write(simd, &wide[..to.len()], to);
        }
    }
}

/// Whether `cast`, of 16 bits, is to the bit what [`convert`] makes of `x`.
pub(super) fn is_cast(isa: Isa, x: &[f32], cast: Floats<'_>) -> bool {
    match cast {
        _ if x.len() != cast.len() => false,
        Floats::F16(cast) => rounds_to::<f16>(isa, x, cast),
        Floats::Bf16(cast) => rounds_to::<bf16>(isa, x, cast),
        Floats::F32(_) | Floats::F64(_) => false,
    }
}

fn rounds_to<Y: Stored<f32>>(isa: Isa, x: &[f32], cast: &[Y]) -> bool
where
    [Y]: HalfFloatSliceExt,
{
    x.par_chunks(CHUNK).zip(cast.par_chunks(CHUNK)).all(|(x, cast)| isa.run(RoundsTo(x, cast)))
}

struct RoundsTo<'a, Y>(&'a [f32], &'a [Y]);

impl<Y: Stored<f32>> Work for RoundsTo<'_, Y>
where
    [Y]: HalfFloatSliceExt,
{
    type Output = bool;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        let Self(x, cast) = self;
        let mut rounded = [Y::default(); BLOCK];
        x.chunks(BLOCK).zip(cast.chunks(BLOCK)).all(|(x, cast)| {
            let rounded = &mut rounded[..x.len()];
            Y::write(simd, x, rounded);
            rounded.reinterpret_cast() == cast.reinterpret_cast()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cast_is_of_one_tensor_alone() {
        let x: Vec<f32> = (0..2 * CHUNK + 77).map(|i| i as f32 * 0.37 - 3.).chain([f32::NAN, -0.]).collect();
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        for isa in Isa::available() {
            let casts = [Floats::F16(&halves), Floats::Bf16(&brains)];
            assert!(casts.iter().all(|&cast| is_cast(isa, &x, cast)));
            for i in [0, BLOCK - 1, CHUNK, 2 * CHUNK + 76, x.len() - 1] {
                let mut other = x.clone();
                other[i] = if i + 1 == x.len() { 0. } else { x[i] * 1.02 + 0.1 };
                assert!(casts.iter().all(|&cast| !is_cast(isa, &other, cast)), "element {i}");
            }
            assert!(!is_cast(isa, &x[1..], casts[0]) && !is_cast(isa, &x, Floats::F32(&x)));
        }
    }

    /// All 16-bit patterns there and back, and f32 against `half`, on every instruction set.
    #[test]
    fn every_instruction_set_rounds_as_half_does() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let singles: Vec<f32> =
            (0..200_003u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).collect();
        for isa in Isa::available() {
            let run = |x: Slice<'_>, to: SliceMut<'_>| {
                let size = [to.len()];
                let x = In::host("x", x, &size, &[1]).unwrap();
                let mut out = Out::host("out", to, &size).unwrap();
                assert_eq!(convert(isa, &x, &mut out).unwrap(), Ran::Kernel("cast"));
            };
            let mut wide = vec![0f32; halves.len()];
            run(Slice::F16(&halves), SliceMut::F32(&mut wide));
            assert!(wide.iter().zip(&halves).all(|(a, b)| a.to_bits() == b.to_f32().to_bits() || b.is_nan()));
            run(Slice::Bf16(&brains), SliceMut::F32(&mut wide));
            assert!(wide.iter().zip(&brains).all(|(a, b)| a.to_bits() == b.to_f32().to_bits() || b.is_nan()));
            let mut narrow = vec![f16::ZERO; singles.len()];
            run(Slice::F32(&singles), SliceMut::F16(&mut narrow));
            let same = |a: f16, b: f16| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(narrow.iter().zip(&singles).all(|(&a, &b)| same(a, f16::from_f32(b))));
            let mut narrow = vec![bf16::ZERO; singles.len()];
            run(Slice::F32(&singles), SliceMut::Bf16(&mut narrow));
            let same = |a: bf16, b: bf16| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(narrow.iter().zip(&singles).all(|(&a, &b)| same(a, bf16::from_f32(b))));
            for len in 0..67 {
                let mut narrow = vec![bf16::ZERO; len];
                run(Slice::F32(&singles[..len]), SliceMut::Bf16(&mut narrow));
                assert!(narrow.iter().zip(&singles).all(|(&a, &b)| same(a, bf16::from_f32(b))));
            }
        }
    }
}
