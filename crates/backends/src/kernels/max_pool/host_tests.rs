//! Every instruction set against the oracle, of windows of many shapes, with ties, infinities and NaN.

use super::*;
use crate::kernels::max_pool::argmax_in_windows;
use crate::random::random_bits;
use half::bf16;

fn all() -> Vec<Windows> {
    let plain =
        Windows { dims: [2, 7, 9, 1], count: [4, 5], kernel: [3, 3], stride: [2, 2], padding: [1, 1] };
    vec![
        plain,
        Windows { dims: [3, 7, 9, 1], count: [5, 7], kernel: [3, 3], stride: [1, 1], padding: [0, 0] },
        Windows { dims: [2, 7, 9, 3], ..plain },
        Windows { dims: [1, 1, 70, 1], count: [1, 24], kernel: [1, 3], stride: [1, 3], padding: [0, 1] },
        Windows { dims: [1, 4, 4, 1], count: [3, 3], kernel: [4, 4], stride: [2, 2], padding: [2, 2] },
        Windows {
            dims: [2, 5, 9, 1],
            count: [1, 1],
            kernel: [2, 3],
            stride: [1 << 40, 1 << 46],
            padding: [0, 1],
        },
        Windows { dims: [1, 9, 9, 2], count: [2, 2], kernel: [2, 1], stride: [5, 5], padding: [0, 0] },
        Windows { dims: [1, 4, 9, 1], count: [2, 5], kernel: [1, 1], stride: [2, 2], padding: [0, 0] },
    ]
}

/// Small numbers, of which many are equal, and odd ones among them.
fn numbers(len: usize, seed: u64, odd: &[f32]) -> Vec<f32> {
    let number = |i: usize| {
        let bits = random_bits(seed, i as u64) as usize;
        if bits.is_multiple_of(5) && !odd.is_empty() {
            odd[bits / 5 % odd.len()]
        } else {
            (bits % 7) as f32 - 3.
        }
    };
    (0..len).map(number).collect()
}

/// The pixels of each window, tap by tap, those beyond the edges as one that no plane has.
fn table(of: &Windows) -> Vec<u32> {
    let Windows { dims, count, kernel, stride, padding } = *of;
    let mut table = Vec::new();
    for window in 0..count[0] * count[1] {
        for tap in 0..kernel[0] * kernel[1] {
            let at = |i: usize, window: usize, tap: usize| {
                (window * stride[i] + tap).checked_sub(padding[i]).filter(|&at| at < dims[i + 1])
            };
            let (y, x) =
                (at(0, window / count[1], tap / kernel[1]), at(1, window % count[1], tap % kernel[1]));
            table.push(y.zip(x).map_or(u32::MAX, |(y, x)| (y * dims[2] + x) as u32));
        }
    }
    table
}

/// The elements of a channel of an outer part.
fn plane(of: &Windows, x: &[f32], outer: usize, channel: usize) -> Vec<f32> {
    let [_, height, width, inner] = of.dims;
    (0..height * width).map(|i| x[(outer * height * width + i) * inner + channel]).collect()
}

#[test]
fn the_largest_and_its_gradient_are_those_that_windows_of_any_shape_have() {
    let odds: [&[f32]; 3] = [&[], &[f32::NEG_INFINITY, f32::INFINITY, -0.], &[f32::NAN, f32::NEG_INFINITY]];
    for (seed, (windows, odd)) in all().iter().flat_map(|w| odds.map(|odd| (w, odd))).enumerate() {
        let [outer, height, width, inner] = windows.dims;
        let (table, taps_each) = (table(windows), windows.kernel[0] * windows.kernel[1]);
        let count = windows.count[0] * windows.count[1];
        let x = numbers(outer * height * width * inner, seed as u64, odd);
        let dy = numbers(outer * count * inner, !(seed as u64), &[]);
        for isa in Isa::available() {
            let (mut out, mut taps) = (vec![9f32; dy.len()], vec![9u8; dy.len()]);
            forward::<f32, _>(isa, windows, &x, &mut out, &mut taps);
            let mut dx = vec![9f32; x.len()];
            backward::<f32, _>(isa, windows, &dy, &taps, &mut dx);
            let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
            let (mut short, mut short_taps) = (vec![bf16::ONE; dy.len()], vec![9u8; dy.len()]);
            forward::<f32, _>(isa, windows, &brains, &mut short, &mut short_taps);
            assert_eq!(taps, short_taps, "{windows:?}");
            for (o, channel) in (0..outer).flat_map(|o| (0..inner).map(move |channel| (o, channel))) {
                let x = plane(windows, &x, o, channel);
                let chosen = argmax_in_windows(&x, x.len(), &table, taps_each);
                let mut sums = vec![0f32; x.len()];
                for (window, &pixel) in chosen.iter().enumerate() {
                    let at = (o * count + window) * inner + channel;
                    let tap = table[window * taps_each..][..taps_each].iter().position(|&p| p == pixel);
                    assert_eq!(tap, Some(usize::from(taps[at])), "{windows:?} {window}");
                    let want = x[pixel as usize];
                    assert!(out[at] == want || out[at].is_nan() && want.is_nan(), "{windows:?} {window}");
                    assert!(short[at].to_f32() == want || short[at].is_nan() && want.is_nan());
                    sums[pixel as usize] += dy[at];
                }
                assert_eq!(plane(windows, &dx, o, channel), sums, "{windows:?}");
            }
        }
    }
}
