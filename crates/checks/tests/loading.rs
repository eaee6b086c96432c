//! A model saved at 32 bits is loaded at 16 in half the memory.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use autocast::nn;
use candle_core::DType;
use candle_nn::VarBuilder;
use checks::models::closures::builder;
use peak_alloc::PeakAlloc;
use trainer::{Error, Parameters};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const LAYERS: usize = 32;
const WIDTH: usize = 256;
const BYTES: usize = 4 * LAYERS * WIDTH * WIDTH;

fn build(vb: VarBuilder) -> trainer::Result<Vec<nn::Linear>> {
    (0..LAYERS).map(|i| Ok(nn::linear_no_bias(WIDTH, WIDTH, vb.pp(i))?)).collect()
}

fn saved(name: &str) -> (std::path::PathBuf, Parameters) {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (_, parameters) = builder("32-true").build().unwrap().init_module(build).unwrap();
    parameters.save(&file).unwrap();
    (file, parameters)
}

/// One test, since all of a process share the allocator that is asked.
#[test]
fn a_file_of_32_bits_takes_half_the_memory_at_16_and_loads_rounded_once() {
    let (file, parameters) = saved("loading.safetensors");
    for (precision, dtype) in [("bf16-true", DType::BF16), ("16-true", DType::F16), ("32-true", DType::F32)] {
        let trainer = builder(precision).build().unwrap();
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        let (_model, loaded) = trainer.load_module(&file, build).unwrap();
        let (peak, kept) = (HEAP.peak_usage() - before, HEAP.current_usage() - before);
        let share = |bytes: usize| bytes as f64 / BYTES as f64;
        let expected = dtype.size_in_bytes() as f64 / 4.;
        assert!((expected..expected + 0.02).contains(&share(kept)), "{precision}: keeps {}", share(kept));
        // A weight as it is read, as a tensor and rounded: 3/32 of the file.
        assert!(share(peak) < expected + 0.125, "{precision}: peak {}", share(peak));
        for (name, var) in parameters.iter() {
            let loaded = loaded.get(name).unwrap();
            assert_eq!(loaded.dtype(), dtype);
            let expected = autocast::cast_to(var.as_tensor(), dtype).unwrap();
            let same =
                loaded.as_tensor().eq(&expected).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap();
            assert!(!same.contains(&0), "{precision}: {name}");
        }
    }
    refused(&file);
}

/// Files and models that do not fit each other.
fn refused(file: &std::path::Path) {
    let trainer = builder("bf16-true").build().unwrap();
    let wider = trainer.load_module(file, |vb| Ok(nn::linear_no_bias(WIDTH, 2 * WIDTH, vb.pp(0))?));
    let error = wider.err().unwrap().to_string();
    assert!(error.contains("0.weight") && error.contains("[256, 256]"), "{error}");
    let fewer = trainer.load_module(file, |vb| Ok(nn::linear_no_bias(WIDTH, WIDTH, vb.pp(0))?));
    assert!(matches!(fewer.err().unwrap(), Error::UnusedInitialValues { .. }));
    let other = trainer.load_module(file, |vb| Ok((build(vb.clone())?, vb.get(3, "bias")?)));
    assert!(matches!(other.err().unwrap(), Error::MissingInitialValues { .. }));

    let mut bytes = std::fs::read(file).unwrap();
    bytes.pop();
    let short = file.with_extension("short");
    std::fs::write(&short, bytes).unwrap();
    let error = trainer.load_module(&short, build).err().unwrap();
    assert!(matches!(error, Error::NotAState { .. }), "{error}");
}
