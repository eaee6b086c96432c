//! Which precision runs on which accelerator: the one place where that is decided, the error that says what to use in
//! place of what does not run, and the table that the README publishes.

use std::fmt;

use crate::{Accelerator, Precision};

impl Precision {
    /// Whether this precision runs on `accelerator`; if not, what does.
    ///
    /// This is about the kind of device, not about whether this machine has one.
    ///
    /// # Errors
    ///
    /// [`UnsupportedPrecision`], which names every precision that the accelerator does run, nearest first.
    pub fn supported_on(self, accelerator: Accelerator) -> Result<(), UnsupportedPrecision> {
        if runs_on(self, accelerator) {
            return Ok(());
        }
        let mut alternatives: Vec<Precision> =
            Precision::ALL.into_iter().filter(|&other| runs_on(other, accelerator)).collect();
        alternatives.sort_by_key(|&other| distance(self, other));
        Err(UnsupportedPrecision { precision: self, accelerator, alternatives })
    }
}

const fn runs_on(precision: Precision, accelerator: Accelerator) -> bool {
    match accelerator {
        // No autocast to f16: a CPU has no fast f16 arithmetic to win by it, and bf16 needs no loss scaling.
        Accelerator::Cpu => !matches!(precision, Precision::F16Mixed),
        Accelerator::Gpu => true,
        // A TPU computes in bf16 and f32.
        Accelerator::Tpu => {
            matches!(precision, Precision::Bf16Mixed | Precision::Bf16True | Precision::F32True)
        }
    }
}

/// How much a run changes when `other` takes `wanted`'s place: first in what it stores, then in how it computes. Ties
/// keep the order of [`Precision::ALL`].
fn distance(wanted: Precision, other: Precision) -> (usize, usize) {
    let storage = wanted.bytes_per_parameter().abs_diff(other.bytes_per_parameter());
    let compute = wanted.compute_dtype().size_in_bytes().abs_diff(other.compute_dtype().size_in_bytes());
    (storage, compute)
}

/// A precision was asked for on an accelerator that does not run it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{precision} is not supported on the {}; use {}", accelerator.title(), Choice(alternatives))]
#[non_exhaustive]
pub struct UnsupportedPrecision {
    /// What was asked for.
    pub precision: Precision,
    /// Where.
    pub accelerator: Accelerator,
    /// Every precision that the accelerator runs, the one nearest to `precision` first.
    pub alternatives: Vec<Precision>,
}

/// Prints `a`, or `a (or b, c)`.
struct Choice<'a>(&'a [Precision]);

impl fmt::Display for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|p| p.as_str()).collect();
        match names.as_slice() {
            [] => f.write_str("another accelerator"),
            [only] => f.write_str(only),
            [nearest, rest @ ..] => write!(f, "{nearest} (or {})", rest.join(", ")),
        }
    }
}

/// The support matrix as a Markdown table.
///
/// `{}` prints the published table, one row for each of [`SupportMatrix::PUBLISHED`]. `{:#}` prints a row for every
/// precision, with the true 16-bit ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SupportMatrix;

impl SupportMatrix {
    /// The rows of the published table.
    pub const PUBLISHED: [Precision; 4] =
        [Precision::F16Mixed, Precision::Bf16Mixed, Precision::F32True, Precision::F64True];
}

impl fmt::Display for SupportMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: &[Precision] = if f.alternate() { &Precision::ALL } else { &Self::PUBLISHED };
        let [cpu, gpu, tpu] = Accelerator::ALL.map(Accelerator::title);
        writeln!(f, "| precision | {cpu} | {gpu} | {tpu} |")?;
        writeln!(f, "|---|---|---|---|")?;
        for &precision in rows {
            let [cpu, gpu, tpu] = Accelerator::ALL.map(|a| if runs_on(precision, a) { "Yes" } else { "No" });
            writeln!(f, "| {precision} | {cpu} | {gpu} | {tpu} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = "\
| precision | CPU | GPU | TPU |
|---|---|---|---|
| 16-mixed | No | Yes | No |
| bf16-mixed | Yes | Yes | Yes |
| 32-true | Yes | Yes | Yes |
| 64-true | Yes | Yes | No |
";

    #[test]
    fn the_published_table_has_the_twelve_cells_of_the_reference() {
        assert_eq!(SupportMatrix.to_string(), PUBLISHED);
    }

    #[test]
    fn the_full_table_adds_the_true_16_bit_rows() {
        let full = format!("{SupportMatrix:#}");
        assert_eq!(full.lines().count(), 2 + Precision::ALL.len());
        assert!(PUBLISHED.lines().all(|line| full.lines().any(|l| l == line)), "{full}");
        assert!(full.contains("| 16-true | Yes | Yes | No |\n| bf16-true | Yes | Yes | Yes |\n"), "{full}");
    }

    #[test]
    fn an_unsupported_precision_says_what_to_use() {
        let check = |precision: Precision, accelerator, message: &str| {
            assert_eq!(precision.supported_on(accelerator).unwrap_err().to_string(), message);
        };
        use Accelerator::{Cpu, Tpu};
        check(
            Precision::F16Mixed,
            Cpu,
            "16-mixed is not supported on the CPU; use bf16-mixed (or 32-true, 16-true, bf16-true, 64-true)",
        );
        check(
            Precision::F16Mixed,
            Tpu,
            "16-mixed is not supported on the TPU; use bf16-mixed (or 32-true, bf16-true)",
        );
        check(
            Precision::F16True,
            Tpu,
            "16-true is not supported on the TPU; use bf16-true (or bf16-mixed, 32-true)",
        );
        check(
            Precision::F64True,
            Tpu,
            "64-true is not supported on the TPU; use 32-true (or bf16-mixed, bf16-true)",
        );
    }

    #[test]
    fn alternatives_are_all_that_runs_and_nothing_else() {
        for accelerator in Accelerator::ALL {
            let (runs, fails): (Vec<Precision>, Vec<Precision>) =
                Precision::ALL.into_iter().partition(|p| p.supported_on(accelerator).is_ok());
            for precision in fails {
                let refusal = precision.supported_on(accelerator).unwrap_err();
                assert_eq!((refusal.precision, refusal.accelerator), (precision, accelerator));
                let listed = Precision::ALL.into_iter().filter(|p| refusal.alternatives.contains(p));
                assert_eq!(listed.collect::<Vec<_>>(), runs);
                assert_eq!(refusal.alternatives.len(), runs.len());
            }
        }
    }
}
