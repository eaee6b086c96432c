//! The oracle: one query and one key at a time, in f64, from the formulas of `mod.rs`.

use super::{Dropout, Mask};
use crate::random::random_bits;

/// The sizes of one call, with batch and heads as one, and what is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Problem<'a> {
    /// Heads of all batch elements.
    pub heads: usize,
    /// Queries of each.
    pub queries: usize,
    /// Keys of each.
    pub keys: usize,
    /// Elements of a row.
    pub width: usize,
    /// What the products are multiplied by.
    pub scale: f64,
    /// Which keys a query sees.
    pub mask: Mask,
    /// What becomes of the probabilities.
    pub dropout: Option<Dropout>,
    /// What is added to the scores, contiguous `(heads, queries, keys)`; −∞ hides a key.
    pub bias: Option<&'a [f64]>,
}

impl Problem<'_> {
    /// How many keys a query may see, but for what the bias hides: those from the first on.
    pub(super) fn seen(&self, query: usize) -> usize {
        match self.mask {
            Mask::Full => self.keys,
            Mask::Causal => self.keys.min(query + 1),
        }
    }

    /// What is added to the score of a query, counted through the heads, and a key, if it is not hidden.
    pub(super) fn added(&self, query: usize, key: usize) -> Option<f64> {
        let bias = self.bias.map_or(0., |bias| bias[query * self.keys + key]);
        (bias != f64::NEG_INFINITY).then_some(bias)
    }

    /// What the probability of a query, counted through the heads, and a key is multiplied by.
    pub(super) fn kept(&self, query: usize, key: usize) -> f64 {
        self.dropout.map_or(1., |dropout| {
            let drawn = random_bits(dropout.key, (query * self.keys + key) as u64);
            if u64::from(drawn) < dropout.threshold() { 0. } else { dropout.factor() }
        })
    }

    fn query<'x>(&self, x: &'x [f64], head: usize, row: usize) -> &'x [f64] {
        &x[(head * self.queries + row) * self.width..][..self.width]
    }

    fn key<'x>(&self, x: &'x [f64], head: usize, row: usize) -> &'x [f64] {
        &x[(head * self.keys + row) * self.width..][..self.width]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `to += factor · x`.
fn add(to: &mut [f64], factor: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}

/// `out` and `lse` of contiguous `(heads, rows, width)`.
pub fn forward_scalar(p: &Problem<'_>, query: &[f64], key: &[f64], value: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut out = vec![0.; p.heads * p.queries * p.width];
    let mut lse = vec![f64::NEG_INFINITY; p.heads * p.queries];
    for at in 0..lse.len() {
        let (head, row) = (at / p.queries, at % p.queries);
        let q = p.query(query, head, row);
        let score = |k| Some((k, p.scale * dot(q, p.key(key, head, k)) + p.added(at, k)?));
        let scores: Vec<(usize, f64)> = (0..p.seen(row)).filter_map(score).collect();
        if scores.is_empty() {
            continue;
        }
        let largest = scores.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        lse[at] = largest + scores.iter().map(|(_, s)| (s - largest).exp()).sum::<f64>().ln();
        for (k, score) in scores {
            let probability = (score - lse[at]).exp();
            add(&mut out[at * p.width..][..p.width], p.kept(at, k) * probability, p.key(value, head, k));
        }
    }
    (out, lse)
}

/// The gradients of query, key and value from that of `out`.
pub fn backward_scalar(
    p: &Problem<'_>,
    query: &[f64],
    key: &[f64],
    value: &[f64],
    grad: &[f64],
) -> [Vec<f64>; 3] {
    let (out, lse) = forward_scalar(p, query, key, value);
    let mut grads = [vec![0.; query.len()], vec![0.; key.len()], vec![0.; value.len()]];
    let [query_grad, key_grad, value_grad] = &mut grads;
    for at in 0..lse.len() {
        let (head, row) = (at / p.queries, at % p.queries);
        let (q, g) = (p.query(query, head, row), p.query(grad, head, row));
        let row_sum = dot(g, p.query(&out, head, row));
        for k in 0..p.seen(row) {
            let (key_row, value_row) = (p.key(key, head, k), p.key(value, head, k));
            let Some(bias) = p.added(at, k) else { continue };
            let probability = (p.scale * dot(q, key_row) + bias - lse[at]).exp();
            let kept = p.kept(at, k);
            let score_grad = p.scale * probability * (kept * dot(g, value_row) - row_sum);
            let to = (head * p.keys + k) * p.width;
            add(&mut value_grad[to..][..p.width], kept * probability, g);
            add(&mut key_grad[to..][..p.width], score_grad, q);
            add(&mut query_grad[at * p.width..][..p.width], score_grad, key_row);
        }
    }
    grads
}
