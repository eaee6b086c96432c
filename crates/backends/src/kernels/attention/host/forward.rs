//! The value: for each block of queries a running maximum and sum over tiles of keys.

use super::number::{Number, sum};
use super::product::{Matrix, Plus, product};
use super::{BLOCK, Call, Narrow, Rows, TASKS, TILE, by_heads, exact, first};
use crate::Result;
use crate::buffer::{Out, Ran, ScalarType, SliceMut, Why};
use crate::kernels::attention::checks::Sizes;
use crate::kernels::attention::{Attention, Inputs, Order};
use crate::simd::rows::max;
use crate::simd::{Isa, Simd, Work};
use crate::threads::Threads;

/// As the function of the kernel, whose checks have been made.
pub(in super::super) fn forward(
    isa: Isa,
    attention: Attention,
    sizes: Sizes,
    inputs: Inputs<'_>,
    order: Order,
    out: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let call = Call::new(isa, attention, sizes, inputs)?;
    match inputs.query.scalar_type() {
        ScalarType::F64 => heads::<f64>(call, inputs, order, out, lse),
        _ => heads::<f32>(call, inputs, order, out, lse),
    }
}

/// What a task works in.
#[derive(Default)]
struct Memory<A> {
    key: Vec<A>,
    value: Vec<A>,
    block: BlockMemory<A>,
}

#[derive(Default)]
struct BlockMemory<A> {
    query: Vec<A>,
    tile: Vec<A>,
    out: Vec<A>,
}

fn heads<A: Number>(
    call: Call<'_>,
    inputs: Inputs<'_>,
    order: Order,
    out: &mut Out<'_>,
    lse: &mut Out<'_>,
) -> Result<Ran> {
    let query = Rows::of("the query", inputs.query)?;
    let (key, value) = (Rows::of("the key", inputs.key)?, Rows::of("the value", inputs.value)?);
    let Sizes { queries, width, .. } = call.sizes;
    let (Some(out), Some(lse)) = (out.host_slice(), lse.slice::<A>()) else {
        return Ok(Ran::Composed(Why::Device));
    };
    let ran = Ran::Kernel("attention forward");
    if queries == 0 || lse.is_empty() {
        return Ok(ran);
    }
    if width == 0 {
        // All products are 0.
        for (at, lse) in lse.iter_mut().enumerate() {
            exact::forward(
                &call,
                (at / queries, at % queries),
                (&[], &[], &[]),
                &mut [],
                std::slice::from_mut(lse),
            );
        }
        return Ok(ran);
    }
    let out = by_heads(out, order, call.sizes, queries);
    let heads: Vec<_> = out.into_iter().zip(lse.chunks_mut(queries)).enumerate().collect();
    let cut = call.is_large() && heads.len() < TASKS;
    call.threads().share_out_with(Memory::default, heads, |memory, (head, (mut out, lse))| {
        let head = Head::new(call, head, (query, key, value), &mut memory.key, &mut memory.value);
        let blocks = out.chunks_mut(BLOCK).zip(lse.chunks_mut(BLOCK)).enumerate();
        if cut {
            Threads::All.share_out_with(BlockMemory::default, blocks.collect(), |memory, (i, (out, lse))| {
                head.block(memory, i * BLOCK, out, lse);
            });
        } else {
            blocks.for_each(|(i, (out, lse))| head.block(&mut memory.block, i * BLOCK, out, lse));
        }
    });
    Ok(ran)
}

/// One head, whose keys and values are widened.
struct Head<'a, A> {
    call: Call<'a>,
    head: usize,
    query: Rows<'a>,
    key: &'a [A],
    value: &'a [A],
    /// Keys and values before the first that is not finite.
    finite: usize,
}

