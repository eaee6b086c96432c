//! Operands for tiles, on machines without tiles too.

use super::operands::{Left, Right};
use super::{DEPTH, PANEL, SIDE};
use crate::kernels::product::blocked::{Strided, Threads};
use crate::kernels::product::matrix::Matrix;
use half::bf16;
use std::ops::Range;

/// Numbers that are all different, but for every 65,536th.
fn numbers(len: usize) -> Vec<bf16> {
    (0..len).map(|i| bf16::from_bits(i as u16)).collect()
}

/// Rows by rows, columns by columns, and with gaps, of whole tiles and of parts of some.
fn matrices() -> Vec<Matrix> {
    let sizes = [(1, 1), (5, 3), (16, 32), (32, 64), (33, 31), (64, 96), (70, 45), (97, 128)];
    let lies = |(rows, columns)| {
        [(columns, 1), (1, rows), (columns + 3, 1), (1, rows + 5), (3 * columns, 3), (2, 2 * rows)]
            .map(|(row, column)| Matrix { rows, columns, row, column })
    };
    sizes.into_iter().flat_map(lies).collect()
}

fn at(x: &[bf16], matrix: Matrix, row: usize, column: usize) -> u16 {
    x[row * matrix.row + column * matrix.column].to_bits()
}

/// All numbers of a lane, and those from one on.
fn parts(matrix: Matrix) -> [Range<usize>; 2] {
    [0..matrix.columns, matrix.columns / 3 * 2..matrix.columns]
}

#[test]
fn right_panels_hold_pairs_of_a_column_side_by_side_and_zeros_beyond_the_last_term() {
    for matrix in matrices() {
        let x = numbers(matrix.span());
        let of_threads = |threads| parts(matrix).map(|of| (threads, of));
        for (threads, of) in [Threads::One, Threads::All].into_iter().flat_map(of_threads) {
            for start in (0..matrix.rows).step_by(PANEL) {
                let right = Right::of(Strided::new(&x, matrix), start..matrix.rows, of.clone(), threads);
                let terms = of.len().next_multiple_of(DEPTH);
                for first in (start..matrix.rows).step_by(PANEL) {
                    let panels = right.panels(first - start);
                    assert_eq!(panels.len(), PANEL * terms / 2);
                    for lane in first..matrix.rows.min(first + PANEL) {
                        let panel = &panels[(lane - first) / SIDE * SIDE * terms / 2..];
                        for k in 0..terms {
                            let found = panel[k / 2 * SIDE + lane % SIDE].0[k % 2].to_bits();
                            let expected = if k < of.len() { at(&x, matrix, lane, of.start + k) } else { 0 };
                            assert_eq!(found, expected, "lane {lane}, term {k} of {of:?} of {matrix:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn left_rows_hold_numbers_one_after_another_and_zeros_beyond_the_last_term() {
    for matrix in matrices() {
        let x = numbers(matrix.span());
        for (first, of) in
            (0..matrix.rows).step_by(PANEL).flat_map(|first| parts(matrix).map(|of| (first, of)))
        {
            let (count, operand) = (matrix.rows - first, Strided::new(&x, matrix));
            let left = Left::of(&operand, first..matrix.rows, of.clone(), Threads::All);
            let terms = of.len().next_multiple_of(DEPTH);
            for row in 0..count {
                let (numbers, pitch) = left.from(row / PANEL * PANEL);
                for k in 0..terms {
                    let found = numbers[row % PANEL * pitch + k].to_bits();
                    let expected = if k < of.len() { at(&x, matrix, first + row, of.start + k) } else { 0 };
                    assert_eq!(found, expected, "row {row} from {first}, term {k} of {of:?} of {matrix:?}");
                }
                let next = row / PANEL + 1;
                let all = numbers.len() + row / PANEL * PANEL * pitch;
                assert!(count > next * PANEL || all >= (next * PANEL - 1) * pitch + terms, "rows of a block");
                left.fetch(next * PANEL, of.len(), row % 3, 3);
            }
        }
    }
}
