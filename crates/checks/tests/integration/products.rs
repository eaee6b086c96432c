//! Matrix products, `linear`, `einsum` and `embedding`: values, gradients, shapes and errors.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::{Error, ops};
use candle_core::{DType, Device, Tensor, Var};
use checks::catalogue::functions::{check_gradients, check_linear, to_f64, value_and_gradients, values};
use proptest::prelude::*;

#[test]
fn gradients_and_dtypes_agree() {
    checks::catalogue::check::check_all(checks::catalogue::cases_products::CASES, &Device::Cpu);
}

#[test]
fn a_beta_of_zero_does_not_read_the_input() {
    let nan = Tensor::full(f32::NAN, (2, 2), &Device::Cpu).unwrap();
    let eye = Tensor::eye(2, DType::F32, &Device::Cpu).unwrap();
    let out = ops::addmm(&nan, &eye, &eye, 0., 1.).unwrap();
    assert_eq!(out.to_vec2::<f32>().unwrap(), [[1., 0.], [0., 1.]]);
}

/// The sum that an einsum stands for, written out: every assignment of a size to a letter.
fn einsum_by_hand(equation: &str, operands: &[Tensor]) -> Vec<f64> {
    let (inputs, output) = equation.split_once("->").unwrap();
    let inputs = inputs.split(',').collect::<Vec<_>>();
    let mut letters = output.chars().collect::<Vec<_>>();
    letters.extend(inputs.concat().chars().filter(|c| !output.contains(*c)));
    letters.dedup();
    let mut unique = Vec::new();
    letters.iter().for_each(|c| {
        if !unique.contains(c) {
            unique.push(*c)
        }
    });
    let size = |c: char| {
        let sizes = inputs.iter().zip(operands);
        sizes.filter_map(|(i, t)| i.chars().position(|x| x == c).map(|p| t.dims()[p])).max().unwrap()
    };
    let sizes = unique.iter().map(|&c| size(c)).collect::<Vec<_>>();
    let mut out = vec![0.; output.chars().map(size).product()];
    for index in 0..sizes.iter().product::<usize>() {
        let mut rest = index;
        let mut at = vec![0; sizes.len()];
        for (a, &s) in at.iter_mut().zip(&sizes).rev() {
            *a = rest % s;
            rest /= s;
        }
        let of = |c: char| at[unique.iter().position(|&u| u == c).unwrap()];
        let term = inputs.iter().zip(operands).fold(1., |term, (input, t)| {
            let flat = input.chars().zip(t.dims()).fold(0, |flat, (c, &d)| flat * d + of(c).min(d - 1));
            term * to_f64(t)[flat]
        });
        out[output.chars().fold(0, |flat, c| flat * size(c) + of(c))] += term;
    }
    out
}

#[test]
fn einsum_is_the_sum_that_it_says() {
    let size = |c: char| "abcdijk".find(c).unwrap() % 3 + 2;
    for equation in [
        "ij,jk->ik",
        "bij,bjk->bik",
        "ij,kj->ki",
        "i,i->",
        "i,j->ij",
        "ij->ji",
        "ij->",
        "ij,ij->i",
        "abij,abkj->abik",
        "ai,bj->ij",
        "ij,jk,kd->id",
    ] {
        let inputs = equation.split_once("->").unwrap().0.split(',');
        let operands = inputs
            .enumerate()
            .map(|(i, s)| values(&s.chars().map(size).collect::<Vec<_>>(), i as u64))
            .collect::<Vec<_>>();
        let run = |t: &[Tensor]| ops::einsum(equation, &t.iter().collect::<Vec<_>>());
        let got = to_f64(&run(&operands).unwrap());
        for (got, want) in got.iter().zip(einsum_by_hand(equation, &operands)) {
            assert!((got - want).abs() < 1e-12, "{equation}: {got}, want {want}");
        }
        check_linear(equation, 6., &run, &operands);
    }
    // Implicit output, and a letter of size 1 that broadcasts.
    let (a, b) = (values(&[2, 3], 1), values(&[1, 3], 2));
    let implicit = ops::einsum("ij,jk", &[&a, &values(&[3, 4], 5)]).unwrap();
    assert_eq!(implicit.dims(), [2, 4]);
    check_gradients("broadcast", &|t| ops::einsum("ij,ij->i", &[&t[0], &t[1]]), &[a, b]);
}

