//! `checker`: the program that says which responses are right.

use std::fmt;

use rlrf_method::CheckerConfig;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A checker by its name, or with settings as an aspect's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RunChecker {
    /// `"arithmetic"`: the exact value of an expression; it also writes critiques.
    Arithmetic,
    /// `{ kind = "number", ... }`.
    Of(CheckerConfig),
}

const ARITHMETIC: &str = "arithmetic";

impl Serialize for RunChecker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Arithmetic => ARITHMETIC.serialize(serializer),
            Self::Of(config) => config.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RunChecker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrSettings;

        impl<'de> Visitor<'de> for NameOrSettings {
            type Value = RunChecker;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"arithmetic\", or a checker with its settings such as { kind = \"number\" }")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<RunChecker, E> {
                match name {
                    ARITHMETIC => Ok(RunChecker::Arithmetic),
                    _ => Err(E::unknown_variant(name, &[ARITHMETIC])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RunChecker, A::Error> {
                CheckerConfig::deserialize(MapAccessDeserializer::new(map)).map(RunChecker::Of)
            }
        }

        deserializer.deserialize_any(NameOrSettings)
    }
}
