//! Operands for tiles, on machines without tiles too.

use super::operands::{Left, Right};
use super::{DEPTH, PANEL, SIDE};
use crate::kernels::product::blocked::Threads;
use crate::kernels::product::matrix::Matrix;
use crate::simd::{Isa, Simd, Work};
use half::bf16;

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

#[test]
fn right_panels_hold_pairs_of_a_column_side_by_side_and_zeros_beyond_the_last_term() {
    for matrix in matrices() {
        let x = numbers(matrix.span());
        for threads in [Threads::One, Threads::All] {
            let right = Right::of(&x, matrix, threads);
            let terms = matrix.columns.next_multiple_of(DEPTH);
            for first in (0..matrix.rows).step_by(PANEL) {
                let panels = right.panels(first);
                assert_eq!(panels.len(), PANEL * terms / 2);
                for lane in first..matrix.rows.min(first + PANEL) {
                    let panel = &panels[(lane - first) / SIDE * SIDE * terms / 2..];
                    for k in 0..terms {
                        let found = panel[k / 2 * SIDE + lane % SIDE].0[k % 2].to_bits();
                        let expected = if k < matrix.columns { at(&x, matrix, lane, k) } else { 0 };
                        assert_eq!(found, expected, "lane {lane}, term {k} of {matrix:?}");
                    }
                }
            }
        }
    }
}

struct Lefts<'a>(&'a [bf16], Matrix);

impl Work for Lefts<'_> {
    type Output = ();

    fn run<S: Simd>(self, simd: S) {
        let Self(x, matrix) = self;
        let terms = matrix.columns.next_multiple_of(DEPTH);
        for first in (0..matrix.rows).step_by(PANEL) {
            let count = matrix.rows - first;
            let left = Left::of(simd, x, matrix, first, count);
            for row in 0..count {
                let (numbers, pitch) = left.from(row / PANEL * PANEL);
                for k in 0..terms {
                    let found = numbers[row % PANEL * pitch + k].to_bits();
                    let expected = if k < matrix.columns { at(x, matrix, first + row, k) } else { 0 };
                    assert_eq!(found, expected, "row {row} from {first}, term {k} of {matrix:?}");
                }
                let next = row / PANEL + 1;
                let all = numbers.len() + row / PANEL * PANEL * pitch;
                assert!(count > next * PANEL || all >= (next * PANEL - 1) * pitch + terms, "rows of a block");
                left.fetch(next * PANEL, matrix.columns, row % 3, 3);
            }
        }
    }
}

#[test]
fn left_rows_hold_numbers_one_after_another_and_zeros_beyond_the_last_term() {
    for matrix in matrices() {
        for isa in Isa::available() {
            isa.run(Lefts(&numbers(matrix.span()), matrix));
        }
    }
}
