//! Matrix products, `linear`, `einsum` and `embedding`.

use autocast::ops;

use super::OpCase;

/// Products of matrices and vectors.
pub const CASES: &[OpCase] = &[
    OpCase::new(
        "linear",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[5, 4], -1., 1.), s.uniform(&[5], -1., 1.)],
        |x| ops::linear(&x[0], &x[1], Some(&x[2])),
    )
    .rounding(2),
    OpCase::new(
        "linear_add",
        |s| {
            let (input, weight) = (s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[5, 4], -1., 1.));
            vec![input, weight, s.uniform(&[5], -1., 1.), s.uniform(&[2, 3, 5], -1., 1.)]
        },
        |x| ops::linear_add(&x[0], &x[1], Some(&x[2]), &x[3]),
    )
    .rounding(2),
    OpCase::new(
        "linear_add, no bias, a residual of other strides",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[5, 4], -1., 1.), s.uniform(&[5, 3], -1., 1.)],
        |x| ops::linear_add(&x[0], &x[1], None, &x[2].t()?),
    )
    .rounding(2),
    OpCase::new(
        "linear, no bias",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[5, 4], -1., 1.)],
        |x| ops::linear(&x[0], &x[1], None),
    ),
    OpCase::new(
        "matmul",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[4, 2], -1., 1.)],
        |x| ops::matmul(&x[0], &x[1]),
    ),
    OpCase::new(
        "matmul, one matrix for a stack",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[4, 2], -1., 1.)],
        |x| ops::matmul(&x[0], &x[1]),
    ),
    OpCase::new(
        "matmul, broadcast",
        |s| vec![s.uniform(&[2, 1, 3, 4], -1., 1.), s.uniform(&[3, 4, 2], -1., 1.)],
        |x| ops::matmul(&x[0], &x[1]),
    )
    .rounding(2),
    OpCase::new(
        "matmul, vector",
        |s| vec![s.uniform(&[4], -1., 1.), s.uniform(&[2, 4, 3], -1., 1.)],
        |x| ops::matmul(&x[0], &x[1]),
    )
    .rounding(2),
    OpCase::new(
        "mm",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[4, 2], -1., 1.)],
        |x| ops::mm(&x[0], &x[1]),
    ),
    OpCase::new(
        "bmm",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[2, 4, 2], -1., 1.)],
        |x| ops::bmm(&x[0], &x[1]),
    ),
    OpCase::new(
        "mv",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[4], -1., 1.)],
        |x| ops::mv(&x[0], &x[1]),
    ),
    OpCase::new(
        "dot",
        |s| vec![s.uniform(&[6], -1., 1.), s.uniform(&[6], -1., 1.)],
        |x| ops::dot(&x[0], &x[1]),
    ),
    OpCase::new(
        "outer",
        |s| vec![s.uniform(&[3], -1., 1.), s.uniform(&[4], -1., 1.)],
        |x| ops::outer(&x[0], &x[1]),
    ),
    OpCase::new(
        "linalg_vecdot",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[3, 1], -1., 1.)],
        |x| ops::linalg_vecdot(&x[0], &x[1], 1),
    )
    .rounding(2),
    OpCase::new(
        "addmm",
        |s| vec![s.uniform(&[2], -1., 1.), s.uniform(&[3, 4], -1., 1.), s.uniform(&[4, 2], -1., 1.)],
        |x| ops::addmm(&x[0], &x[1], &x[2], 0.5, 2.),
    )
    .rounding(3),
    OpCase::new(
        "addmv",
        |s| vec![s.uniform(&[3], -1., 1.), s.uniform(&[3, 4], -1., 1.), s.uniform(&[4], -1., 1.)],
        |x| ops::addmv(&x[0], &x[1], &x[2], 1., -1.),
    )
    .rounding(3),
    OpCase::new(
        "addr",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[3], -1., 1.), s.uniform(&[4], -1., 1.)],
        |x| ops::addr(&x[0], &x[1], &x[2], 1., 1.),
    )
    .rounding(3),
    OpCase::new(
        "addbmm",
        |s| vec![s.uniform(&[3, 2], -1., 1.), s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[2, 4, 2], -1., 1.)],
        |x| ops::addbmm(&x[0], &x[1], &x[2], 1., 1.),
    )
    .rounding(3),
    OpCase::new(
        "baddbmm",
        |s| vec![s.uniform(&[1, 2], -1., 1.), s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[2, 4, 2], -1., 1.)],
        |x| ops::baddbmm(&x[0], &x[1], &x[2], 1., 1.),
    )
    .rounding(3),
    OpCase::new(
        "chain_matmul",
        |s| vec![s.uniform(&[2, 3], -1., 1.), s.uniform(&[3, 4], -1., 1.), s.uniform(&[4, 2], -1., 1.)],
        |x| ops::chain_matmul(&[&x[0], &x[1], &x[2]]),
    )
    .rounding(4),
    OpCase::new(
        "einsum",
        |s| vec![s.uniform(&[2, 3, 4], -1., 1.), s.uniform(&[2, 5, 4], -1., 1.)],
        |x| ops::einsum("bij,bkj->bik", &[&x[0], &x[1]]),
    ),
    OpCase::new(
        "einsum, summed over a letter of one operand",
        |s| vec![s.uniform(&[3, 4], -1., 1.), s.uniform(&[3, 2], -1., 1.)],
        |x| ops::einsum("ij,ik->k", &[&x[0], &x[1]]),
    )
    .rounding(3),
    OpCase::new(
        "embedding",
        |s| vec![s.indices(&[3, 4], 5), s.uniform(&[5, 3], -1., 1.)],
        |x| ops::embedding(&x[0], &x[1]),
    ),
    OpCase::new(
        "embedding, padding",
        |s| vec![s.indices(&[8], 4), s.uniform(&[5, 2], -1., 1.)],
        |x| {
            // Row 4 is never used, so that its missing gradient agrees with the differences.
            ops::embedding_with_padding(&x[0], &x[1], 4)
        },
    ),
];
