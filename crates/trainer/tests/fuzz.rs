//! Mutated checkpoints and names of precisions, in a process whose memory is counted: one test at a time.

mod common;

use common::{Net, batches, builder, folder};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::{Mutex, PoisonError};

use trainer::{Trainer, TrainingState};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What is counted is the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// Mutated inputs that are read; `FUZZ_CASES` sets it.
fn cases() -> usize {
    std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3_000)
}

#[test]
fn mutated_files_are_errors_or_states_and_cost_no_more_than_their_size() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = folder("fuzz").join("state.safetensors");
    let fit = builder("16-true").max_steps(3).accumulate_grad_batches(2).build().unwrap();
    fit.fit(&Net, &batches(5)).unwrap().state().unwrap().save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    // The first error makes what the process has once.
    let _ = TrainingState::load(folder("nothing").join("x.safetensors"));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut refused = 0;
    for _ in 0..cases() {
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(1..4) {
            // Most of what can go wrong is in the header.
            let end = if rng.random_bool(0.8) { header } else { bytes.len() };
            let at = rng.random_range(0..end.min(bytes.len()));
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] ^= 1 << rng.random_range(0..8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes[at] = b"0123456789\"{}[],:-"[rng.random_range(0..18)],
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        refused += usize::from(TrainingState::load(&path).is_err());
        let used = HEAP.peak_usage().saturating_sub(before);
        assert!(used < 16 * good.len() + (1 << 16), "{used} bytes for a file of {}", bytes.len());
    }
    assert!(refused > cases() / 2, "{refused}");
}

const NAMES: [&str; 11] = [
    "16-mixed",
    "bf16-mixed",
    "16-true",
    "bf16-true",
    "32-true",
    "64-true",
    "16",
    "bf16",
    "32",
    "64",
    "transformer-engine",
];

/// A name with some of its characters changed, left out, doubled or made others' beginnings.
fn mutated(rng: &mut ChaCha8Rng) -> String {
    let mut name: Vec<char> = NAMES[rng.random_range(0..NAMES.len())].chars().collect();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=name.len());
        let other: char = match rng.random_range(0..4) {
            0 => rng.random(),
            _ => ['-', '_', ' ', '0', '1', '6', 'b', 'f', 'm', 't', 'T', '\0', '\n', '\u{e9}']
                [rng.random_range(0..14)],
        };
        match rng.random_range(0..4) {
            0 => name.insert(at, other),
            1 => name.truncate(at),
            2 => name.extend(NAMES[rng.random_range(0..NAMES.len())].chars()),
            _ if at < name.len() => name[at] = other,
            _ => drop(name.pop()),
        }
    }
    name.into_iter().collect()
}

#[test]
fn mutated_precisions_are_errors_unless_they_are_names() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (mut known, mut refused) = (0, 0);
    for _ in 0..cases() {
        let name = mutated(&mut rng);
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        let built = Trainer::builder().precision(name.as_str()).accelerator("cpu").build();
        let used = HEAP.peak_usage().saturating_sub(before);
        assert!(used < 16 * name.len() + (1 << 16), "{used} bytes for {name:?}");
        match built {
            Ok(trainer) => {
                assert!(NAMES.contains(&name.as_str()), "{name:?} is taken for {}", trainer.precision());
                known += 1;
            }
            Err(error) => {
                let error = error.to_string();
                // One that exists and a CPU does not have, or one that does not exist: the message names those that do.
                assert!(error.contains("bf16-mixed"), "{name:?}: {error}");
                refused += 1;
            }
        }
    }
    assert!(known > 0 && refused > cases() / 2, "{known} known, {refused} refused");
}
