//! Serde for the names: written as the canonical string, read from whatever `FromStr` reads, and for a precision from
//! the legacy integers too.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Accelerator, IntoPrecision, Precision};

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A binary format cannot say whether a string or an integer follows, but then nobody wrote it by hand either.
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(PrecisionVisitor)
        } else {
            deserializer.deserialize_str(PrecisionVisitor)
        }
    }
}

struct PrecisionVisitor;

impl de::Visitor<'_> for PrecisionVisitor {
    type Value = Precision;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a precision such as \"16-mixed\" or 32")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Precision, E> {
        read(name)
    }

    fn visit_i64<E: de::Error>(self, bits: i64) -> Result<Precision, E> {
        read(bits)
    }

    fn visit_u64<E: de::Error>(self, bits: u64) -> Result<Precision, E> {
        match i64::try_from(bits) {
            Ok(bits) => read(bits),
            Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(bits), &self)),
        }
    }
}

fn read<E: de::Error>(value: impl IntoPrecision) -> Result<Precision, E> {
    value.into_precision().map(|requested| requested.precision).map_err(E::custom)
}

impl Serialize for Accelerator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Accelerator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AcceleratorVisitor)
    }
}

struct AcceleratorVisitor;

impl de::Visitor<'_> for AcceleratorVisitor {
    type Value = Accelerator;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an accelerator such as \"cpu\"")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Accelerator, E> {
        name.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, to_string};

    #[test]
    fn names_are_written_as_their_canonical_strings() {
        for precision in Precision::ALL {
            let json = to_string(&precision).unwrap();
            assert_eq!(json, format!("\"{precision}\""));
            assert_eq!(from_str::<Precision>(&json).unwrap(), precision);
        }
        for accelerator in Accelerator::ALL {
            let json = to_string(&accelerator).unwrap();
            assert_eq!(json, format!("\"{accelerator}\""));
            assert_eq!(from_str::<Accelerator>(&json).unwrap(), accelerator);
        }
    }

    #[test]
    fn legacy_strings_and_integers_are_read() {
        assert_eq!(from_str::<Precision>("\"bf16\"").unwrap(), Precision::Bf16Mixed);
        assert_eq!(from_str::<Precision>("16").unwrap(), Precision::F16Mixed);
        assert_eq!(from_str::<Precision>("64").unwrap(), Precision::F64True);
    }

    #[test]
    fn anything_else_is_an_error() {
        for json in ["\"fp16\"", "8", "-16", "18446744073709551615", "null", "[32]", "32.0"] {
            assert!(from_str::<Precision>(json).is_err(), "{json}");
        }
        let message = from_str::<Precision>("\"fp16\"").unwrap_err().to_string();
        assert!(message.contains("\"16-mixed\""), "{message}");
        assert!(from_str::<Accelerator>("\"auto\"").is_err());
    }
}