impl<'a, A: Number> Head<'a, A> {
    fn new(
        call: Call<'a>,
        head: usize,
        (query, key, value): (Rows<'a>, Rows<'a>, Rows<'a>),
        key_memory: &'a mut Vec<A>,
        value_memory: &'a mut Vec<A>,
    ) -> Self {
        let len = call.all_seen() * call.sizes.width;
        let (keys, values) = (first(key_memory, len), first(value_memory, len));
        let finite = key.pack(call.isa, head, 0, keys).min(value.pack(call.isa, head, 0, values));
        Self { call, head, query, key: keys, value: values, finite }
    }

    /// The rows of `out` and `lse` from the query `start` on.
    fn block(&self, memory: &mut BlockMemory<A>, start: usize, out_rows: &mut [SliceMut<'_>], lse: &mut [A]) {
        let Self { call, head, .. } = *self;
        let (rows, width) = (lse.len(), call.sizes.width);
        let query = first(&mut memory.query, rows * width);
        let out = first(&mut memory.out, rows * width);
        let finite = self.query.pack(call.isa, head, start, query);
        let seen = call.seen(start + rows - 1);
        if call.hides() && (finite < rows || self.finite < seen) {
            exact::forward(&call, (head, start), (query, self.key, self.value), out, lse);
            return call.isa.run(Narrow { from: out, to: out_rows });
        }
        let (mut largest, mut total) = ([A::LOWEST; BLOCK], [A::ZERO; BLOCK]);
        out.fill(A::ZERO);
        for tile_start in (0..seen).step_by(TILE) {
            let keys = TILE.min(seen - tile_start);
            let of = tile_start * width..(tile_start + keys) * width;
            let tile = first(&mut memory.tile, rows * keys);
            let key = Matrix::new(&self.key[of.clone()], keys, width).transposed();
            let scale = A::from_f64(call.attention.scale);
            product(tile, Plus::Nothing, scale, Matrix::new(query, rows, width), key);
            let (largest, total) = (&mut largest[..rows], &mut total[..rows]);
            call.isa.run(Softmax { call, head, start, tile_start, tile, largest, total, out });
            let value = Matrix::new(&self.value[of], keys, width);
            product(out, Plus::Output, A::ONE, Matrix::new(tile, rows, keys), value);
        }
        for (row, (lse, out)) in lse.iter_mut().zip(out.chunks_exact_mut(width)).enumerate() {
            // Without keys, 0 is not divided by 0. The largest of those that are seen adds 1 to the sum.
            if call.seen(start + row) == 0 || call.bias.is_some() && total[row] == A::ZERO {
                *lse = A::LOWEST;
                continue;
            }
            *lse = A::from_f64(largest[row].to_f64() + total[row].to_f64().ln());
            let share = A::ONE / total[row];
            out.iter_mut().for_each(|out| *out = *out * share);
        }
        call.isa.run(Narrow { from: out, to: out_rows });
    }
}

/// Scores of a tile become probabilities that are not divided by their sum yet, `e^(score − largest)`, and what was summed
/// before with another largest follows.
struct Softmax<'a, A> {
    call: Call<'a>,
    head: usize,
    /// The first query.
    start: usize,
    /// The first key.
    tile_start: usize,
    tile: &'a mut [A],
    largest: &'a mut [A],
    total: &'a mut [A],
    out: &'a mut [A],
}

impl<A: Number> Work for Softmax<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, head, start, tile_start, tile, largest, total, out } = self;
        let (keys, width) = (tile.len() / largest.len().max(1), call.sizes.width);
        let rows = tile.chunks_exact_mut(keys).zip(out.chunks_exact_mut(width)).enumerate();
        for (row, (scores, out)) in rows {
            let seen = call.seen(start + row).saturating_sub(tile_start).min(keys);
            let (seen, hidden) = scores.split_at_mut(seen);
            hidden.fill(A::ZERO);
            if seen.is_empty() {
                continue;
            }
            if let Some(bias) = call.bias {
                bias.add(simd, (head, start + row), tile_start, seen);
            }
            let before = largest[row];
            // A NaN is not among them, and makes the sum of the exponentials one.
            largest[row] = max(&[before, max(seen)]);
            // Not −∞ − −∞: what is infinitely small beside later scores is 0.
            let shift = if largest[row] == A::LOWEST { A::ZERO } else { largest[row] };
            seen.iter_mut().for_each(|x| *x = A::exp(simd, *x - shift));
            let sum = sum(seen, seen, |x, _| x);
            if tile_start == 0 {
                total[row] = sum;
            } else {
                let factor = A::exp(simd, before - shift);
                total[row] = total[row] * factor + sum;
                out.iter_mut().for_each(|x| *x = *x * factor);
            }
            if let Some(draws) = call.draws(head, start + row) {
                let factor = A::from_f64(draws.dropout.factor());
                for (key, x) in seen.iter_mut().enumerate() {
                    let kept = if draws.keeps(tile_start + key) { factor } else { A::ZERO };
                    *x = *x * kept;
                }
            }
        }
    }
}
