//! The CPU against the oracle, element by element within the contract, with every instruction set.

mod bounds;
mod case;

use proptest::prelude::*;

use crate::buffer::ScalarType;
use crate::kernels::attention::{Dropout, Mask, Order, Problem};
use crate::simd::Isa;
use bounds::check;
use case::{Case, Given, Layout};

const TYPES: [ScalarType; 4] = [ScalarType::F32, ScalarType::F64, ScalarType::F16, ScalarType::Bf16];

/// Within the contract with every instruction set.
fn check_all(case: &Case, given: &Given) {
    for isa in Isa::available() {
        check(case, given, &case.run(isa, given));
    }
}

fn problem(mask: Mask, queries: usize, keys: usize, width: usize) -> Problem<'static> {
    let scale = 1. / (width.max(1) as f64).sqrt();
    Problem { heads: 1, queries, keys, width, scale, mask, dropout: None, bias: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]
    #[test]
    fn every_type_mask_and_layout_is_the_oracle_within_the_contract(
        of in prop::sample::select(TYPES.to_vec()),
        (batch, heads) in (1usize..3, 1usize..4),
        (queries, keys, square) in (1usize..68, 1usize..68, any::<bool>()),
        width in prop::sample::select(vec![1usize, 3, 16, 32, 64, 80]),
        mask in prop::sample::select(vec![Mask::Full, Mask::Causal]),
        dropout in prop::sample::select(vec![0., 0.3]),
        bias in prop::option::of((any::<[bool; 4]>(), any::<bool>())),
        layout in prop::sample::select(vec![Layout::Plain, Layout::RowsFirst, Layout::Across]),
        order in prop::sample::select(vec![Order::HeadsFirst, Order::RowsFirst]),
        packed in any::<bool>(),
        seed in any::<u32>(),
    ) {
        let keys = if square { queries } else { keys };
        let dropout = (dropout > 0.).then_some(Dropout { p: dropout, key: u64::from(seed) });
        let problem = Problem { dropout, ..problem(mask, queries, keys, width) };
        let packed = packed && keys == queries;
        let case = Case { layout, order, packed, ..Case::new(of, (batch, heads), problem) };
        let case = match bias {
            Some((repeated, bytes)) => case.biased(repeated, bytes, u64::from(seed)),
            None => case,
        };
        check_all(&case, &case.numbers(u64::from(seed)));
    }
}

#[test]
fn tiles_and_parts_meet_without_a_seam() {
    for (of, mask, (queries, keys), dropout) in [
        (ScalarType::F32, Mask::Causal, (600, 600), None),
        (ScalarType::F32, Mask::Full, (130, 700), Some(Dropout { p: 0.3, key: 3 })),
        (ScalarType::F32, Mask::Causal, (600, 100), None),
        (ScalarType::Bf16, Mask::Causal, (300, 513), Some(Dropout { p: 0.3, key: 4 })),
        (ScalarType::F16, Mask::Full, (513, 257), None),
        (ScalarType::F64, Mask::Causal, (520, 520), None),
    ] {
        let problem = Problem { dropout, ..problem(mask, queries, keys, 16) };
        let case = Case { order: Order::RowsFirst, ..Case::new(of, (1, 2), problem) };
        check_all(&case, &case.numbers(7));
    }
}

/// Whole tiles that a query does not see, before and after those that it sees; and queries that see nothing.
#[test]
fn tiles_that_are_hidden_add_nothing() {
    for of in TYPES {
        let (queries, keys) = (130, 700);
        let mut case =
            Case::new(of, (1, 2), problem(Mask::Full, queries, keys, 8)).biased([false; 4], false, 5);
        let bias = &mut case.bias.as_mut().unwrap().whole;
        for (i, bias) in bias.iter_mut().enumerate() {
            let (query, key) = (i / keys % queries, i % keys);
            let seen = [0..0, 0..256, 256..512, 600..700, 0..700][query % 5].contains(&key);
            *bias = if seen { *bias } else { f64::NEG_INFINITY };
        }
        let given = case.numbers(21);
        check_all(&case, &given);
        let got = case.run(Isa::best(), &given);
        for query in (0..queries).filter(|query| query % 5 == 0) {
            assert!(got.lse[query] == f64::NEG_INFINITY && got.grads[0][query * 8..][..8] == [0.; 8]);
        }
    }
}

