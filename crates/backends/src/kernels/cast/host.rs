//! Between f32 and 16 bits on the CPU: several elements at once, on as many threads as are worth it.

use crate::Result;
use crate::buffer::{In, Out, Ran, Slice, SliceMut, Why};
use crate::simd::{Isa, Simd, Work, rows};
use rayon::prelude::*;

/// Elements that are worked on at a time, and per task.
const BLOCK: usize = 512;
const CHUNK: usize = 64 * BLOCK;

/// Writes `x`, contiguous and of f16, bf16 or f32, in the type of `out`, one of these too.
pub(super) fn convert(isa: Isa, x: &In<'_>, out: &mut Out<'_>) -> Result<Ran> {
    let (Some(x), Some(out)) = (x.host_slice(), out.host_slice()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    Ok(convert_slice(isa, x, out))
}

/// [`convert`] of slices of one length.
pub(crate) fn convert_slice(isa: Isa, x: Slice<'_>, out: SliceMut<'_>) -> Ran {
    let part = |at: usize, to: SliceMut<'_>| isa.run(Convert { x, at, to });
    macro_rules! chunks {
        ($to:expr, $kind:ident) => {
            match $to.len() > CHUNK {
                true => $to
                    .par_chunks_mut(CHUNK)
                    .enumerate()
                    .for_each(|(i, to)| part(i * CHUNK, SliceMut::$kind(to))),
                false => part(0, SliceMut::$kind($to)),
            }
        };
    }
    match out {
        SliceMut::F16(to) => chunks!(to, F16),
        SliceMut::Bf16(to) => chunks!(to, Bf16),
        SliceMut::F32(to) => chunks!(to, F32),
        _ => return Ran::Composed(Why::Dtype("the result")),
    }
    Ran::Kernel("cast")
}

/// The elements of `x` from `at` on, as many as `to` has.
struct Convert<'a> {
    x: Slice<'a>,
    at: usize,
    to: SliceMut<'a>,
}

impl Work for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let mut wide = [0f32; BLOCK];
        let len = self.to.len();
        let mut done = 0;
        while done < len {
            let now = BLOCK.min(len - done);
            rows::load(simd, self.x, self.at + done..self.at + done + now, &mut wide[..now]);
            rows::store(simd, &wide[..now], &mut self.to, done..done + now);
            done += now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

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