#[test]
fn malformed_equations_are_errors() {
    let t = values(&[2, 2], 1);
    for equation in ["ii->i", "ij->ijk", "ij,jk->ik", "i->i", "i1->i", "ij->ii", "...i->i", "", "->"] {
        let error = ops::einsum(equation, &[&t]).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }), "{equation}: {error:?}");
    }
}

#[test]
fn bias_and_embedding_gradients_count_to_4096_in_16_bits() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let dev = &Device::Cpu;
        let bias = Var::zeros(3, dtype, dev).unwrap();
        let x = Tensor::zeros((4096, 2), dtype, dev).unwrap();
        let w = Tensor::zeros((3, 2), dtype, dev).unwrap();
        let out = ops::linear(&x, &w, Some(bias.as_tensor())).unwrap();
        let grads = autocast::backward(out.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(to_f64(grads.get(&bias).unwrap()), [4096.; 3], "{dtype:?}");

        let table = Var::zeros((2, 3), dtype, dev).unwrap();
        let ids = Tensor::ones((64, 64), DType::U32, dev).unwrap();
        let out = ops::embedding(&ids, table.as_tensor()).unwrap();
        let grads = autocast::backward(out.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(to_f64(grads.get(&table).unwrap()), [0., 0., 0., 4096., 4096., 4096.], "{dtype:?}");

        let shared = Var::zeros((1, 2), dtype, dev).unwrap();
        let stack = Tensor::ones((4096, 2, 1), dtype, dev).unwrap();
        let out = ops::matmul(shared.as_tensor(), &stack).unwrap();
        let grads = autocast::backward(out.to_dtype(DType::F32).unwrap().sum_all().unwrap()).unwrap();
        assert_eq!(to_f64(grads.get(&shared).unwrap()), [4096.; 2], "{dtype:?}");

        let ones = Tensor::ones((1, 4096), dtype, dev).unwrap();
        let dot = ops::matmul(&ones, &ones.t().unwrap()).unwrap();
        assert_eq!(to_f64(&dot), [4096.], "{dtype:?}");
        let sum = ops::einsum("ij->", &[&ones]).unwrap();
        assert_eq!(to_f64(&sum), [4096.], "{dtype:?}");
    }
}

