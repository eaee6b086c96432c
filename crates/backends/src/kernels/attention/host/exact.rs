//! A head that is not finite: one visible pair of a query and a key after another, in f64. What is hidden, or dropped, is left
//! out by choice.

use super::Call;
use super::number::Number;

/// `out` and `lse` of the queries of a head from `start` on.
pub(super) fn forward<A: Number>(
    call: &Call<'_>,
    (head, start): (usize, usize),
    (query, key, value): (&[A], &[A], &[A]),
    out: &mut [A],
    lse: &mut [A],
) {
    let width = call.sizes.width;
    let mut sums = vec![0f64; width];
    let mut scores = Vec::new();
    let of = |row: usize| row * width..(row + 1) * width;
    for (row, lse) in lse.iter_mut().enumerate() {
        let at = start + row;
        let score = |k: usize| Some((k, score(call, (head, at, k), &query[of(row)], &key[of(k)])?));
        scores.clear();
        scores.extend((0..call.seen(at)).filter_map(score));
        let largest = scores.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|(_, score)| (score - largest).exp()).sum();
        let log = if scores.is_empty() { f64::NEG_INFINITY } else { largest + total.ln() };
        sums.fill(0.);
        for &(k, score) in &scores {
            if let Some(kept) = kept(call, head, at, k) {
                add(&mut sums, kept * (score - log).exp(), &value[of(k)]);
            }
        }
        *lse = A::from_f64(log);
        out[of(row)].iter_mut().zip(&sums).for_each(|(out, &sum)| *out = A::from_f64(sum));
    }
}

/// What the backward pass reads of a head, widened.
pub(super) struct Read<'a, A> {
    pub(super) query: &'a [A],
    pub(super) key: &'a [A],
    pub(super) value: &'a [A],
    pub(super) grad: &'a [A],
    pub(super) lse: &'a [A],
    /// `rowsum(grad ∘ out)`.
    pub(super) along: &'a [A],
}

/// The gradients of the query, the key and the value of a head.
pub(super) fn backward<A: Number>(
    call: &Call<'_>,
    head: usize,
    read: &Read<'_, A>,
    [query_grad, key_grad, value_grad]: [&mut [A]; 3],
) {
    let (width, scale) = (call.sizes.width, call.attention.scale);
    let mut sums = [&query_grad, &key_grad, &value_grad].map(|grad| vec![0f64; grad.len()]);
    let [query_sums, key_sums, value_sums] = &mut sums;
    let row = |row: usize| row * width..(row + 1) * width;
    for at in 0..call.sizes.queries {
        let (query, grad) = (&read.query[row(at)], &read.grad[row(at)]);
        for k in 0..call.seen(at) {
            let (key, value) = (&read.key[row(k)], &read.value[row(k)]);
            let Some(score) = score(call, (head, at, k), query, key) else { continue };
            let probability = (score - read.lse[at].to_f64()).exp();
            let mut slope = 0.;
            if let Some(kept) = kept(call, head, at, k) {
                slope = kept * dot(grad, value);
                add(&mut value_sums[row(k)], kept * probability, grad);
            }
            let score_grad = scale * probability * (slope - read.along[at].to_f64());
            add(&mut key_sums[row(k)], score_grad, query);
            add(&mut query_sums[row(at)], score_grad, key);
        }
    }
    for (to, from) in [query_grad, key_grad, value_grad].into_iter().zip(sums) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = A::from_f64(from));
    }
}

/// The score of a query and a key of a head, if the bias does not hide it.
fn score<A: Number>(
    call: &Call<'_>,
    (head, query, key): (usize, usize, usize),
    q: &[A],
    k: &[A],
) -> Option<f64> {
    let bias = call.bias.map_or(Some(0.), |bias| bias.at(head, query, key))?;
    Some(call.attention.scale * dot(q, k) + bias)
}

/// What a probability is multiplied by, if it is not dropped.
fn kept(call: &Call<'_>, head: usize, query: usize, key: usize) -> Option<f64> {
    match call.draws(head, query) {
        None => Some(1.),
        Some(draws) => draws.keeps(key).then(|| draws.dropout.factor()),
    }
}

fn dot<A: Number>(a: &[A], b: &[A]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// `to += factor · x`.
fn add<A: Number>(to: &mut [f64], factor: f64, x: &[A]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x.to_f64());
}
