//! The kernels over rows on a GPU against the same calls on the CPU.
#![cfg(feature = "cuda")]
#![expect(clippy::unwrap_used, reason = "a test fails where a call does")]

use backends::buffer::Ran;
use backends::kernels::cross_entropy::{self, CrossEntropy};
use backends::kernels::finite::{self, SeenBy};
use backends::kernels::norm::{self, Centre, Norm, Wanted};
use backends::kernels::softmax::{self, Form, Seen};
use candle_core::{DType, Device, Tensor};

/// A GPU, or `None` where this machine has none and is not required to.
fn gpu() -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var("REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|what| what == "cuda"), "cuda is required: {error}");
            println!("\nSKIPPED cuda: no GPU here");
            None
        }
    }
}

/// A warp holds the first rows, a block the next, nobody the last; odd lengths and offsets are read one by one.
const WIDTHS: [usize; 10] = [1, 7, 64, 768, 1000, 1025, 1600, 8192, 8201, 20_000];
const ROWS: usize = 37;

fn cases() -> impl Iterator<Item = (usize, DType)> {
    WIDTHS.into_iter().flat_map(|w| [DType::F32, DType::F16, DType::BF16].map(|d| (w, d)))
}

fn numbers(dims: (usize, usize), salt: usize, dtype: DType) -> Tensor {
    let one = |i: usize| ((i * 7919 + salt * 104_729) % 10_007) as f32 / 2500. - 2.;
    let values: Vec<f32> = (0..dims.0 * dims.1).map(one).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Within a few roundings of what was added up, of which `size` is the magnitude, and one of the result.
fn close(got: &Tensor, want: &Tensor, size: f64, what: &str) {
    let u = match got.dtype() {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        _ => 2f64.powi(-22),
    };
    for (i, (got, want)) in values(got).into_iter().zip(values(want)).enumerate() {
        let bound = u * want.abs() + size * 2f64.powi(-20);
        let same = got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= bound;
        assert!(same, "{what}, {i}: {got} for {want}");
    }
}

#[test]
fn norms_agree_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let centred = cases().flat_map(|c| [Centre::Mean, Centre::Zero].map(|m| (c, m)));
    // Whole rows, and those of a wider matrix from its second column on.
    for (((width, dtype), centre), skipped) in centred.flat_map(|c| [0, 1].map(|skipped| (c, skipped))) {
        let norm = Norm { centre, width, eps: 1e-5 };
        let x = numbers((ROWS, width + skipped), 1, dtype);
        let [dy, plus] = [2, 5].map(|salt| numbers((ROWS, width), salt, dtype));
        let [w, b] = [3, 4].map(|salt| numbers((1, width), salt, DType::F32));
        let wanted = Wanted { x: Some(dtype), weight: Some(DType::F32), bias: Some(dtype) };
        // A gradient of 16 bits beside f32, as a cast leaves it.
        let narrow = if dtype == DType::F32 && width % 2 == 0 { DType::BF16 } else { dtype };
        let dy = dy.to_dtype(narrow).unwrap();
        let run = |device: &Device| {
            let [x, dy, w, b] = [&x, &dy, &w, &b].map(|t| t.to_device(device).unwrap());
            let x = x.narrow(1, skipped, width).unwrap();
            let out = norm::value_of(norm, &x, Some(&w), Some(&b), dtype).unwrap().unwrap();
            let plus = plus.to_device(device).unwrap();
            let grads = norm::gradients_of(norm, &dy, &x, Some(&w), &out.statistics, wanted, Some(&plus));
            (out, grads.unwrap().unwrap())
        };
        let ((got, got_grads), (want, want_grads)) = (run(&gpu), run(&Device::Cpu));
        let what = format!("{centre:?} {dtype:?} {width}, {skipped} columns skipped");
        close(&got.y, &want.y, 16., &what);
        let rstd = values(&want.statistics).chunks(3).map(|s| s[2]).fold(0., f64::max);
        close(&got_grads.x.unwrap(), &want_grads.x.unwrap(), 32. * rstd, &what);
        close(&got_grads.weight.unwrap(), &want_grads.weight.unwrap(), 8. * ROWS as f64, &what);
        close(&got_grads.bias.unwrap(), &want_grads.bias.unwrap(), 4. * ROWS as f64, &what);
    }
}

