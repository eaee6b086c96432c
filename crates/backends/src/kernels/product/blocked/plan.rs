//! How a product is cut into tasks.

use std::ops::Range;

/// Tasks for each thread: all end together though some are slower.
const EACH: usize = 4;

/// Cuts `len` units into `count` parts that differ by one at most.
pub(super) fn cut(len: usize, count: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..count).map(move |i| i * len / count..(i + 1) * len / count)
}

/// Units of the operand that tasks pack, `most` in each, and of the other one: as many tasks for each thread, where there are enough
/// of either.
pub(super) fn tasks([own, shared]: [usize; 2], most: usize, threads: usize) -> Vec<[Range<usize>; 2]> {
    let wanted = if threads == 1 { 1 } else { EACH * threads };
    let high = own.div_ceil(most).max(wanted.min(own)).next_multiple_of(threads).min(own);
    // Where there are too few of their own, tasks take some of the others.
    let least = wanted.div_ceil(high).min(shared);
    let even = (least..=shared.min(least + threads)).find(|wide| (high * wide).is_multiple_of(threads));
    let wide = if least == 1 { 1 } else { even.unwrap_or(least) };
    // The last of each thread are halves, so that none waits long for another.
    let whole = if least == 1 && threads > 1 { high.saturating_sub(threads) } else { high };
    let parts = |i: usize| cut(shared, if i < whole { wide } else { shared.min(2) });
    cut(own, high).enumerate().flat_map(|(i, own)| parts(i).map(move |part| [own.clone(), part])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_element_once_and_are_as_many_for_each_thread() {
        for (threads, most) in [1, 2, 3, 8].into_iter().flat_map(|threads| [(threads, 2), (threads, 4)]) {
            for own in [1, 2, 6, 22, 43, 170] {
                for shared in [1, 2, 3, 16, 37, 128] {
                    let tasks = tasks([own, shared], most, threads);
                    let mut covered = vec![0; own * shared];
                    for [rows, of] in &tasks {
                        assert!(rows.len() <= most && !rows.is_empty() && !of.is_empty());
                        rows.clone()
                            .for_each(|i| covered[i * shared..][of.clone()].iter_mut().for_each(|x| *x += 1));
                    }
                    assert!(covered.iter().all(|&x| x == 1), "{own} and {shared} units, {threads} threads");
                    let enough = own >= EACH * threads || own * shared >= 2 * EACH * threads * own;
                    assert!(
                        !enough || tasks.len().is_multiple_of(threads),
                        "{own} and {shared} units for {threads} threads in {} tasks",
                        tasks.len()
                    );
                }
            }
        }
    }

    #[test]
    fn the_last_tasks_of_each_thread_take_half_of_the_others() {
        let wide = |tasks: Vec<[Range<usize>; 2]>| tasks.iter().map(|[_, of]| of.len()).collect::<Vec<_>>();
        assert_eq!(wide(tasks([8, 6], 1, 2)), [6, 6, 6, 6, 6, 6, 3, 3, 3, 3]);
        assert_eq!(wide(tasks([8, 1], 1, 2)), [1; 8], "what cannot be halved");
        assert_eq!(wide(tasks([3, 6], 1, 1)), [6; 3], "one thread waits for none");
    }
}
