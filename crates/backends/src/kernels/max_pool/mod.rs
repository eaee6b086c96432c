//! The largest element of each window. NaN is larger than any number, and of equal elements the first one wins.
//! Bit-exact: [`largest`] over windows of one or two dimensions, with its gradient, and its oracle [`argmax_in_windows`], over windows of any
//! shape on a CPU, which says where the largest element is and takes those that [`largest`] does not.

#[cfg(feature = "cuda")]
mod cuda;
mod host;
#[cfg(feature = "candle")]
mod tensors;
mod windows;

#[cfg(feature = "candle")]
pub use tensors::{gradient_of, largest_of};
pub use windows::{Windows, gradient, largest};

use crate::floats::Real;

/// From how many taps on the windows are looked at on several threads.
const PARALLEL_FROM: usize = 1 << 15;

/// For each plane of `pixels` elements in `x` and each window, the pixel of the largest element. `windows` holds `taps`
/// pixels of each window. A pixel that the plane does not have is passed over.
pub fn argmax_in_windows<T: Real>(x: &[T], pixels: usize, windows: &[u32], taps: usize) -> Vec<u32> {
    if pixels == 0 || taps == 0 || windows.len() < taps {
        return Vec::new();
    }
    let count = windows.len() / taps;
    let mut chosen = vec![0; x.len() / pixels * count];
    let plane = |x: &[T], chosen: &mut [u32]| {
        for (chosen, window) in chosen.iter_mut().zip(windows.chunks_exact(taps)) {
            *chosen = argmax(x, window);
        }
    };
    if chosen.len().saturating_mul(taps) < PARALLEL_FROM {
        x.chunks(pixels).zip(chosen.chunks_mut(count)).for_each(|(x, chosen)| plane(x, chosen));
    } else {
        use rayon::prelude::*;
        x.par_chunks(pixels).zip(chosen.par_chunks_mut(count)).for_each(|(x, chosen)| plane(x, chosen));
    }
    chosen
}

fn argmax<T: Real>(x: &[T], window: &[u32]) -> u32 {
    let is_nan = |v: T| v.partial_cmp(&v).is_none();
    let mut best: Option<(u32, T)> = None;
    for &pixel in window {
        let Some(&value) = x.get(pixel as usize) else { continue };
        let better = match best {
            None => true,
            Some((_, largest)) => !is_nan(largest) && (value > largest || is_nan(value)),
        };
        if better {
            best = Some((pixel, value));
        }
    }
    best.map_or(0, |(pixel, _)| pixel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_the_largest_and_the_first_of_equals_wins() {
        let of = |x: &[f32]| argmax_in_windows(x, x.len(), &[0, 1, 2], 3);
        assert_eq!(of(&[1., 2., 2.]), [1]);
        assert_eq!(of(&[f32::INFINITY, f32::NAN, 5.]), [1]);
        assert_eq!(of(&[f32::NAN, f32::INFINITY, f32::NAN]), [0]);
        assert_eq!(of(&[f32::NEG_INFINITY; 3]), [0]);
    }

    #[test]
    fn every_plane_is_looked_at_by_itself() {
        let x: Vec<f64> = (0..4 * 20_000).map(|i| f64::from(i % 3)).collect();
        let chosen = argmax_in_windows(&x, 4, &[0, 1, 2, 3], 2);
        let want = |i: usize| (i % 2 * 2 + usize::from(x[2 * i + 1] > x[2 * i])) as u32;
        assert!(chosen.iter().enumerate().all(|(i, &pixel)| pixel == want(i)));
        assert_eq!(chosen.len(), 40_000);
    }
}
