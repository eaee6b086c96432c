//! In a region, ops come out in the dtype that the table says, for every mix of
//! input dtypes, and are refused where the table refuses.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use autocast::ops;
use autocast::{Autocast, OpTable, nn};
use candle_core::{DType, Device, Tensor};
use candle_nn::{RNN, VarBuilder};
use checks::catalogue::op_calls::{DTYPES, check_dtypes};
use precision_types::Accelerator;

#[test]
fn every_mix_of_inputs_gives_the_dtype_of_the_table() {
    for table in [OpTable::cpu(), OpTable::gpu()] {
        let autocast = Autocast::new(Accelerator::Cpu, DType::BF16).unwrap().with_table(table.clone());
        check_dtypes(&autocast, &table, DType::BF16, &Device::Cpu);
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
