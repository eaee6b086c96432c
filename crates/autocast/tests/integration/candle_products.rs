//! What candle itself gets wrong in products, convolutions, pools and interpolation. Our ops work around each of these; a
//! failure here means that candle has changed and that the workaround may go.
#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use candle_core::{DType, Device, Result, Tensor, Var};

fn var(dims: &[usize], dtype: DType) -> Var {
    let count = dims.iter().product::<usize>() as u32;
    let data = Tensor::arange(0u32, count, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    Var::from_tensor(&data.sin().unwrap().reshape(dims).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn has_no_backward(run: impl Fn(&Tensor) -> Result<Tensor>, dims: &[usize]) -> bool {
    run(&var(dims, DType::F64)).unwrap().sum_all().unwrap().backward().is_err()
}

#[test]
fn conv1d_has_a_wrong_weight_gradient() {
    let (x, w) = (var(&[2, 3, 8], DType::F64), var(&[4, 3, 3], DType::F64));
    let gradient = |out: Result<Tensor>| {
        let grads = autocast::backward(out.unwrap().sqr().unwrap().sum_all().unwrap()).unwrap();
        grads.get(&w).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    let theirs = gradient(x.conv1d(&w, 1, 2, 1, 1));
    let options = autocast::ops::ConvOptions { padding: 1, stride: 2, ..Default::default() };
    let ours = gradient(Ok(autocast::ops::conv1d(&x, &w, None, &options).unwrap()));
    let worst = theirs.iter().zip(&ours).fold(0f64, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst > 0.1, "candle's weight gradient is off by {worst} only");
}

#[test]
fn some_ops_have_no_backward() {
    let kernel = Tensor::ones((2, 2, 3), DType::F64, &Device::Cpu).unwrap();
    assert!(has_no_backward(|x| x.conv_transpose1d(&kernel, 0, 0, 1, 1, 1), &[1, 2, 5]));
    assert!(has_no_backward(|x| x.max_pool2d_with_stride(3, 2), &[1, 1, 7, 7]));
    assert!(has_no_backward(|x| x.avg_pool2d_with_stride(3, 2), &[1, 1, 7, 7]));
    assert!(has_no_backward(|x| x.upsample_bilinear2d(5, 5, false), &[1, 1, 3, 3]));
    assert!(has_no_backward(|x| x.upsample_nearest2d(5, 5), &[1, 1, 3, 3]));
}

#[test]
fn nearest_upsampling_overwrites_the_other_gradient_of_its_input() {
    let x = var(&[1, 1, 2], DType::F64);
    let both = (x.upsample_nearest1d(2).unwrap() + (x.as_tensor() * 10.).unwrap()).unwrap();
    let grads = both.sum_all().unwrap().backward().unwrap();
    assert_ne!(grads.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap(), [11., 11.]);
}

#[test]
fn sums_in_16_bits_stop_growing() {
    let sums_to = |total: f64, wanted: f64| assert!(total < wanted, "{total} is what it should be");
    let number =
        |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0];
    let ones = Tensor::ones((1, 4096), DType::F16, &Device::Cpu).unwrap();
    let columns = Tensor::ones((4096, 3), DType::F16, &Device::Cpu).unwrap();
    sums_to(number(&ones.matmul(&columns).unwrap()), 4096.);
    for dtype in [DType::F16, DType::BF16] {
        let table = var(&[2, 1], dtype);
        let ids = Tensor::zeros(4096, DType::U32, &Device::Cpu).unwrap();
        let grads = table.embedding(&ids).unwrap().sum_all().unwrap().backward().unwrap();
        sums_to(number(grads.get(&table).unwrap()), 4096.);
        let bias = var(&[3], dtype);
        let x = Tensor::zeros((4096, 3), dtype, &Device::Cpu).unwrap();
        let grads = x.broadcast_add(&bias).unwrap().sum_all().unwrap().backward().unwrap();
        sums_to(number(grads.get(&bias).unwrap()), 4096.);
    }
    let image = Tensor::ones((1, 1, 4, 4), DType::BF16, &Device::Cpu).unwrap();
    assert!(image.conv2d(&image, 0, 1, 1, 1).is_err());
}

#[test]
fn the_largest_u8_is_no_row() {
    let table = Tensor::ones((256, 1), DType::F32, &Device::Cpu).unwrap();
    let ids = Tensor::new(&[255u8], &Device::Cpu).unwrap();
    assert_eq!(table.embedding(&ids).unwrap().to_vec2::<f32>().unwrap(), [[0.]]);
    assert_eq!(autocast::ops::embedding(&ids, &table).unwrap().to_vec2::<f32>().unwrap(), [[1.]]);
}
