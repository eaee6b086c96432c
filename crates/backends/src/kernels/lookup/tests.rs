//! Against the oracle: an element of the result at a time.

use super::*;
use crate::buffer::{Slice, SliceMut};
use crate::random::random_bits;
use half::{bf16, f16};
use proptest::prelude::*;

fn looked_up(ids: Slice<'_>, table: Slice<'_>, width: usize, out: SliceMut<'_>) -> Result<Ran> {
    let (count, len) = (ids.len(), out.len());
    let ids = In::host("ids", ids, &[count], &[1])?;
    let table = In::host("table", table, &[table.len()], &[1])?;
    lookup(&ids, &table, width, &mut Out::host("out", out, &[len])?)
}

/// The bits of each element, none where its id is no row.
fn oracle<T: Copy>(ids: &[i64], table: &[T], width: usize, bits: impl Fn(T) -> u64) -> Vec<Option<u64>> {
    let rows = table.len() / width;
    let at = |i: usize| {
        let id = ids[i / width];
        (0..rows as i64).contains(&id).then(|| bits(table[id as usize * width + i % width]))
    };
    (0..ids.len() * width).map(at).collect()
}

macro_rules! same {
    ($ids:expr, $table:expr, $width:expr, $variant:ident, $zero:expr, $bits:expr) => {
        let (ids, table): (&[i64], _) = (&$ids, $table);
        let mut out = vec![$zero; ids.len() * $width];
        let ran = looked_up(Slice::I64(ids), Slice::$variant(&table), $width, SliceMut::$variant(&mut out));
        prop_assert_eq!(ran.unwrap(), Ran::Kernel(OP));
        for (want, got) in oracle(ids, &table, $width, $bits).into_iter().zip(out) {
            prop_assert!(want.map_or(got.is_nan(), |want| want == $bits(got)));
        }
    };
}

proptest! {
    #[test]
    fn every_type_is_copied_bit_for_bit(
        ids in prop::collection::vec(prop_oneof![-2i64..9, Just(i64::MAX), Just(i64::MIN)], 0..67),
        (rows, width, seed) in (0usize..7, 1usize..70, any::<u64>()),
    ) {
        let bits = |i: usize| random_bits(seed, i as u64);
        let len = rows * width;
        same!(ids, (0..len).map(|i| f16::from_bits(bits(i) as u16)).collect::<Vec<_>>(), width, F16, f16::ONE, |x: f16| u64::from(x.to_bits()));
        same!(ids, (0..len).map(|i| bf16::from_bits(bits(i) as u16)).collect::<Vec<_>>(), width, Bf16, bf16::ONE, |x: bf16| u64::from(x.to_bits()));
        same!(ids, (0..len).map(|i| f32::from_bits(bits(i))).collect::<Vec<_>>(), width, F32, 1f32, |x: f32| u64::from(x.to_bits()));
        same!(ids, (0..len).map(|i| f64::from_bits(u64::from(bits(i)) << 31)).collect::<Vec<_>>(), width, F64, 1f64, f64::to_bits);
    }
}

#[test]
fn many_rows_are_shared_out_and_ids_may_be_narrow() {
    let table: Vec<f32> = (0..200 * 300).map(|i| i as f32).collect();
    let ids: Vec<u8> = (0..2000).map(|i| (i * 7 % 200) as u8).collect();
    let wide: Vec<u32> = ids.iter().map(|&id| id.into()).collect();
    for ids in [Slice::U8(&ids), Slice::U32(&wide)] {
        let mut out = vec![0f32; 2000 * 300];
        looked_up(ids, Slice::F32(&table), 300, SliceMut::F32(&mut out)).unwrap();
        let want = |i: usize| table[i / 300 * 7 % 200 * 300 + i % 300];
        assert!(out.iter().enumerate().all(|(i, &x)| x == want(i)));
    }
}

#[test]
fn lengths_and_types_are_checked() {
    let (table, mut out) = ([1f32; 6], [0f32; 4]);
    assert!(looked_up(Slice::I64(&[0]), Slice::F32(&table), 2, SliceMut::F32(&mut out)).is_err());
    assert!(looked_up(Slice::I64(&[0]), Slice::F32(&table), 4, SliceMut::F32(&mut out)).is_err());
    let ran = looked_up(Slice::F32(&[0.; 2]), Slice::F32(&table), 2, SliceMut::F32(&mut out));
    assert_eq!(ran.unwrap(), Ran::Composed(Why::Dtype("ids")));
}
