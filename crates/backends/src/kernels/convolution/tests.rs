//! What is refused before anything runs, and what is left to the op.

use super::*;
use crate::buffer::{Slice, SliceMut};

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
fn a_cpu_composes() {
    let ran = run([1, 4, 5, 5], [2, 2, 3, 3], [1, 2, 3, 3]);
    assert!(matches!(ran, Ok(Ran::Composed(_))), "{ran:?}");
    let empty = run([0, 4, 5, 5], [2, 2, 3, 3], [0, 2, 3, 3]);
    assert!(matches!(empty, Ok(Ran::Composed(_))), "{empty:?}");
}
