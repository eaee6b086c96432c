//! On the CPU: products of the kernel as a matrix, for operands whose channels lie second. Values and the gradient of the kernel are
//! products with the pixels on which taps stand, packed from where they lie: 16 bits widened, or bf16 as it is where an engine multiplies that.
//!
//! So is the gradient of images where positions are neighbours, with kernels turned around; or else it is made of columns, which
//! hold a number for each tap in each position, and are added up: for a few images at a time, several such parts side by side,
//! each on one thread. One image's values are a matrix as they lie, those of several are copied.

use super::operands::{Around, Channels, Padded, Pixel, Positions, Taps};
use super::sizes::{Sizes, each_of};
use super::{OP, Part};
use crate::buffer::{In, Place, Ran, Scalar, Slice, SliceMut, Why};
use crate::heap::fresh;
use crate::kernels::cast::convert_slice;
use crate::kernels::product::{
    Engine, Float, Lies, Matrix, Multiply, OfBf16, Operand, Panels, Source, Strided, Term, Then, by_engine,
    matrix_product, multiply_matrices,
};
use crate::simd::Isa;
use crate::simd::convert::Stored;
use crate::threads::Threads;
use half::{bf16, f16};

/// Numbers of a lane of which a part of either operand stays in the second-level cache. Of more, a run at a time is added to sums in f32.
const MOST: usize = 2048;

/// Writes the part that is written, where the two others lie as this reads them; bf16 by an engine.
pub(super) fn convolution(
    engine: Engine,
    sizes: Sizes,
    image: Part<'_, '_>,
    kernel: Part<'_, '_>,
    values: Part<'_, '_>,
) -> Ran {
    match (image, kernel, values) {
        (Part::In(image), Part::In(kernel), Part::Out(out, super::Channels::Second)) => {
            written(engine, image, kernel, out.host_slice(), Values(sizes))
        }
        (Part::Out(out, super::Channels::Second), Part::In(kernel), Part::In(values)) => {
            match sizes.around() {
                Some(around) => {
                    written(engine, values, kernel, out.host_slice(), ImageGradient(sizes, around))
                }
                None => written_by_columns(engine, values, kernel, out.host_slice(), sizes),
            }
        }
        (Part::In(image), Part::Out(out, super::Channels::Second), Part::In(values)) => {
            written(engine, image, values, out.host_slice(), KernelGradient(sizes))
        }
        _ => Ran::Composed(Why::Layout("the result")),
    }
}

/// One of the three maps, by products of operands.
trait Map: Copy {
    /// The numbers of a lane.
    fn numbers(self) -> usize;

    fn map<E: Term, X: Source<E> + Pixel, O: Stored<E::Sum>>(
        self,
        by: impl Multiply<E>,
        a: &[X],
        b: &[X],
        out: &mut [O],
    );
}

/// The elements of two operands, where they lie in their order, and of what is written, where all are in host memory.
fn opened<'a>(
    a: &In<'a>,
    b: &In<'a>,
    out: Option<SliceMut<'a>>,
) -> Result<(Slice<'a>, Slice<'a>, SliceMut<'a>), Why> {
    if !a.is_contiguous() || !b.is_contiguous() {
        return Err(Why::Layout("an operand"));
    }
    match (a.place(), b.place(), out) {
        (Place::Host(x), Place::Host(y), Some(out)) => Ok((x.until(a.count()), y.until(b.count()), out)),
        _ => Err(Why::Device),
    }
}

fn written<'a>(engine: Engine, a: &In<'a>, b: &In<'a>, out: Option<SliceMut<'a>>, map: impl Map) -> Ran {
    let (x, y, out) = match opened(a, b, out) {
        Ok(opened) => opened,
        Err(why) => return Ran::Composed(why),
    };
    let panels = Panels(Isa::best());
    match (x, y, out) {
        (Slice::F32(x), Slice::F32(y), SliceMut::F32(out)) => map.map::<f32, _, _>(panels, x, y, out),
        (Slice::F64(x), Slice::F64(y), SliceMut::F64(out)) => map.map::<f64, _, _>(panels, x, y, out),
        (Slice::F16(x), Slice::F16(y), out) => return sixteen::<f32, f16>(panels, map, x, y, out),
        (Slice::Bf16(x), Slice::Bf16(y), out) => return by_engine(engine, Bf16 { map, x, y, out }),
        _ => return Ran::Composed(Why::Dtype("an operand")),
    }
    Ran::Kernel(OP)
}

