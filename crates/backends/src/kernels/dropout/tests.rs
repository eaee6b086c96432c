//! Draws and products, one by one.

use half::f16;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn what_is_kept_is_scaled_and_the_rest_is_zero(len in 0usize..70, long: bool, key: u64, p in 0f64..=1.) {
        let len = if long { len + 30_000 } else { len };
        let x: Vec<f32> = (0..len).map(|i| if i % 7 == 3 { f32::INFINITY } else { i as f32 - 20. }).collect();
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        let draw = Draw { key, p };
        let scale = if p == 1. { 0. } else { (1. / (1. - p)) as f32 };
        let (mut wide, mut narrow) = (vec![1f32; len], vec![f16::ONE; len]);
        let input = In::host("x", Slice::F32(&x), &[len], &[1]).unwrap();
        let mut out = Out::host("out", SliceMut::F32(&mut wide), &[len]).unwrap();
        prop_assert_eq!(drop_out(&input, draw, &mut out).unwrap(), Ran::Kernel("dropout"));
        let input = In::host("x", Slice::F16(&halves), &[len], &[1]).unwrap();
        let mut out = Out::host("out", SliceMut::F16(&mut narrow), &[len]).unwrap();
        drop_out(&input, draw, &mut out).unwrap();
        for i in 0..len {
            let kept = f64::from(random_bits(key, i as u64)) >= (p * 2f64.powi(32)).floor();
            let want = if kept { x[i] * scale } else { 0. };
            prop_assert!(wide[i] == want || (wide[i].is_nan() && want.is_nan()), "{} {}", wide[i], want);
            let want = f16::from_f32(if kept { halves[i].to_f32() * scale } else { 0. });
            prop_assert!(narrow[i] == want || (narrow[i].is_nan() && want.is_nan()));
        }
    }
}
