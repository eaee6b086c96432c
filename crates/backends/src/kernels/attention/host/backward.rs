//! The gradients: each tile of probabilities is made again from `lse`.

use super::number::{Number, sum};
use super::product::{Matrix, Plus, product};
use super::{BLOCK, Call, Heads, Narrow, Rows, TASKS, TILE, by_heads, deal, exact, first};
use crate::Result;
use crate::buffer::{Ran, ScalarType, SliceMut, Why};
use crate::kernels::attention::checks::Sizes;
use crate::kernels::attention::{Attention, GradientsOut, Inputs, Saved};
use crate::simd::{Isa, Simd, Work};
use exact::Read;
use rayon::prelude::*;

/// Parts that the queries of a head are cut into at most.
const PARTS: usize = 8;

/// As the function of the kernel, whose checks have been made.
pub(in super::super) fn backward(
    isa: Isa,
    attention: Attention,
    sizes: Sizes,
    inputs: Inputs<'_>,
    saved: Saved<'_>,
    grads: GradientsOut<'_, '_>,
) -> Result<Ran> {
    let call = Call::new(isa, attention, sizes, inputs)?;
    match inputs.query.scalar_type() {
        ScalarType::F64 => heads::<f64>(call, inputs, saved, grads),
        _ => heads::<f32>(call, inputs, saved, grads),
    }
}

/// The rows of the gradients of query, key and value, or nothing where they are not in host memory.
fn rows_of<'a>(grads: &'a mut GradientsOut<'_, '_>, sizes: Sizes) -> Option<[Heads<'a>; 3]> {
    let Sizes { batch, heads, queries, keys, width } = sizes;
    match grads {
        GradientsOut::Packed(out) => {
            let all = batch * heads;
            let head_of = |i: usize| i / heads % 3 * all + i / (3 * heads * queries) * heads + i % heads;
            let mut query = deal(out.host_slice()?, width, 3 * all, head_of);
            let mut key = query.split_off(all);
            let value = key.split_off(all);
            Some([query, key, value])
        }
        GradientsOut::Each(order, [query, key, value]) => Some([
            by_heads(query.host_slice()?, *order, sizes, queries),
            by_heads(key.host_slice()?, *order, sizes, keys),
            by_heads(value.host_slice()?, *order, sizes, keys),
        ]),
    }
}

fn heads<A: Number>(
    call: Call<'_>,
    inputs: Inputs<'_>,
    saved: Saved<'_>,
    mut grads: GradientsOut<'_, '_>,
) -> Result<Ran> {
    let rows = [
        Rows::of("the query", inputs.query)?,
        Rows::of("the key", inputs.key)?,
        Rows::of("the value", inputs.value)?,
        Rows::of("the gradient of out", saved.grad)?,
        Rows::of("out", saved.out)?,
    ];
    let (Some([query, key, value]), Some(lse)) = (rows_of(&mut grads, call.sizes), saved.lse.slice::<A>())
    else {
        return Ok(Ran::Composed(Why::Device));
    };
    let ran = Ran::Kernel("attention backward");
    if call.sizes.width == 0 {
        return Ok(ran);
    }
    let heads: Vec<_> =
        query.into_iter().zip(key).zip(value).map(|((q, k), v)| [q, k, v]).enumerate().collect();
    call.threads().share_out_with(Memory::default, heads, |memory, (head, mut grads)| {
        one_head(&call, head, &rows, lse, &mut grads, memory);
    });
    Ok(ran)
}

/// What a task works in.
#[derive(Default)]
struct Memory<A> {
    read: [Vec<A>; 4],
    along: Vec<A>,
    grads: [Vec<A>; 3],
    part: PartMemory<A>,
}

#[derive(Default)]
struct PartMemory<A> {
    probabilities: Vec<A>,
    slopes: Vec<A>,
    query_grad: Vec<A>,
}