/// A map of bf16.
struct Bf16<'a, M> {
    map: M,
    x: &'a [bf16],
    y: &'a [bf16],
    out: SliceMut<'a>,
}

impl<M: Map> OfBf16 for Bf16<'_, M> {
    type Output = Ran;

    fn run<E: Term<Sum = f32>>(self, by: impl Multiply<E>) -> Ran
    where
        bf16: Source<E>,
    {
        sixteen::<E, bf16>(by, self.map, self.x, self.y, self.out)
    }
}

/// A map of 16 bits, whose sums are rounded once: where they are complete, or from f32 where they are added up in memory.
fn sixteen<E: Term<Sum = f32>, X: Source<E> + Pixel + Stored<f32> + Scalar>(
    by: impl Multiply<E>,
    map: impl Map,
    x: &[X],
    y: &[X],
    mut out: SliceMut<'_>,
) -> Ran {
    if map.numbers() <= by.most_numbers().min(MOST) {
        let Some(out) = <X as Scalar>::write(&mut out) else {
            return Ran::Composed(Why::Dtype("the result"));
        };
        map.map::<E, X, X>(by, x, y, out);
        return Ran::Kernel(OP);
    }
    let mut sums = fresh(out.len());
    map.map::<E, X, f32>(by, x, y, &mut sums);
    rounded(&sums, out)
}

/// Writes sums, each rounded to what `out` is of.
fn rounded(sums: &[f32], out: SliceMut<'_>) -> Ran {
    match convert_slice(Isa::best(), Slice::F32(sums), out) {
        Ran::Kernel(_) => Ran::Kernel(OP),
        composed => composed,
    }
}

/// A matrix whose rows lie one after another.
fn by_rows(rows: usize, columns: usize) -> Matrix {
    Matrix { rows, columns, row: columns, column: 1 }
}

#[derive(Clone, Copy)]
struct Values(Sizes);

impl Map for Values {
    fn numbers(self) -> usize {
        self.0.rows()
    }

    fn map<E: Term, X: Source<E> + Pixel, O: Stored<E::Sum>>(
        self,
        by: impl Multiply<E>,
        image: &[X],
        kernel: &[X],
        out: &mut [O],
    ) {
        let s = self.0;
        let weights = by_rows(s.out, s.rows());
        correlated(by, s, image, out, |group| {
            Strided::new(&kernel[group * s.out * s.rows()..][..s.out * s.rows()], weights)
        });
    }
}

/// Writes the values of images with kernels, of which `kernel` has those of a group: a lane for each channel.
fn correlated<E: Term, X: Source<E> + Pixel, O: Stored<E::Sum>, K: Operand<E>>(
    by: impl Multiply<E>,
    s: Sizes,
    image: &[X],
    out: &mut [O],
    kernel: impl Fn(usize) -> K,
) {
    let image = Padded::new(s, image);
    let planes = s.out * s.places();
    let lies = Lies { pitch: s.places(), piece: s.places(), apart: s.groups * planes };
    for group in 0..s.groups {
        let out = (&mut out[group * planes..], lies);
        by.multiply(kernel(group), Positions(image.group(group)), Then::WRITTEN, out, Threads::All);
    }
}

/// Of a convolution, and the one that its gradient is.
#[derive(Clone, Copy)]
struct ImageGradient(Sizes, Sizes);

impl Map for ImageGradient {
    fn numbers(self) -> usize {
        self.1.rows()
    }

    fn map<E: Term, X: Source<E> + Pixel, O: Stored<E::Sum>>(
        self,
        by: impl Multiply<E>,
        values: &[X],
        kernel: &[X],
        out: &mut [O],
    ) {
        let Self(s, around) = self;
        let (channels, taps) = (s.channels, s.taps[0] * s.taps[1]);
        correlated(by, around, values, out, |group| {
            let kernel = &kernel[group * s.out * s.rows()..][..s.out * s.rows()];
            Around { kernel, channels, taps }
        });
    }
}

#[derive(Clone, Copy)]
struct KernelGradient(Sizes);

