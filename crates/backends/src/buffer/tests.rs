//! What is refused, and how strided memory is seen as rows.

use super::view::View;
use super::*;
use proptest::prelude::*;

fn view(dims: &[usize], strides: &[usize], len: usize) -> Result<View> {
    View::new("x", ScalarType::F32, dims, strides, len)
}

#[test]
fn no_index_leads_past_the_memory() {
    assert!(view(&[2, 3], &[3, 1], 6).is_ok());
    assert!(view(&[2, 3], &[3, 1], 5).is_err());
    assert!(view(&[2, 3], &[1, 2], 6).is_ok());
    assert!(view(&[2, 3], &[0, 0], 1).is_ok());
    assert!(view(&[], &[], 1).is_ok());
    assert!(view(&[], &[], 0).is_err());
    assert!(view(&[0, 9], &[9, 1], 0).is_ok());
    assert!(view(&[2], &[1, 1], 6).is_err());
}

#[test]
fn sizes_that_overflow_are_refused() {
    let huge = usize::MAX / 2;
    for (dims, strides) in [
        (vec![huge, 3], vec![0, 0]),
        (vec![huge, 3, 0], vec![0, 0, 0]),
        (vec![3], vec![huge]),
        (vec![huge / 2], vec![0]),
        (vec![2, 2], vec![usize::MAX, usize::MAX]),
    ] {
        let error = view(&dims, &strides, 10).unwrap_err().to_string();
        assert!(error.contains("buffer: x is"), "{error}");
    }
    assert!(Out::host("y", SliceMut::F32(&mut [0.; 4]), &[huge, huge]).is_err());
    assert!(Out::host("y", SliceMut::F32(&mut [0.; 4]), &[5]).is_err());
}

#[test]
fn more_elements_than_32_bits_count() {
    let x = view(&[1 << 20, 1 << 13], &[0, 1], 1 << 13).unwrap();
    assert_eq!(x.count, 1 << 33);
    assert_eq!(rows(&x.dims, &x.strides, 1 << 13), Some(Rows { count: 1 << 20, width: 1 << 13, pitch: 0 }));
}

#[test]
fn rows_are_seen_through_strides() {
    let some = |count, width, pitch| Some(Rows { count, width, pitch });
    assert_eq!(rows(&[4, 6], &[6, 1], 6), some(4, 6, 6));
    assert_eq!(rows(&[4, 6], &[6, 1], 3), some(8, 3, 3));
    assert_eq!(rows(&[4, 6], &[6, 1], 24), some(1, 24, 24));
    assert_eq!(rows(&[4, 6], &[10, 1], 6), some(4, 6, 10));
    assert_eq!(rows(&[4, 6], &[10, 1], 3), None);
    assert_eq!(rows(&[2, 4, 6], &[40, 10, 1], 6), some(8, 6, 10));
    assert_eq!(rows(&[2, 4, 6], &[50, 10, 1], 6), None);
    assert_eq!(rows(&[2, 4, 6], &[24, 6, 1], 24), some(2, 24, 24));
    assert_eq!(rows(&[4, 6], &[1, 4], 6), None);
    assert_eq!(rows(&[4, 1], &[1, 7], 1), some(4, 1, 1));
    assert_eq!(rows(&[4, 1], &[5, 7], 1), some(4, 1, 5));
    assert_eq!(rows(&[3], &[0], 3), None);
    assert_eq!(rows(&[4, 6], &[6, 1], 5), None);
    assert_eq!(rows(&[0, 6], &[6, 1], 6), some(0, 6, 6));
    assert_eq!(rows(&[4, 0], &[1, 1], 0), None);
}

proptest! {
    /// Rows lead to the same memory as the indices do.
    #[test]
    fn rows_lead_where_indices_lead(
        dims in proptest::collection::vec(1usize..4, 1..4),
        strides in proptest::collection::vec(0usize..13, 3),
        width in 1usize..10,
    ) {
        let strides = &strides[..dims.len()];
        let x = view(&dims, strides, 1000).unwrap();
        let Some(rows) = rows(&x.dims, &x.strides, width) else { return Ok(()) };
        prop_assert_eq!(rows.count * rows.width, x.count);
        for i in 0..x.count {
            let (mut rest, mut at) = (i, 0);
            for (&d, &s) in dims.iter().zip(strides).rev() {
                at += rest % d * s;
                rest /= d;
            }
            prop_assert_eq!(at, i / width * rows.pitch + i % width);
        }
    }

    #[test]
    fn a_contiguous_buffer_is_rows_of_every_divisor(dims in proptest::collection::vec(1usize..6, 1..4), width in 1usize..20) {
        let len = dims.iter().product();
        let out = vec![0f32; len];
        let strides: Vec<usize> = (0..dims.len()).map(|i| dims[i + 1..].iter().product()).collect();
        let x = In::host("x", Slice::F32(&out), &dims, &strides).unwrap();
        prop_assert!(x.is_contiguous());
        prop_assert_eq!(x.slice::<f32>().map(<[f32]>::len), Some(len));
        prop_assert!(x.slice::<f64>().is_none());
        if len % width == 0 {
            prop_assert_eq!(x.rows(width), Some(Rows { count: len / width, width, pitch: width }));
        }
    }
}
