//! The contract of the CPU, element by element.

use super::case::{Case, Given, Got};
use crate::buffer::ScalarType;
use crate::kernels::attention::{backward_scalar, forward_scalar};

/// Of a dtype: what a rounding loses, relative and absolute, and what one of the arithmetic does.
fn roundings(of: ScalarType) -> (f64, f64, f64) {
    match of {
        ScalarType::F16 => (2f64.powi(-11), 2f64.powi(-25), 2f64.powi(-24)),
        ScalarType::Bf16 => (2f64.powi(-8), 1e-36, 2f64.powi(-24)),
        ScalarType::F64 => (2f64.powi(-53), 1e-300, 2f64.powi(-53)),
        _ => (2f64.powi(-24), 1e-36, 2f64.powi(-24)),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn dot_of_magnitudes(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

/// `to += factor · |x|`.
fn add(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x.abs());
}

fn close(name: &str, got: &[f64], want: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.is_finite(), want.is_finite(), "{name} {i}: {got} for {want}");
        // Where a score is −∞ there is no bound, and its probability is 0.
        let (off, bound) = ((got - want).abs(), bound(i));
        let within = off <= bound || !bound.is_finite();
        assert!(!want.is_finite() || within, "{name} {i}: {got} for {want}, bound {bound}");
    }
}

/// Every element is within its bound; those that are not finite are those of the oracle.
pub(super) fn check(case: &Case, given: &Given, got: &Got) {
    let p = &case.problem();
    let (width, rounds) = (p.width, roundings(case.of));
    let (u, tiny, e) = rounds;
    let Given { query, key, value, grad } = given;
    let (out, lse) = forward_scalar(p, query, key, value);
    let grads = backward_scalar(p, query, key, value, grad);
    let mut lse_bound = vec![0.; lse.len()];
    let mut out_bound = vec![0.; out.len()];
    let mut bounds = [&grads[0], &grads[1], &grads[2]].map(|grad| vec![0.; grad.len()]);
    let [query_bound, key_bound, value_bound] = &mut bounds;
    for at in 0..lse.len() {
        let (head, row) = (at / p.queries, at % p.queries);
        let of = |row: usize| row * width..(row + 1) * width;
        let (q, g, seen) = (&query[of(at)], &grad[of(at)], p.seen(row));
        let key_at = |k: usize| of(head * p.keys + k);
        let score = |k: usize| p.added(at, k).map(|bias| p.scale * dot(q, &key[key_at(k)]) + bias);
        let scores: Vec<Option<f64>> = (0..seen).map(score).collect();
        let loss = |k: usize| {
            let magnitudes = dot_of_magnitudes(q, &key[key_at(k)]);
            scores[k].map_or(0., |score| {
                2. * e * width as f64 * p.scale.abs() * magnitudes + 4. * e * score.abs() + 8. * e
            })
        };
        let loss = (0..seen).map(loss).fold(0., f64::max);
        lse_bound[at] = loss + 2. * e * p.keys as f64;
        let summed = |n: usize| (2. * loss).exp_m1() + 2. * e * n as f64;
        let weight = |k: usize| scores[k].map_or(0., |score| (score - lse[at]).exp());
        let along = dot(g, &out[of(at)]);
        let terms = |k: usize| p.kept(at, k) * weight(k) * dot_of_magnitudes(g, &value[key_at(k)]);
        let terms: f64 = (0..seen).map(terms).sum();
        for k in 0..seen {
            let (kept, weight, v) = (p.kept(at, k), weight(k), &value[key_at(k)]);
            add(&mut out_bound[of(at)], summed(p.keys) * kept * weight, v);
            add(&mut value_bound[key_at(k)], summed(p.queries) * kept * weight, g);
            let slope = kept * dot(g, v) - along;
            let slope_loss = 4. * e * width as f64 * kept * dot_of_magnitudes(g, v)
                + (u + summed(p.keys) + 4. * e * width as f64) * terms;
            for (to, n, x) in [
                (&mut query_bound[of(at)], p.keys, &key[key_at(k)]),
                (&mut key_bound[key_at(k)], p.queries, q),
            ] {
                let loss = p.scale.abs() * weight * (summed(n) * slope.abs() + slope_loss);
                add(to, loss, x);
            }
        }
    }
    let rounded = |want: &[f64], bound: &[f64], i: usize| bound[i] * (1. + u) + u * want[i].abs() + tiny;
    let name = |what: &str| format!("{what} of {case:?}");
    if p.keys > 0 {
        close(&name("lse"), &got.lse, &lse, |i| lse_bound[i]);
    }
    close(&name("out"), &got.out, &out, |i| rounded(&out, &out_bound, i));
    for (which, (want, bound)) in grads.iter().zip(&bounds).enumerate() {
        let name = name(["the query's gradient", "the key's", "the value's"][which]);
        close(&name, &got.grads[which], want, |i| rounded(want, bound, i));
    }
}