impl Map for KernelGradient {
    fn numbers(self) -> usize {
        self.0.images * self.0.places()
    }

    fn map<E: Term, X: Source<E> + Pixel, O: Stored<E::Sum>>(
        self,
        by: impl Multiply<E>,
        image: &[X],
        values: &[X],
        out: &mut [O],
    ) {
        let s = self.0;
        let image = Padded::new(s, image);
        for (group, out) in out.chunks_exact_mut(s.out * s.rows()).enumerate() {
            let (channels, taps) = (Channels { s, values, group }, Taps(image.group(group)));
            let out = (out, Lies::by_rows(s.rows()));
            by.multiply(channels, taps, Then::WRITTEN, out, Threads::All);
        }
    }
}

/// The gradient of images where positions are no neighbours.
fn written_by_columns<'a>(
    engine: Engine,
    values: &In<'a>,
    kernel: &In<'a>,
    out: Option<SliceMut<'a>>,
    s: Sizes,
) -> Ran {
    let (x, y, out) = match opened(values, kernel, out) {
        Ok(opened) => opened,
        Err(why) => return Ran::Composed(why),
    };
    match (x, y, out) {
        (Slice::F32(x), Slice::F32(y), SliceMut::F32(out)) => by_columns(s, x, y, out, of_floats),
        (Slice::F64(x), Slice::F64(y), SliceMut::F64(out)) => by_columns(s, x, y, out, of_floats),
        (Slice::F16(x), Slice::F16(y), out @ SliceMut::F16(_)) => {
            let mut sums = fresh(out.len());
            by_columns(s, x, y, &mut sums, |to, a, b, threads| {
                multiply_matrices::<f32, f16, f32>(Panels(Isa::best()), a, b, Then::WRITTEN, to, threads);
            });
            return rounded(&sums, out);
        }
        (Slice::Bf16(x), Slice::Bf16(y), out @ SliceMut::Bf16(_)) => {
            let mut sums = fresh(out.len());
            by_engine(engine, Columns { s, values: x, kernel: y, out: &mut sums });
            return rounded(&sums, out);
        }
        _ => return Ran::Composed(Why::Dtype("an operand")),
    }
    Ran::Kernel(OP)
}

/// [`by_columns`] of bf16.
struct Columns<'a> {
    s: Sizes,
    values: &'a [bf16],
    kernel: &'a [bf16],
    out: &'a mut [f32],
}

impl OfBf16 for Columns<'_> {
    type Output = ();

    fn run<E: Term<Sum = f32>>(self, by: impl Multiply<E>)
    where
        bf16: Source<E>,
    {
        by_columns(self.s, self.values, self.kernel, self.out, |to, a, b, threads| {
            multiply_matrices::<E, bf16, f32>(by, a, b, Then::WRITTEN, to, threads);
        });
    }
}

fn of_floats<T: Float>(to: &mut [T], a: (&[T], Matrix), b: (&[T], Matrix), threads: Threads) {
    matrix_product(to, Then::WRITTEN, a, b, threads);
}

/// Adds up columns, which `product` makes of a kernel and values.
fn by_columns<T: Float, X: Pixel>(
    s: Sizes,
    values: &[X],
    kernel: &[X],
    out: &mut [T],
    product: impl Fn(&mut [T], (&[X], Matrix), (&[X], Matrix), Threads) + Sync + Send,
) {
    let (planes, weights) = (s.channels * s.pixels(), by_rows(s.out, s.rows()).transposed());
    s.each_part(out, s.groups * planes, |first, out, (columns, memory), threads| {
        let count = out.len() / (s.groups * planes);
        let width = count * s.places();
        columns.resize(s.rows() * width, T::ZERO);
        for group in 0..s.groups {
            let values = (s.values(values, (first, count, group), memory), by_rows(s.out, width));
            let kernel = (&kernel[group * s.out * s.rows()..][..s.out * s.rows()], weights);
            product(columns, kernel, values, threads);
            for (i, out) in out.chunks_exact_mut(s.groups * planes).enumerate() {
                let columns = &columns[i * s.places()..];
                let add = |(channel, plane): (usize, &mut [T])| s.add_up(columns, width, channel, plane);
                each_of(&mut out[group * planes..][..planes], s.pixels(), threads, add);
            }
        }
    });
}