/// As [`what_is_hidden_reaches_nothing`], where a bias hides it.
#[test]
fn what_a_bias_hides_reaches_nothing() {
    for of in TYPES {
        let case = Case::new(of, (1, 2), problem(Mask::Full, 20, 40, 16)).biased([false; 4], false, 6);
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for which in 0..4 {
                let mut given = case.numbers(22);
                let Given { query, key, value, grad } = &mut given;
                let rows = if which % 3 == 0 { 20 } else { 40 };
                [query, key, value, grad][which][(rows + 7) * 16 + 5] = odd;
                check(&case, &given, &case.run(Isa::best(), &given));
            }
        }
        let mut case = case;
        for odd in [f64::NAN, f64::INFINITY] {
            case.bias.as_mut().unwrap().whole[7 * 40 + 11] = odd;
            let given = case.numbers(23);
            check_all(&case, &given);
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for (of, mask) in TYPES.into_iter().flat_map(|of| [(of, Mask::Full), (of, Mask::Causal)]) {
        for scale in [1e4 / 8., -1e4 / 8.] {
            let case = Case::new(of, (1, 2), Problem { scale, ..problem(mask, 70, 300, 8) });
            let given = case.numbers(9);
            for isa in Isa::available() {
                let got = case.run(isa, &given);
                assert!(got.lse.iter().any(|lse| lse.abs() > 1e3));
                check(&case, &given, &got);
            }
        }
    }
}

/// What is not finite reaches those who see it, and nobody else: which elements are finite is the oracle's.
#[test]
fn what_is_hidden_reaches_nothing() {
    for of in TYPES {
        for (mask, queries, keys) in
            [(Mask::Causal, 150, 150), (Mask::Causal, 20, 40), (Mask::Causal, 40, 20), (Mask::Full, 20, 20)]
        {
            let case = Case::new(of, (1, 2), problem(mask, queries, keys, 16));
            for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                for row in [0, 3, 19, 39, 70, 149] {
                    let at = |rows: usize| (rows + row) * 16 + 5;
                    for which in 0..4 {
                        let mut given = case.numbers(11);
                        let rows = if which % 3 == 0 { queries } else { keys };
                        let Given { query, key, value, grad } = &mut given;
                        if row < rows {
                            [query, key, value, grad][which][at(rows)] = odd;
                            check(&case, &given, &case.run(Isa::best(), &given));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_head_that_is_not_finite_drops_what_the_others_drop() {
    let dropout = Some(Dropout { p: 0.3, key: 8 });
    let case = Case::new(ScalarType::F32, (2, 1), Problem { dropout, ..problem(Mask::Causal, 40, 40, 8) });
    let mut given = case.numbers(12);
    let before = case.run(Isa::best(), &given);
    given.key[(40 + 39) * 8] = f64::NAN;
    let got = case.run(Isa::best(), &given);
    assert!(got.out[79 * 8..].iter().all(|x| x.is_nan()));
    for (got, before) in got.out[..79 * 8].iter().zip(&before.out) {
        assert!((got - before).abs() < 1e-5, "{got} and {before}");
    }
}

#[test]
fn threads_make_no_difference() {
    let of = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let pools = [of(1), of(3)];
    for ((batch, heads), queries, keys) in [((1, 1), 600, 600), ((3, 3), 100, 100), ((1, 2), 700, 300)] {
        for (of, packed) in [(ScalarType::F32, queries == keys), (ScalarType::Bf16, false)] {
            let problem = problem(Mask::Causal, queries, keys, 32);
            let case = Case { packed, ..Case::new(of, (batch, heads), problem) };
            let given = case.numbers(13);
            let [one, three] = pools.each_ref().map(|pool| pool.install(|| case.run(Isa::best(), &given)));
            assert_eq!(one.bits(), three.bits());
        }
    }
}

#[test]
fn nothing_to_see_is_zero_and_has_no_gradient() {
    for of in TYPES {
        for (batch, queries, keys, width) in
            [(2, 5, 0, 8), (2, 0, 5, 8), (0, 5, 5, 8), (2, 0, 0, 8), (2, 5, 3, 0)]
        {
            for mask in [Mask::Full, Mask::Causal] {
                let case = Case::new(of, (batch, 2), problem(mask, queries, keys, width));
                let given = case.numbers(14);
                check_all(&case, &given);
                let got = case.run(Isa::best(), &given);
                if keys == 0 {
                    assert!(got.out.iter().all(|&x| x == 0.));
                    assert!(got.lse.iter().all(|&x| x == f64::NEG_INFINITY));
                }
                if queries == 0 {
                    assert!(got.grads.iter().flatten().all(|&x| x == 0.));
                }
            }
        }
    }
}
