//! Arithmetic: gradients and agreement of the dtypes.

mod common;

use candle_core::Device;
use common::{cases_arithmetic, check::check_all};

#[test]
fn gradients_and_dtypes_agree() {
    check_all(cases_arithmetic::CASES, &Device::Cpu);
}
