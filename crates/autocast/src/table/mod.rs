//! Which dtype each op runs in, as data. Casting tensors by it is for [`crate::cast_inputs`].

mod cpu;
mod gpu;
mod ops;
mod signature;
mod suggest;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use candle_core::DType;

use crate::{Error, Result};
use signature::{Signature, same};

/// What autocast does with an op's floating inputs. Integers, f64 and tensors on another device are never cast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CastRule {
    /// Cast to the region's fast dtype: products and convolutions.
    LowerPrecision,
    /// Cast to f32: losses, norms, functions with a wide range.
    Fp32,
    /// Compute in f32, unless the caller names a dtype: softmax and sums.
    Fp32SetOptDtype,
    /// Cast to the widest of the fast dtype and the inputs' dtypes.
    Promote,
    /// An error: the op's 16-bit gradients overflow.
    Banned,
    /// Leave the inputs alone.
    Passthrough,
}

/// One [`CastRule`] per op, by PyTorch's op name.
///
/// [`OpTable::gpu`] and [`OpTable::cpu`] are PyTorch's; [`with_rule`](OpTable::with_rule) and
/// [`with_op`](OpTable::with_op) change a copy. An op whose name ends in `_` is the in-place form: it passes through and
/// its output has its first input's dtype.
///
/// ```
/// use autocast::{CastRule, OpTable};
/// use candle_core::DType::{BF16, F32};
///
/// let table = OpTable::gpu();
/// assert_eq!(table.output_dtype("linear", BF16, &[F32, F32])?, BF16);
/// assert_eq!(table.output_dtype("softmax", BF16, &[BF16])?, F32);
///
/// let table = table.with_rule("softmax", CastRule::Passthrough)?;
/// assert_eq!(table.output_dtype("softmax", BF16, &[BF16])?, BF16);
/// # Ok::<(), autocast::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OpTable {
    entries: Arc<HashMap<&'static str, Entry>>,
    /// Changes to `entries`, and the user's own ops.
    changes: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    rule: CastRule,
    signature: Signature,
}

static GPU: LazyLock<Arc<HashMap<&'static str, Entry>>> = LazyLock::new(|| build(gpu::RULES, &[]));
static CPU: LazyLock<Arc<HashMap<&'static str, Entry>>> =
    LazyLock::new(|| build(cpu::RULES, cpu::SIGNATURES));

impl OpTable {
    /// PyTorch's rules on a GPU.
    pub fn gpu() -> Self {
        Self { entries: GPU.clone(), changes: BTreeMap::new() }
    }

    /// PyTorch's rules on a CPU.
    pub fn cpu() -> Self {
        Self { entries: CPU.clone(), changes: BTreeMap::new() }
    }

    /// The same table with another rule for a known `op`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownOp`] if there is no such op.
    pub fn with_rule(mut self, op: &str, rule: CastRule) -> Result<Self> {
        let entry = Entry { rule, ..self.entry(op)? };
        self.changes.insert(op.into(), entry);
        Ok(self)
    }

    /// The same table with an op of the user's own, whose inputs promote as PyTorch's arithmetic does.
    ///
    /// A known name keeps its own way of combining inputs and gets the rule.
    pub fn with_op(mut self, name: impl Into<String>, rule: CastRule) -> Self {
        let name = name.into();
        let signature = self.entry(&name).map_or(Signature::Promote, |entry| entry.signature);
        self.changes.insert(name, Entry { rule, signature });
        self
    }

    /// The rule for `op`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownOp`] if there is no such op.
    pub fn rule(&self, op: &str) -> Result<CastRule> {
        Ok(self.entry(op)?.rule)
    }

    /// Every op name in the table, sorted.
    pub fn ops(&self) -> Vec<&str> {
        let own = self.changes.keys().map(String::as_str).filter(|name| !self.entries.contains_key(name));
        let mut names: Vec<&str> = self.entries.keys().copied().chain(own).collect();
        names.sort_unstable();
        names
    }

    /// The dtype that `op` puts out in a region whose fast dtype is `fast`.
    ///
    /// `inputs` are the dtypes of the op's tensor arguments, in order. A truth value is u8 and a position i64; a complex
    /// result is named by the dtype of its parts.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownOp`], [`Error::Banned`], and [`Error::InvalidArgument`] where the op cannot combine its inputs.
    pub fn output_dtype(&self, op: &str, fast: DType, inputs: &[DType]) -> Result<DType> {
        check_fast_dtype(fast)?;
        let cast =
            self.cast_dtypes(op, fast, &inputs.iter().map(|&dtype| Input::here(dtype)).collect::<Vec<_>>())?;
        self.entry(op)?.signature.output(op, &cast)
    }

