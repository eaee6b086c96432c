//! Mutated checkpoints, alone in a process whose memory is counted.

mod common;

use common::{Net, batches, builder, folder};
use peak_alloc::PeakAlloc;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trainer::TrainingState;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Mutated files that are read; `FUZZ_CASES` sets it.
fn cases() -> usize {
    std::env::var("FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3_000)
}

#[test]
fn mutated_files_are_errors_or_states_and_cost_no_more_than_their_size() {
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
