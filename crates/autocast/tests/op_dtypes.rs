//! In a region, products, convolutions, pools and attention come out in the dtype that the table says, for every mix of
//! input dtypes, and are refused where the table refuses.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops::{self, AttentionOptions, InterpolateMode, PoolOptions};
use autocast::{Autocast, OpTable, Result, nn};
use candle_core::{DType, Device, Tensor};
use candle_nn::{RNN, VarBuilder};
use precision_types::Accelerator;

type Run = fn(&[Tensor]) -> Result<Tensor>;

/// An op by its name in the table, the shapes of its inputs, and its call.
const OPS: &[(&str, &[&[usize]], Run)] = &[
    ("linear", &[&[2, 3], &[4, 3], &[4]], |x| ops::linear(&x[0], &x[1], Some(&x[2]))),
    ("matmul", &[&[2, 3], &[3, 4]], |x| ops::matmul(&x[0], &x[1])),
    ("mm", &[&[2, 3], &[3, 4]], |x| ops::mm(&x[0], &x[1])),
    ("bmm", &[&[1, 2, 3], &[1, 3, 4]], |x| ops::bmm(&x[0], &x[1])),
    ("mv", &[&[2, 3], &[3]], |x| ops::mv(&x[0], &x[1])),
    ("dot", &[&[3], &[3]], |x| ops::dot(&x[0], &x[1])),
    ("outer", &[&[3], &[3]], |x| ops::outer(&x[0], &x[1])),
    ("linalg_vecdot", &[&[3], &[3]], |x| ops::linalg_vecdot(&x[0], &x[1], 0)),
    ("einsum", &[&[2, 3], &[3, 4]], |x| ops::einsum("ij,jk->ik", &[&x[0], &x[1]])),
    ("chain_matmul", &[&[2, 3], &[3, 4]], |x| ops::chain_matmul(&[&x[0], &x[1]])),
    ("addmm", &[&[4], &[2, 3], &[3, 4]], |x| ops::addmm(&x[0], &x[1], &x[2], 1., 1.)),
    ("addmv", &[&[2], &[2, 3], &[3]], |x| ops::addmv(&x[0], &x[1], &x[2], 1., 1.)),
    ("addr", &[&[2, 3], &[2], &[3]], |x| ops::addr(&x[0], &x[1], &x[2], 1., 1.)),
    ("addbmm", &[&[4], &[1, 2, 3], &[1, 3, 4]], |x| ops::addbmm(&x[0], &x[1], &x[2], 1., 1.)),
    ("baddbmm", &[&[4], &[1, 2, 3], &[1, 3, 4]], |x| ops::baddbmm(&x[0], &x[1], &x[2], 1., 1.)),
    ("conv1d", &[&[1, 2, 3], &[2, 2, 1]], |x| ops::conv1d(&x[0], &x[1], None, &Default::default())),
    ("conv2d", &[&[1, 2, 3, 3], &[2, 2, 1, 1]], |x| ops::conv2d(&x[0], &x[1], None, &Default::default())),
    ("conv_transpose1d", &[&[1, 2, 3], &[2, 2, 1], &[2]], |x| {
        ops::conv_transpose1d(&x[0], &x[1], Some(&x[2]), &Default::default())
    }),
    ("conv_transpose2d", &[&[1, 2, 3, 3], &[2, 2, 1, 1]], |x| {
        ops::conv_transpose2d(&x[0], &x[1], None, &Default::default())
    }),
    ("prelu", &[&[2, 3], &[3]], |x| ops::prelu(&x[0], &x[1])),
    ("scaled_dot_product_attention", &[&[2, 3], &[2, 3], &[2, 3]], |x| {
        ops::scaled_dot_product_attention(&x[0], &x[1], &x[2], &AttentionOptions::causal())
    }),
    ("avg_pool1d", &[&[1, 2, 4]], |x| ops::avg_pool1d(&x[0], &PoolOptions::new([2]))),
    ("avg_pool2d", &[&[1, 2, 4, 4]], |x| ops::avg_pool2d(&x[0], &PoolOptions::new([2, 2]))),
    ("max_pool1d", &[&[1, 2, 4]], |x| ops::max_pool1d(&x[0], &PoolOptions::new([2]))),
    ("max_pool2d", &[&[1, 2, 4, 4]], |x| ops::max_pool2d(&x[0], &PoolOptions::new([2, 2]))),
    ("adaptive_avg_pool2d", &[&[1, 2, 4, 4]], |x| ops::adaptive_avg_pool2d(&x[0], [1, 1])),
    ("upsample_nearest1d", &[&[1, 2, 4]], |x| ops::interpolate(&x[0], &[6], InterpolateMode::Nearest)),
    ("upsample_nearest2d", &[&[1, 2, 4, 4]], |x| ops::interpolate(&x[0], &[6, 2], InterpolateMode::Nearest)),
    ("upsample_linear1d", &[&[1, 2, 4]], |x| {
        ops::interpolate(&x[0], &[6], InterpolateMode::Linear { align_corners: false })
    }),
    ("upsample_bilinear2d", &[&[1, 2, 4, 4]], |x| {
        ops::interpolate(&x[0], &[6, 2], InterpolateMode::Linear { align_corners: true })
    }),
    ("embedding", &[&[3, 2]], |x| ops::embedding(&Tensor::new(&[2u32, 0], &Device::Cpu)?, &x[0])),
];