fn one_head<A: Number>(
    call: &Call<'_>,
    head: usize,
    rows: &[Rows<'_>; 5],
    lse: &[A],
    grads: &mut [Vec<SliceMut<'_>>; 3],
    memory: &mut Memory<A>,
) {
    let Sizes { queries, keys, width, .. } = call.sizes;
    let Memory { read: [query, key, value, grad], along, grads: sums, part } = memory;
    let [query_sums, key_sums, value_sums] = sums;
    let (along, query_sums) = (first(along, queries), first(query_sums, queries * width));
    let (query, grad) = (first(query, queries * width), first(grad, queries * width));
    let (key, value) = (first(key, keys * width), first(value, keys * width));
    let mut finite = true;
    let seen = [queries, call.all_seen(), call.all_seen(), queries];
    for ((rows, to), seen) in rows.iter().zip([&mut *query, &mut *key, &mut *value, &mut *grad]).zip(seen) {
        finite &= rows.pack(call.isa, head, 0, to) >= seen;
    }
    // The sums of the queries are not begun yet.
    rows[4].pack(call.isa, head, 0, query_sums);
    call.isa.run(Along { grad, out: query_sums, to: along });
    let lse = &lse[head * queries..][..queries];
    let read = Read { query, key, value, grad, lse, along };
    let (key_sums, value_sums) = (first(key_sums, keys * width), first(value_sums, keys * width));
    let [query_grad, key_grad, value_grad] = grads;
    if call.hides() && !finite {
        exact::backward(call, head, &read, [&mut *query_sums, &mut *key_sums, &mut *value_sums]);
        call.isa.run(Narrow { from: query_sums, to: query_grad });
    } else {
        let blocks = queries.div_ceil(BLOCK);
        let most = if call.is_large() { (TASKS / call.heads()).min(PARTS) } else { 1 };
        let parts = blocks.div_ceil(4).min(most).max(1);
        let each = blocks.div_ceil(parts).max(1) * BLOCK;
        let part_of =
            |start: usize, to: &mut [SliceMut<'_>], sums: [&mut [A]; 2], memory: &mut PartMemory<A>| {
                let part = Part { call, head, read: &read };
                part.run(start, to, sums, memory);
            };
        key_sums.fill(A::ZERO);
        value_sums.fill(A::ZERO);
        if parts == 1 {
            part_of(0, query_grad, [&mut *key_sums, &mut *value_sums], part);
        } else {
            let all = query_grad.par_chunks_mut(each).enumerate().map(|(i, to)| {
                let mut sums = [vec![A::ZERO; keys * width], vec![A::ZERO; keys * width]];
                let [key_sums, value_sums] = &mut sums;
                part_of(i * each, to, [key_sums, value_sums], &mut PartMemory::default());
                sums
            });
            // Added in their order, whoever was first.
            for [key_part, value_part] in all.collect::<Vec<_>>() {
                for (to, part) in [(&mut *key_sums, key_part), (&mut *value_sums, value_part)] {
                    to.iter_mut().zip(part).for_each(|(to, part)| *to = *to + part);
                }
            }
        }
    }
    call.isa.run(Narrow { from: key_sums, to: key_grad });
    call.isa.run(Narrow { from: value_sums, to: value_grad });
}

/// Some queries of a head.
struct Part<'a, A> {
    call: &'a Call<'a>,
    head: usize,
    read: &'a Read<'a, A>,
}

impl<A: Number> Part<'_, A> {
    /// Writes the gradients of the queries from `start` on, as many as there are rows, and adds what they have to those of
    /// keys and values.
    fn run(
        &self,
        start: usize,
        query_grad: &mut [SliceMut<'_>],
        [key_sums, value_sums]: [&mut [A]; 2],
        memory: &mut PartMemory<A>,
    ) {
        let (call, read, width) = (self.call, self.read, self.call.sizes.width);
        let scale = A::from_f64(call.attention.scale);
        for (i, to) in query_grad.chunks_mut(BLOCK).enumerate() {
            let (start, rows) = (start + i * BLOCK, to.len());
            let of = start * width..(start + rows) * width;
            let query = Matrix::new(&read.query[of.clone()], rows, width);
            let grad = Matrix::new(&read.grad[of], rows, width);
            let query_sums = first(&mut memory.query_grad, rows * width);
            query_sums.fill(A::ZERO);
            let seen = call.seen(start + rows - 1);
            for tile_start in (0..seen).step_by(TILE) {
                let keys = TILE.min(seen - tile_start);
                let of = tile_start * width..(tile_start + keys) * width;
                let key = Matrix::new(&read.key[of.clone()], keys, width);
                let value = Matrix::new(&read.value[of.clone()], keys, width);
                let probabilities = first(&mut memory.probabilities, rows * keys);
                let slopes = first(&mut memory.slopes, rows * keys);
                product(probabilities, Plus::Nothing, scale, query, key.transposed());
                product(slopes, Plus::Nothing, A::ONE, grad, value.transposed());
                let (lse, along) = (&read.lse[start..][..rows], &read.along[start..][..rows]);
                let (call, head) = (*call, self.head);
                call.isa.run(Slopes { call, head, start, tile_start, probabilities, slopes, lse, along });
                let probabilities = Matrix::new(probabilities, rows, keys);
                let slopes = Matrix::new(slopes, rows, keys);
                product(&mut value_sums[of.clone()], Plus::Output, A::ONE, probabilities.transposed(), grad);
                product(&mut key_sums[of], Plus::Output, scale, slopes.transposed(), query);
                product(query_sums, Plus::Output, scale, slopes, key);
            }
            call.isa.run(Narrow { from: query_sums, to });
        }
    }
}

/// Scores become probabilities, and those that are dropped 0; slopes of probabilities become slopes of scores.
struct Slopes<'a, A> {
    call: Call<'a>,
    head: usize,
    /// The first query.
    start: usize,
    /// The first key.
    tile_start: usize,
    probabilities: &'a mut [A],
    slopes: &'a mut [A],
    lse: &'a [A],
    along: &'a [A],
}