#[test]
fn embedding_looks_up_rows_of_any_integer_ids() {
    let weight = values(&[5, 3], 1);
    for dtype in [DType::U8, DType::U32, DType::I64] {
        let ids = Tensor::new(&[[4u32, 0], [4, 2], [1, 4]], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let out = ops::embedding(&ids.t().unwrap(), &weight).unwrap();
        assert_eq!(out.dims(), [2, 3, 3]);
        assert_eq!(to_f64(&out.get(0).unwrap().get(1).unwrap()), to_f64(&weight.get(4).unwrap()));
        check_linear("embedding", 2., &|t| ops::embedding(&ids, &t[0]), std::slice::from_ref(&weight));
        let (_, grads) = value_and_gradients(
            &|t| ops::embedding_with_padding(&ids, &t[0], 4),
            std::slice::from_ref(&weight),
            &Tensor::ones((3, 2, 3), DType::F64, &Device::Cpu).unwrap(),
        );
        let rows = [1., 1., 1., 0., 0.].iter().flat_map(|&n| [n; 3]).collect::<Vec<f64>>();
        assert_eq!(to_f64(&grads[0]), rows);
    }
}

#[test]
fn bad_input_is_a_typed_error() {
    let v = |dims: &[usize]| values(dims, 1);
    let f32s = |dims: &[usize]| v(dims).to_dtype(DType::F32).unwrap();
    let shape = |r: autocast::Result<Tensor>| {
        assert!(matches!(&r, Err(Error::InvalidArgument { got, .. }) if got.starts_with("of shape")), "{r:?}")
    };
    let dtype = |r: autocast::Result<Tensor>| {
        assert!(
            matches!(&r, Err(Error::InvalidArgument { expected, .. }) if expected.ends_with("; cast one of them")),
            "{r:?}"
        )
    };
    let argument =
        |r: autocast::Result<Tensor>| assert!(matches!(r, Err(Error::InvalidArgument { .. })), "{r:?}");
    shape(ops::linear(&v(&[2, 3]), &v(&[4, 2]), None));
    shape(ops::linear(&v(&[2, 3]), &v(&[4]), None));
    shape(ops::linear(&v(&[]), &v(&[4, 3]), None));
    shape(ops::linear(&v(&[2, 3]), &v(&[4, 3]), Some(&v(&[3]))));
    shape(ops::matmul(&v(&[2, 3]), &v(&[2, 3])));
    shape(ops::matmul(&v(&[]), &v(&[2, 3])));
    shape(ops::matmul(&v(&[2, 2, 3]), &v(&[3, 3, 2])));
    shape(ops::mm(&v(&[2, 3, 1]), &v(&[2, 3])));
    shape(ops::bmm(&v(&[2, 3]), &v(&[3, 2])));
    shape(ops::mv(&v(&[2, 3]), &v(&[2])));
    shape(ops::outer(&v(&[2, 3]), &v(&[2])));
    shape(ops::addmm(&v(&[3]), &v(&[2, 3]), &v(&[3, 2]), 1., 1.));
    shape(ops::addbmm(&v(&[3]), &v(&[2, 3]), &v(&[3, 2]), 1., 1.));
    shape(ops::chain_matmul(&[&v(&[3])]));
    argument(ops::chain_matmul(&[]));
    argument(ops::linalg_vecdot(&v(&[2]), &v(&[2]), 1));
    dtype(ops::linear(&v(&[2, 3]), &f32s(&[4, 3]), None));
    dtype(ops::matmul(&v(&[2, 3]), &f32s(&[3, 3])));
    let ids = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
    shape(ops::embedding(&ids, &v(&[3])));
    shape(ops::embedding(&ids, &v(&[0, 3])));
    argument(ops::embedding_with_padding(&ids, &v(&[3, 2]), 3));
    assert!(
        matches!(&ops::embedding(&v(&[2]), &v(&[3, 2])), Err(Error::InvalidArgument { expected, .. }) if expected.ends_with("; cast it"))
    );
    assert!(ops::embedding(&ids, &v(&[2, 2])).is_err(), "an id beyond the table");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_shape_has_right_gradients(
        lead in prop::collection::vec(0usize..3, 0..3), m in 0usize..4, k in 0usize..4, n in 0usize..4, transposed: bool,
    ) {
        let turned = |dims: [usize; 2], seed| {
            if transposed { values(&[dims[1], dims[0]], seed).t().unwrap() } else { values(&dims, seed) }
        };
        let mut dims = lead.clone();
        dims.push(m);
        dims.push(k);
        let x = if transposed {
            let mut swapped = lead.clone();
            swapped.extend([k, m]);
            values(&swapped, 1).transpose(lead.len(), lead.len() + 1).unwrap()
        } else {
            values(&dims, 1)
        };
        let (w, b) = (turned([n, k], 2), values(&[n], 3));
        let turn = |t: &Tensor| if transposed { t.t().unwrap().contiguous().unwrap().t().unwrap() } else { t.clone() };
        check_gradients("linear", &|t| ops::linear(&turn(&t[0]), &turn(&t[1]), Some(&t[2])), &[x.clone(), w.clone(), b]);
        check_gradients("matmul", &|t| ops::matmul(&turn(&t[0]), &turn(&t[1])), &[x.clone(), turned([k, n], 4)]);
        let mut stack = lead;
        stack.extend([k, n]);
        check_gradients("stacked", &|t| ops::matmul(&turn(&t[0]), &t[1]), &[x, values(&stack, 5)]);
    }
}
