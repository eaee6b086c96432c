//! Precisions of a user's own: three dtypes and an op table under a name, which is then a string like the others.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use autocast::OpTable;
use candle_core::DType;
use precision_types::{IntoPrecision, Precision};

use crate::{Error, Result};

/// A precision that is not among [`Precision::ALL`].
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::autocast::{CastRule, OpTable};
/// use trainer::candle_core::DType;
/// use trainer::{OwnPrecision, Trainer};
///
/// // bf16-mixed with attention in f32, whose predictions leave in f64.
/// let table = OpTable::cpu().with_rule("scaled_dot_product_attention", CastRule::Fp32)?;
/// OwnPrecision::new(DType::F32, DType::BF16, DType::F64)?.with_table(table)?.register("bf16-careful")?;
/// let trainer = Trainer::builder().precision("bf16-careful").accelerator("cpu").build()?;
/// assert_eq!(trainer.precision_name(), "bf16-careful");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OwnPrecision {
    pub(crate) name: String,
    /// The one whose storage and loss scaling it has.
    pub(crate) base: Precision,
    pub(crate) output: DType,
    pub(crate) table: Option<OpTable>,
}

/// Those that were registered in this process.
static REGISTERED: Mutex<BTreeMap<String, OwnPrecision>> = Mutex::new(BTreeMap::new());

fn registered() -> MutexGuard<'static, BTreeMap<String, OwnPrecision>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnPrecision {
    /// A precision that stores parameters in one dtype, computes products in another, and has predictions leave in a third.
    ///
    /// Its loss is scaled where products are in f16, as that of every precision is.
    ///
    /// # Errors
    /// [`Error::Setting`] for parameters and products that go together in no precision: they are of one dtype, or f32
    /// parameters with 16-bit products; and for an output that is no float.
    pub fn new(parameters: DType, products: DType, output: DType) -> Result<Self> {
        let of = |precision: &Precision| {
            let [stored, computed]: [DType; 2] =
                [precision.param_dtype().into(), precision.compute_dtype().into()];
            (stored, computed) == (parameters, products)
        };
        let (Some(base), true) = (Precision::ALL.into_iter().find(of), output.is_float()) else {
            let [parameters, products, output] = [parameters, products, output].map(|dtype| dtype.as_str());
            return Err(Error::Setting {
                setting: "OwnPrecision::new",
                got: format!("parameters in {parameters}, products in {products}, output in {output}"),
                expected: "floats: parameters and products of one dtype, or f32 parameters with f16 or bf16 products",
            });
        };
        Ok(Self { name: String::new(), base, output, table: None })
    }

    /// Casts as `table` says instead of PyTorch's.
    ///
    /// # Errors
    /// [`Error::Setting`] where parameters and products are of one dtype: nothing is cast there.
    pub fn with_table(self, table: OpTable) -> Result<Self> {
        if !self.base.is_mixed() {
            return Err(Error::Setting {
                setting: "OwnPrecision::with_table",
                got: format!("a table for parameters and products of {}", self.base.param_dtype()),
                expected: "f32 parameters with f16 or bf16 products: elsewhere no op is cast",
            });
        }
        Ok(Self { table: Some(table), ..self })
    }

    /// Makes `name` a precision of this process.
    ///
    /// # Errors
    /// [`Error::DuplicateName`] for one that there is.
    pub fn register(self, name: &str) -> Result<()> {
        let mut registered = registered();
        if name.into_precision().is_ok() || registered.contains_key(name) {
            return Err(Error::DuplicateName { what: "precisions", name: name.to_string() });
        }
        registered.insert(name.to_string(), Self { name: name.to_string(), ..self });
        Ok(())
    }

    /// The one of that name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        registered().get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_go_together_is_refused() {
        let error = OwnPrecision::new(DType::F64, DType::BF16, DType::F32).unwrap_err().to_string();
        assert!(error.contains("parameters in f64") && error.contains("bf16"), "{error}");
        assert!(OwnPrecision::new(DType::F32, DType::F32, DType::I64).is_err());
        let own = OwnPrecision::new(DType::F16, DType::F16, DType::F32).unwrap();
        assert_eq!(own.base, Precision::F16True);
        assert!(own.with_table(OpTable::cpu()).unwrap_err().to_string().contains("no op is cast"));
    }

    #[test]
    fn a_name_is_given_once() {
        let own = || OwnPrecision::new(DType::F32, DType::BF16, DType::F32).unwrap();
        own().register("mine").unwrap();
        for name in ["mine", "bf16-mixed", "16"] {
            assert!(matches!(own().register(name), Err(Error::DuplicateName { .. })), "{name}");
        }
        assert_eq!(OwnPrecision::find("mine").map(|own| own.base), Some(Precision::Bf16Mixed));
    }
}