impl<A: Number> Work for Slopes<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, head, start, tile_start, probabilities, slopes, lse, along } = self;
        let keys = slopes.len() / lse.len().max(1);
        let rows = probabilities.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys)).enumerate();
        for (row, (probabilities, slopes)) in rows {
            let seen = call.seen(start + row).saturating_sub(tile_start).min(keys);
            probabilities[seen..].fill(A::ZERO);
            slopes[seen..].fill(A::ZERO);
            let (probabilities, slopes) = (&mut probabilities[..seen], &mut slopes[..seen]);
            let (lse, along) = (lse[row], along[row]);
            if let Some(bias) = call.bias {
                bias.add(simd, (head, start + row), tile_start, probabilities);
            }
            let pairs = probabilities.iter_mut().zip(&mut *slopes);
            match call.draws(head, start + row) {
                None => pairs.for_each(|(score, slope)| {
                    *score = A::exp(simd, *score - lse);
                    *slope = *score * (*slope - along);
                }),
                Some(draws) => {
                    let factor = A::from_f64(draws.dropout.factor());
                    pairs.enumerate().for_each(|(key, (score, slope))| {
                        let kept = if draws.keeps(tile_start + key) { factor } else { A::ZERO };
                        let probability = A::exp(simd, *score - lse);
                        *score = kept * probability;
                        *slope = probability * (kept * *slope - along);
                    });
                }
            }
            // What nobody sees has no probability, also where the sum of the row's is 0 or NaN.
            if let Some(bias) = call.bias {
                bias.hide(simd, (head, start + row), tile_start, [probabilities, slopes]);
            }
        }
    }
}

/// `rowsum(grad ∘ out)`.
struct Along<'a, A> {
    grad: &'a [A],
    out: &'a [A],
    to: &'a mut [A],
}

impl<A: Number> Work for Along<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let width = self.grad.len() / self.to.len().max(1);
        let rows = self.grad.chunks_exact(width.max(1)).zip(self.out.chunks_exact(width.max(1)));
        for (to, (grad, out)) in self.to.iter_mut().zip(rows) {
            *to = sum(grad, out, |grad, out| grad * out);
        }
    }
}