#[test]
fn softmax_agrees_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (width, form) in WIDTHS.into_iter().flat_map(|w| [Form::Softmax, Form::LogSoftmax].map(|f| (w, f))) {
        let (x, dy) = (numbers((ROWS, width), 1, DType::F32), numbers((ROWS, width), 2, DType::F32));
        let run = |device: &Device| {
            let (x, dy) = (x.to_device(device).unwrap(), dy.to_device(device).unwrap());
            let y = softmax::value_of(form, Seen::Whole, &x, DType::F32).unwrap().unwrap();
            let dx = softmax::gradient_of(form, Seen::Whole, &y, &dy, DType::F32).unwrap().unwrap();
            (y, dx)
        };
        let ((y, dx), (want, want_dx)) = (run(&gpu), run(&Device::Cpu));
        close(&y, &want, 16., &format!("{form:?} {width}"));
        close(&dx, &want_dx, 64., &format!("gradient of {form:?} {width}"));
    }
}

#[test]
fn cross_entropy_agrees_with_the_cpu_and_a_bad_target_is_nan() {
    let Some(gpu) = gpu() else { return };
    for (classes, dtype) in cases() {
        let loss = CrossEntropy { classes, ignore_index: -100, label_smoothing: 0.1 };
        let x = numbers((ROWS, classes), 1, dtype);
        let target = |r: usize| if r == 3 { -100 } else { (r * 31 % classes) as i64 };
        let targets = Tensor::from_vec((0..ROWS).map(target).collect(), ROWS, &Device::Cpu).unwrap();
        let run = |device: &Device| {
            let (x, t) = (x.to_device(device).unwrap(), targets.to_device(device).unwrap());
            let factors = Tensor::new(0.5f32, device).unwrap().broadcast_as(ROWS).unwrap();
            let out = cross_entropy::losses_of(loss, &x, &t).unwrap().unwrap();
            let dx = cross_entropy::gradient_of(loss, &x, &t, &out.lse, &factors, dtype).unwrap().unwrap();
            let own = x.copy().unwrap();
            let ran = cross_entropy::gradient_in_place(loss, &own, &t, &out.lse, &factors).unwrap();
            assert!(matches!(ran, Ran::Kernel(_)));
            assert_eq!(values(&own), values(&dx));
            (out.losses, dx)
        };
        let ((losses, dx), (want, want_dx)) = (run(&gpu), run(&Device::Cpu));
        close(&losses, &want, 16., &format!("losses {dtype:?} {classes}"));
        close(&dx, &want_dx, 4., &format!("gradient {dtype:?} {classes}"));
    }
    let loss = CrossEntropy { classes: 3, ignore_index: -100, label_smoothing: 0. };
    let (x, t) = (Tensor::zeros((2, 3), DType::F32, &gpu).unwrap(), Tensor::new(&[3i64, 1], &gpu).unwrap());
    let losses = cross_entropy::losses_of(loss, &x, &t).unwrap().unwrap().losses;
    assert_eq!(values(&losses).iter().map(|l| l.is_nan()).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn causal_softmaxes_and_what_is_not_finite_agree_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (rows, width, first) in
        [(5, 5, 0), (37, 64, 0), (37, 64, 11), (64, 37, 0), (40, 1025, 900), (3, 9000, 0)]
    {
        let seen = Seen::Causal { rows, first };
        for form in [Form::Softmax, Form::LogSoftmax] {
            let on = |device: &Device| {
                let [x, dy] = [1, 2]
                    .map(|salt| numbers((2 * rows, width), salt, DType::F32).to_device(device).unwrap());
                let y = softmax::value_of(form, seen, &x, DType::F32).unwrap().unwrap();
                let dx = softmax::gradient_of(form, seen, &y, &dy, DType::F32).unwrap().unwrap();
                [y, dx]
            };
            for (what, (got, want)) in ["y", "dx"].into_iter().zip(on(&gpu).into_iter().zip(on(&Device::Cpu)))
            {
                close(&got, &want, 2., &format!("causal {form:?} {rows}x{width} {what}"));
            }
        }
    }
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let on = |device: &Device| {
            let x = numbers((4 * 33, 7), 3, DType::F32);
            let odd = x.gt(1.9).unwrap().where_cond(&x.affine(f64::INFINITY, 0.).unwrap(), &x).unwrap();
            let odd = odd.reshape((4, 33, 7)).unwrap().to_dtype(dtype).unwrap().to_device(device).unwrap();
            let target = odd.ones_like().unwrap().narrow(1, 0, 20).unwrap().contiguous().unwrap();
            let targets = [SeenBy::Later, SeenBy::Earlier].map(|by| {
                let target = target.copy().unwrap();
                assert_eq!(finite::spread_to(&target, &odd, by).unwrap(), Ran::Kernel("finite"));
                values(&target)
            });
            (
                values(&finite::finite_of(&odd).unwrap().unwrap()),
                targets.map(|x| x.iter().map(|x| x.is_nan()).collect::<Vec<_>>()),
            )
        };
        assert_eq!(on(&gpu), on(&Device::Cpu), "{dtype:?}");
    }
}