    /// The dtype that each input has after autocast's casts.
    pub(crate) fn cast_dtypes(&self, op: &str, fast: DType, inputs: &[Input]) -> Result<Vec<DType>> {
        let Entry { rule, signature } = self.entry(op)?;
        if signature == Signature::SameBeforeCast {
            same(op, inputs.iter().map(|input| input.dtype))?;
        }
        let target = match rule {
            CastRule::Passthrough => None,
            CastRule::Banned => return Err(banned(op)),
            CastRule::LowerPrecision => Some(fast),
            CastRule::Fp32 => Some(DType::F32),
            CastRule::Fp32SetOptDtype => {
                inputs.first().filter(|first| first.is_eligible()).map(|_| DType::F32)
            }
            CastRule::Promote => Some(widest(op, fast, inputs)?),
        };
        let cast = |input: &Input| target.filter(|_| input.is_eligible()).unwrap_or(input.dtype);
        Ok(inputs.iter().map(cast).collect())
    }

    fn entry(&self, op: &str) -> Result<Entry> {
        let listed = |name: &str| self.changes.get(name).or_else(|| self.entries.get(name)).copied();
        if let Some(entry) = listed(op) {
            return Ok(entry);
        }
        match op.strip_suffix('_').and_then(listed) {
            Some(base) => Ok(Entry { rule: CastRule::Passthrough, signature: base.signature.in_place() }),
            None => Err(Error::UnknownOp { op: op.into(), close: suggest::close_to(op, self.ops()) }),
        }
    }
}

/// One tensor argument, as far as autocast looks at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) dtype: DType,
    /// Whether the tensor is on the region's device.
    pub(crate) on_device: bool,
}

impl Input {
    fn here(dtype: DType) -> Self {
        Self { dtype, on_device: true }
    }

    fn is_eligible(self) -> bool {
        self.on_device && matches!(self.dtype, DType::F8E4M3 | DType::F16 | DType::BF16 | DType::F32)
    }
}

/// # Errors
///
/// [`Error::InvalidArgument`] unless `fast` is a 16-bit float.
pub(crate) fn check_fast_dtype(fast: DType) -> Result<()> {
    match fast {
        DType::F16 | DType::BF16 => Ok(()),
        other => Err(Error::argument("autocast", "fast_dtype", other.as_str(), "f16 or bf16")),
    }
}

/// The dtype for [`CastRule::Promote`]. As in PyTorch, f64 does not take part, and another 16-bit dtype than the fast one
/// is refused unless an f32 input came before it.
///
/// # Source
///
/// `at::autocast::prioritize`.
fn widest(op: &str, fast: DType, inputs: &[Input]) -> Result<DType> {
    let mut widest = fast;
    for input in inputs.iter().filter(|input| input.is_eligible()) {
        if input.dtype == DType::F32 {
            widest = DType::F32;
        } else if widest != DType::F32 && input.dtype != fast {
            return Err(Error::dtype(op, "an input", input.dtype, &[fast, DType::F32, DType::F64]));
        }
    }
    Ok(widest)
}

fn banned(op: &str) -> Error {
    let instead = match op {
        "binary_cross_entropy" => {
            "binary_cross_entropy_with_logits, which takes the values before the sigmoid".into()
        }
        "bce" => "bce_with_logits, which takes the values before the sigmoid".into(),
        _ => "an op that the region's table allows".into(),
    };
    Error::Banned { op: op.into(), instead }
}

fn build(
    rules: &[(CastRule, &'static str)],
    signatures: &[(Signature, &'static str)],
) -> Arc<HashMap<&'static str, Entry>> {
    let mut entries = HashMap::new();
    for &(signature, names) in ops::OPS.iter().chain(signatures) {
        entries.extend(
            names.split_whitespace().map(|name| (name, Entry { rule: CastRule::Passthrough, signature })),
        );
    }
    for &(rule, names) in rules {
        for name in names.split_whitespace() {
            entries.get_mut(name).expect("a rule names an op of OPS, as a test checks").rule = rule;
        }
    }
    Arc::new(entries)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_op_stands_once_and_every_rule_names_a_known_op() {
        let mut known = HashSet::new();
        for name in ops::OPS.iter().flat_map(|(_, names)| names.split_whitespace()) {
            assert!(known.insert(name), "{name} stands twice in OPS");
        }
        for rules in [gpu::RULES, cpu::RULES] {
            let mut ruled = HashSet::new();
            for name in rules.iter().flat_map(|(_, names)| names.split_whitespace()) {
                assert!(known.contains(name), "{name} has a rule and is not in OPS");
                assert!(ruled.insert(name), "{name} has two rules");
            }
        }
        for name in cpu::SIGNATURES.iter().flat_map(|(_, names)| names.split_whitespace()) {
            assert!(known.contains(name), "{name} has a signature and is not in OPS");
        }
    }
}
