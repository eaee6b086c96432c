//! What a user may write for a precision: canonical strings, the legacy strings and integers, and the notice that goes
//! with those legacy spellings whose meaning is easily mistaken. Nothing is trimmed and case counts, as in Lightning.

use std::{fmt, str::FromStr};

use crate::{Error, Precision, Result};

/// Anything that a user may pass where a precision is wanted: `"16-mixed"`, `32`, `Precision::F64True`.
pub trait IntoPrecision {
    /// Reads the value, keeping the notice that a legacy spelling earns.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPrecision`] or [`Error::UnavailablePrecision`], both listing every allowed value.
    fn into_precision(self) -> Result<RequestedPrecision>;
}

/// A precision as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedPrecision {
    /// The precision that the value stands for.
    pub precision: Precision,
    /// What to tell the user about how they wrote it, if anything. Showing it is up to the caller.
    pub notice: Option<LegacyNotice>,
}

/// The legacy spelling `16` or `bf16` was used. [`Display`](fmt::Display) says what to write in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyNotice {
    written: &'static str,
    precision: Precision,
}

impl fmt::Display for LegacyNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, precision } = self;
        write!(f, "precision {written} is a historical name for {precision}: write \"{precision}\"")
    }
}

impl From<Precision> for RequestedPrecision {
    fn from(precision: Precision) -> Self {
        Self { precision, notice: None }
    }
}

impl RequestedPrecision {
    fn legacy(written: &'static str, precision: Precision) -> Self {
        Self { precision, notice: Some(LegacyNotice { written, precision }) }
    }

    fn from_name(name: &str) -> Result<Self> {
        if let Some(precision) = Precision::ALL.into_iter().find(|p| p.as_str() == name) {
            return Ok(precision.into());
        }
        match name {
            "64" => Ok(Precision::F64True.into()),
            "32" => Ok(Precision::F32True.into()),
            "16" => Ok(Self::legacy("\"16\"", Precision::F16Mixed)),
            "bf16" => Ok(Self::legacy("\"bf16\"", Precision::Bf16Mixed)),
            "transformer-engine" | "transformer-engine-float16" => {
                Err(Error::UnavailablePrecision { got: name.to_owned() })
            }
            _ => Err(Error::UnknownPrecision { got: name.to_owned() }),
        }
    }

    fn from_bits(bits: i64) -> Result<Self> {
        match bits {
            64 => Ok(Precision::F64True.into()),
            32 => Ok(Precision::F32True.into()),
            16 => Ok(Self::legacy("16", Precision::F16Mixed)),
            _ => Err(Error::UnknownPrecision { got: bits.to_string() }),
        }
    }
}

/// Reads a canonical or legacy string. The notice is dropped; [`IntoPrecision`] keeps it.
impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        RequestedPrecision::from_name(name).map(|requested| requested.precision)
    }
}

/// Reads a legacy integer: 64, 32 or 16. The notice is dropped; [`IntoPrecision`] keeps it.
impl TryFrom<i64> for Precision {
    type Error = Error;

    fn try_from(bits: i64) -> Result<Self> {
        RequestedPrecision::from_bits(bits).map(|requested| requested.precision)
    }
}

impl IntoPrecision for Precision {
    fn into_precision(self) -> Result<RequestedPrecision> {
        Ok(self.into())
    }
}

impl IntoPrecision for &str {
    fn into_precision(self) -> Result<RequestedPrecision> {
        RequestedPrecision::from_name(self)
    }
}

impl IntoPrecision for String {
    fn into_precision(self) -> Result<RequestedPrecision> {
        RequestedPrecision::from_name(&self)
    }
}

impl IntoPrecision for &String {
    fn into_precision(self) -> Result<RequestedPrecision> {
        RequestedPrecision::from_name(self)
    }
}

// An integer literal with no suffix becomes an i32; the others are what configuration files are read into.
impl IntoPrecision for i32 {
    fn into_precision(self) -> Result<RequestedPrecision> {
        RequestedPrecision::from_bits(self.into())
    }
}

impl IntoPrecision for u32 {
    fn into_precision(self) -> Result<RequestedPrecision> {
        RequestedPrecision::from_bits(self.into())
    }
}

impl IntoPrecision for i64 {
    fn into_precision(self) -> Result<RequestedPrecision> {
        RequestedPrecision::from_bits(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `precision` and whether a notice comes with it.
    #[track_caller]
    fn check(requested: impl IntoPrecision, precision: Precision, notice: Option<&str>) {
        let requested = requested.into_precision().unwrap();
        assert_eq!(requested.precision, precision);
        assert_eq!(requested.notice.map(|n| n.to_string()).as_deref(), notice);
    }

    #[test]
    fn canonical_strings_round_trip_without_notice() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            check(precision.as_str(), precision, None);
            let owned = precision.to_string();
            check(&owned, precision, None);
            check(owned, precision, None);
            check(precision, precision, None);
        }
    }

    #[test]
    fn legacy_32_and_64_are_silent() {
        check("32", Precision::F32True, None);
        check("64", Precision::F64True, None);
        check(32, Precision::F32True, None);
        check(64_i64, Precision::F64True, None);
        check(64_u32, Precision::F64True, None);
    }

    #[test]
    fn legacy_16_and_bf16_say_what_to_write() {
        let notice = |written: &str, canonical: &str| {
            format!("precision {written} is a historical name for {canonical}: write \"{canonical}\"")
        };
        check("16", Precision::F16Mixed, Some(&notice("\"16\"", "16-mixed")));
        check(16, Precision::F16Mixed, Some(&notice("16", "16-mixed")));
        check("bf16", Precision::Bf16Mixed, Some(&notice("\"bf16\"", "bf16-mixed")));
        assert_eq!(Precision::try_from(16), Ok(Precision::F16Mixed));
    }

    #[test]
    fn anything_else_is_an_error_that_lists_every_allowed_value() {
        let unknown =
            ["", " 16-mixed", "16-mixed ", "16-MIXED", "16_mixed", "fp16", "8", "mixed", "32-true\n"];
        let unavailable = ["transformer-engine", "transformer-engine-float16"];
        for name in unknown.into_iter().chain(unavailable) {
            let error = name.parse::<Precision>().unwrap_err();
            let message = error.to_string();
            assert_eq!(name.into_precision(), Err(error.clone()));
            assert!(message.contains(&format!("{name:?}")), "{message}");
            assert!(!message.contains('\n'), "{message}");
            for allowed in Precision::ALL.map(Precision::as_str).into_iter().chain(["64", "32", "16", "bf16"])
            {
                assert!(message.contains(&format!("\"{allowed}\"")), "{message} lacks {allowed}");
            }
            let known_elsewhere = matches!(error, Error::UnavailablePrecision { .. });
            assert_eq!(known_elsewhere, unavailable.contains(&name));
        }
    }

    #[test]
    fn integers_other_than_64_32_16_are_errors() {
        for bits in [i64::MIN, -16, 0, 8, 128, i64::MAX] {
            assert_eq!(Precision::try_from(bits), Err(Error::UnknownPrecision { got: bits.to_string() }));
        }
    }

    proptest! {
        #[test]
        fn no_string_is_read_twice_or_panics(name in "\\PC{0,20}") {
            if let Ok(precision) = name.parse::<Precision>() {
                let legacy = ["64", "32", "16", "bf16"].contains(&name.as_str());
                prop_assert!(legacy || precision.as_str() == name);
            }
        }
    }
}
