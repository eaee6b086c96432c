//! How a product is cut into tasks.

use super::TALL;
use std::ops::Range;

/// Tasks for each thread: all end together though some are slower.
const EACH: usize = 4;

/// Cuts `len` units into `count` parts that differ by one at most.
pub(super) fn cut(len: usize, count: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..count).map(move |i| i * len / count..(i + 1) * len / count)
}

/// Panels of the left and of the right operand for each task: as many tasks for each thread, where there are enough of either.
pub(super) fn tasks([left, right]: [usize; 2], threads: usize) -> Vec<[Range<usize>; 2]> {
    let wanted = if threads == 1 { 1 } else { EACH * threads };
    let high = left.div_ceil(TALL).max(wanted.min(left)).next_multiple_of(threads).min(left);
    // Where there are too few rows, tasks take some of the right panels: two at a time fill registers.
    let pairs = right.div_ceil(2);
    let least = wanted.div_ceil(high).min(pairs);
    let even = (least..=pairs.min(least + threads)).find(|wide| (high * wide).is_multiple_of(threads));
    let wide = if least == 1 { 1 } else { even.unwrap_or(least) };
    cut(left, high)
        .flat_map(|rows| {
            cut(pairs, wide).map(move |part| [rows.clone(), part.start * 2..right.min(part.end * 2)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_element_once_and_are_as_many_for_each_thread() {
        for threads in [1, 2, 3, 8] {
            for left in [1, 2, 6, 22, 43, 170] {
                for right in [1, 2, 3, 16, 37, 128] {
                    let tasks = tasks([left, right], threads);
                    let mut covered = vec![0; left * right];
                    for [rows, of] in &tasks {
                        assert!(rows.len() <= TALL && !rows.is_empty() && !of.is_empty());
                        rows.clone()
                            .for_each(|i| covered[i * right..][of.clone()].iter_mut().for_each(|x| *x += 1));
                    }
                    assert!(covered.iter().all(|&x| x == 1), "{left} and {right} panels, {threads} threads");
                    let enough =
                        left >= EACH * threads || left * right.div_ceil(2) >= 2 * EACH * threads * left;
                    assert!(
                        !enough || tasks.len().is_multiple_of(threads),
                        "{left} and {right} panels for {threads} threads in {} tasks",
                        tasks.len()
                    );
                }
            }
        }
    }
}