const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

/// Every list of `count` dtypes.
fn mixes(count: usize) -> Vec<Vec<DType>> {
    (0..count).fold(vec![vec![]], |mixes, _| {
        let longer = |mix: &Vec<DType>| DTYPES.map(|dtype| [mix.as_slice(), &[dtype]].concat());
        mixes.iter().flat_map(longer).collect()
    })
}

#[test]
fn every_mix_of_inputs_gives_the_dtype_of_the_table() {
    for table in [OpTable::cpu(), OpTable::gpu()] {
        let autocast = Autocast::new(Accelerator::Cpu, DType::BF16).unwrap().with_table(table.clone());
        for (op, shapes, run) in OPS {
            for mix in mixes(shapes.len()) {
                let inputs = shapes
                    .iter()
                    .zip(&mix)
                    .map(|(shape, &dtype)| Tensor::ones(*shape, dtype, &Device::Cpu).unwrap())
                    .collect::<Vec<_>>();
                let want = table.output_dtype(op, DType::BF16, &mix);
                let got = autocast.run(|| run(&inputs)).map(|t| t.dtype());
                match (&got, &want) {
                    (Ok(got), Ok(want)) => assert_eq!(got, want, "{op} of {mix:?}"),
                    (Err(_), Err(_)) => {}
                    _ => panic!("{op} of {mix:?}: {got:?}, the table says {want:?}"),
                }
            }
        }
    }
}

#[test]
fn rope_keeps_its_dtype_in_a_region() {
    let autocast = Autocast::new(Accelerator::Cpu, DType::BF16).unwrap();
    let angles = Tensor::ones((3, 2), DType::F32, &Device::Cpu).unwrap();
    for dtype in DTYPES {
        let x = Tensor::ones((2, 3, 4), dtype, &Device::Cpu).unwrap();
        let out = autocast.run(|| ops::rope(&x, &angles, &angles, ops::RopePairs::Halves)).unwrap();
        assert_eq!(out.dtype(), dtype);
    }
}

#[test]
fn recurrent_layers_follow_the_table() {
    for table in [OpTable::cpu(), OpTable::gpu()] {
        let autocast = Autocast::new(Accelerator::Cpu, DType::BF16).unwrap().with_table(table.clone());
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let x = Tensor::ones((2, 3, 4), DType::F32, &Device::Cpu).unwrap();
        let lstm = nn::lstm(4, 5, Default::default(), vb.clone()).unwrap();
        let gru = nn::gru(4, 5, Default::default(), vb).unwrap();
        let (lstm, gru) = autocast.run(|| (lstm.seq(&x).unwrap(), gru.seq(&x).unwrap()));
        let want = |op| table.output_dtype(op, DType::BF16, &[DType::F32; 3]).unwrap();
        assert_eq!((lstm[2].h.dtype(), lstm[2].c.dtype()), (want("lstm"), want("lstm")));
        assert_eq!(gru[2].h.dtype(), want("gru"));
    }
}
