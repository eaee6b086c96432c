//! What is refused before anything runs, and what is left to the op.

use super::operands::{self, Around, Padded, Positions, Taps};
use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::kernels::product::Operand;
use crate::simd::Baseline;
use crate::simd::lanes::Pair;
use half::{bf16, f16};

const MOVES: Moves = Moves { padding: [1, 1], stride: [2, 2], dilation: [1, 1] };

fn run(image: [usize; 4], kernel: [usize; 4], values: [usize; 4]) -> Result<Ran> {
    let numbers = vec![0f32; 1 << 12];
    let strided = |dims: [usize; 4]| {
        let strides = [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1];
        In::host(OP, Slice::F32(&numbers), &dims, &strides)
    };
    let (image, kernel) = (strided(image)?, strided(kernel)?);
    let mut out = vec![0f32; 1 << 12];
    let mut out = Out::host(OP, SliceMut::F32(&mut out), &Channels::Last.laid(values))?;
    convolution(MOVES, Part::In(&image), Part::In(&kernel), Part::Out(&mut out, Channels::Last))
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let argument = |ran: Result<Ran>| match ran {
        Err(Error::Operand { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    // Two groups of two channels; one of three does not divide four.
    assert_eq!(argument(run([1, 4, 5, 5], [2, 3, 3, 3], [1, 2, 3, 3])), "the kernel");
    assert_eq!(argument(run([1, 4, 5, 5], [3, 2, 3, 3], [1, 3, 3, 3])), "the kernel");
    assert_eq!(argument(run([1, 4, 5, 5], [2, 2, 3, 3], [1, 2, 3, 2])), "the values");
    assert_eq!(argument(run([1, 4, 1, 5], [2, 2, 4, 3], [1, 2, 1, 3])), "the values");
}

#[test]
fn channels_last_and_nothing_at_all_are_composed_on_a_cpu() {
    let ran = run([1, 4, 5, 5], [2, 2, 3, 3], [1, 2, 3, 3]);
    assert!(matches!(ran, Ok(Ran::Composed(_))), "{ran:?}");
    let empty = run([0, 4, 5, 5], [2, 2, 3, 3], [0, 2, 3, 3]);
    assert!(matches!(empty, Ok(Ran::Composed(_))), "{empty:?}");
}

/// Each product that the formula has, as `f(image, kernel, values, term)` wants it.
fn terms(s: sizes::Sizes, mut f: impl FnMut(usize, usize, usize)) {
    let Moves { padding, stride, dilation } = s.moves;
    let [places, taps, size] = [s.positions, s.taps, s.size];
    for (n, g, o, c) in (0..s.images).flat_map(|n| {
        let each = move |g| (0..s.out).flat_map(move |o| (0..s.channels).map(move |c| (n, g, o, c)));
        (0..s.groups).flat_map(each)
    }) {
        let (image, values) = ((n * s.groups + g) * s.channels + c, (n * s.groups + g) * s.out + o);
        let kernel = (g * s.out + o) * s.channels + c;
        for (p, q, i, j) in (0..places[0]).flat_map(|p| {
            let each = move |q| (0..taps[0]).flat_map(move |i| (0..taps[1]).map(move |j| (p, q, i, j)));
            (0..places[1]).flat_map(each)
        }) {
            let y = (p * stride[0] + i * dilation[0]).checked_sub(padding[0]).filter(|&y| y < size[0]);
            let x = (q * stride[1] + j * dilation[1]).checked_sub(padding[1]).filter(|&x| x < size[1]);
            let Some((y, x)) = y.zip(x) else { continue };
            f(
                (image * size[0] + y) * size[1] + x,
                (kernel * taps[0] + i) * taps[1] + j,
                (values * places[0] + p) * places[1] + q,
            );
        }
    }
}

/// A type that convolutions are computed in.
trait Number: Copy + PartialEq + std::fmt::Debug {
    fn of(x: f32) -> Self;
    fn slice(x: &[Self]) -> Slice<'_>;
    fn slice_mut(x: &mut [Self]) -> SliceMut<'_>;
}

macro_rules! numbers {
    ($($t:ty, $variant:ident, $of:expr;)*) => {$(
        impl Number for $t {
            fn of(x: f32) -> Self {
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
numbers!(f32, F32, |x| x; f64, F64, f64::from; bf16, Bf16, bf16::from_f32; f16, F16, f16::from_f32;);

fn seen<T: Number>(numbers: &[T], dims: [usize; 4]) -> In<'_> {
    let strides = [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1];
    In::host(OP, T::slice(numbers), &dims, &strides).unwrap()
}

/// The three maps at these sizes, against the formula, on numbers whose sums are exact until they are rounded.
fn check_maps(s: sizes::Sizes) {
    check_maps_of::<f32>(s);
    check_maps_of::<f64>(s);
    check_maps_of::<bf16>(s);
    check_maps_of::<f16>(s);
}

fn check_maps_of<T: Number>(s: sizes::Sizes) {
    let numbers =
        |len: usize, seed: usize| (0..len).map(|i| ((i * 7 + seed) % 11) as f32 - 5.).collect::<Vec<_>>();
    let of = |n: usize, channels: usize, [height, width]: [usize; 2]| [n, channels, height, width];
    let image = of(s.images, s.groups * s.channels, s.size);
    let kernel = of(s.groups * s.out, s.channels, s.taps);
    let values = of(s.images, s.groups * s.out, s.positions);
    let [i, k, v] = [image, kernel, values].map(|dims| dims.iter().product::<usize>());
    let (x, w, y) = (numbers(i, 1), numbers(k, 2), numbers(v, 3));
    let mut expected = [vec![0f32; v], vec![0f32; i], vec![0f32; k]];
    terms(s, |image, kernel, values| {
        expected[0][values] += x[image] * w[kernel];
        expected[1][image] += y[values] * w[kernel];
        expected[2][kernel] += x[image] * y[values];
    });
    let typed = |x: &[f32]| x.iter().map(|&x| T::of(x)).collect::<Vec<_>>();
    let (x, w, y) = (typed(&x), typed(&w), typed(&y));
    let maps = [values, image, kernel].into_iter().enumerate();
    for (engine, (which, dims)) in maps.flat_map(|map| Engine::available().into_iter().map(move |e| (e, map)))
    {
        let mut made = vec![T::of(f32::NAN); dims.iter().product()];
        let mut out = Out::host(OP, T::slice_mut(&mut made), &dims).unwrap();
        let out = Part::Out(&mut out, Channels::Second);
        let (x, w, y) = (seen(&x, image), seen(&w, kernel), seen(&y, values));
        let ran = match which {
            0 => host::convolution(engine, s, Part::In(&x), Part::In(&w), out),
            1 => host::convolution(engine, s, out, Part::In(&w), Part::In(&y)),
            _ => host::convolution(engine, s, Part::In(&x), out, Part::In(&y)),
        };
        assert_eq!(ran, Ran::Kernel(OP));
        assert_eq!(made, typed(&expected[which]), "map {which} by {engine:?}");
    }
}

/// Holds panels of pairs to those of the same numbers in f32, which hold a number for each lane of each row.
fn check_pairs(of_pairs: impl Operand<Pair>, of_numbers: impl Operand<f32>) {
    let (lanes, numbers) = (of_numbers.lanes(), of_numbers.numbers());
    assert_eq!((of_pairs.lanes(), of_pairs.numbers()), (lanes, numbers));
    for first in (0..lanes).step_by(16) {
        for of in [0..numbers, numbers / 3 / 2 * 2..numbers, 0..numbers.min(33)] {
            let panels = (lanes - first).div_ceil(16);
            let (mut pairs, mut wide) = (
                vec![[Pair::default(); 16]; panels * of.len().div_ceil(2)],
                vec![[0f32; 16]; panels * of.len()],
            );
            of_pairs.pack::<_, 16>(Baseline, first, of.clone(), &mut pairs);
            of_numbers.pack::<_, 16>(Baseline, first, of.clone(), &mut wide);
            for (panel, wide) in wide.chunks(of.len()).enumerate() {
                for lane in 0..16.min(lanes - first - panel * 16) {
                    for (number, wide) in wide.iter().enumerate() {
                        let pair = pairs[panel * of.len().div_ceil(2) + number / 2][lane];
                        let found = pair.0[number % 2].to_f32();
                        assert_eq!(found, wide[lane], "number {number} of {of:?}, lane {lane} from {first}");
                    }
                    if of.len() % 2 == 1 {
                        let last = pairs[(panel + 1) * of.len().div_ceil(2) - 1][lane];
                        assert_eq!(last.0[1], bf16::ZERO, "what is beyond the last number");
                    }
                }
            }
        }
    }
}

/// Holds what is multiplied in place to panels of the same numbers.
fn check_in_place(operand: impl Operand<f32>) {
    let (lanes, numbers) = (operand.lanes(), operand.numbers());
    let Some(in_place) = operand.in_place() else { panic!("numbers of f32 lie in place") };
    let mut panels = vec![[0f32; 16]; lanes.div_ceil(16) * numbers];
    operand.pack::<_, 16>(Baseline, 0, 0..numbers, &mut panels);
    for (lane, number) in (0..lanes).flat_map(|lane| (0..numbers).map(move |number| (lane, number))) {
        let packed = panels[lane / 16 * numbers + number][lane % 16];
        assert_eq!(in_place.number(lane, number), packed, "lane {lane}, number {number}");
    }
}

fn check_operands(s: sizes::Sizes) {
    let numbers = |len: usize| (0..len).map(|i| bf16::from_f32((i % 251) as f32)).collect::<Vec<_>>();
    let wide = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    let image = numbers(s.images * s.groups * s.channels * s.pixels());
    let values = numbers(s.images * s.groups * s.out * s.places());
    let kernel = numbers(s.out * s.rows());
    let (wide_image, wide_values, wide_kernel) = (wide(&image), wide(&values), wide(&kernel));
    let (padded, wide_padded) = (Padded::new(s, &image), Padded::new(s, &wide_image));
    for group in 0..s.groups {
        let (pixels, wide_pixels) = (padded.group(group), wide_padded.group(group));
        check_pairs(Positions(pixels), Positions(wide_pixels));
        check_pairs(Taps(pixels), Taps(wide_pixels));
        check_in_place(Positions(wide_pixels));
        if s.images * s.places() >= operands::MANY {
            check_in_place(Taps(wide_pixels));
        }
        let wide_channels = operands::Channels { s, values: &wide_values, group };
        check_pairs(operands::Channels { s, values: &values, group }, wide_channels);
    }
    let (channels, taps) = (s.channels, s.taps[0] * s.taps[1]);
    let wide_around = Around { kernel: &wide_kernel, channels, taps };
    check_pairs(Around { kernel: &kernel, channels, taps }, wide_around);
}

proptest::proptest! {
    #[test]
    fn a_cpu_computes_the_formula_at_every_size(
        (images, groups, channels, out) in (1usize..4, 1usize..3, 1usize..4, 1usize..4),
        size in [1usize..9, 1usize..9],
        taps in [1usize..4, 1usize..4],
        padding in [0usize..3, 0usize..3],
        stride in [1usize..4, 1usize..4],
        dilation in [1usize..3, 1usize..3],
    ) {
        let positions = [0, 1].map(|d| {
            let span = dilation[d] * (taps[d] - 1) + 1;
            (size[d] + 2 * padding[d]).checked_sub(span).map(|left| left / stride[d] + 1)
        });
        if let [Some(rows), Some(columns)] = positions {
            let moves = Moves { padding, stride, dilation };
            let positions = [rows, columns];
            let sizes = sizes::Sizes { moves, images, groups, channels, out, size, taps, positions };
            check_maps(sizes);
            check_operands(sizes);
        }
    }
}

#[test]
fn images_that_do_not_fit_a_buffer_of_columns_together_take_turns() {
    let moves = Moves { padding: [1, 1], stride: [1, 1], dilation: [1, 1] };
    let (size, taps, positions) = ([100, 120], [3, 3], [100, 120]);
    check_maps(sizes::Sizes { moves, images: 3, groups: 1, channels: 5, out: 2, size, taps, positions });
    // Three, and then two.
    check_maps(sizes::Sizes { moves, images: 5, groups: 2, channels: 2, out: 2, size, taps, positions });
}

/// Blocks and panels that are whole, and runs of sums: 40 channels of 64 give 576 terms, 11 × 13 positions of 20 images 2,860.
#[test]
fn channels_and_terms_of_several_panels_and_runs_are_all_there() {
    let moves = Moves { padding: [1, 1], stride: [1, 1], dilation: [1, 1] };
    let (size, taps, positions) = ([11, 13], [3, 3], [11, 13]);
    let sizes = sizes::Sizes { moves, images: 20, groups: 1, channels: 64, out: 40, size, taps, positions };
    check_maps_of::<bf16>(sizes);
    check_maps_of::<f16>(sizes);
    check_maps_of::<f32>(sizes);
    check_operands(sizes);
}
