//! Operands for tiles, on machines without tiles too.

use super::operands::{Role, TILE, Tiles};
use super::{BLOCK, DEPTH, SIDE};
use crate::kernels::product::blocked::Strided;
use crate::kernels::product::matrix::Matrix;
use crate::threads::Threads;
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

/// Panels of every part of every matrix, of each number of which `place` says which pair of its panel, and which half of that, it is.
fn hold_each_number_and_zeros_beyond_the_last(role: Role, place: impl Fn(usize, usize) -> (usize, usize)) {
    for matrix in matrices() {
        let x = numbers(matrix.span());
        let of_threads = |threads| parts(matrix).map(|of| (threads, of));
        for (threads, of) in [Threads::One, Threads::All].into_iter().flat_map(of_threads) {
            for start in (0..matrix.rows).step_by(BLOCK) {
                let lanes = start..matrix.rows;
                let panels = Tiles::of(role, Strided::new(&x, matrix), lanes.clone(), of.clone(), threads);
                let terms = of.len().next_multiple_of(DEPTH);
                for (i, lane) in lanes.enumerate() {
                    let block = panels.block(i / BLOCK);
                    assert_eq!(block.len(), BLOCK * terms / 2);
                    let panel = &block[i % BLOCK / SIDE * SIDE * terms / 2..][..SIDE * terms / 2];
                    assert_eq!(panel.as_ptr(), panels.panel(i / SIDE).as_ptr());
                    for k in 0..terms {
                        let (pair, half) = place(i % SIDE, k);
                        let expected = if k < of.len() { at(&x, matrix, lane, of.start + k) } else { 0 };
                        let found = panel[pair].0[half].to_bits();
                        assert_eq!(found, expected, "lane {lane}, term {k} of {of:?} of {matrix:?}");
                    }
                }
                assert_eq!(panels.panel(usize::MAX).len(), SIDE * terms / 2);
            }
        }
    }
}

#[test]
fn right_panels_hold_pairs_of_a_column_side_by_side() {
    hold_each_number_and_zeros_beyond_the_last(Role::Right, |lane, k| (k / 2 * SIDE + lane, k % 2));
}

#[test]
fn left_panels_hold_32_numbers_of_a_row_in_each_tile() {
    hold_each_number_and_zeros_beyond_the_last(Role::Left, |lane, k| {
        (k / DEPTH * TILE + lane * SIDE + k % DEPTH / 2, k % 2)
    });
}
