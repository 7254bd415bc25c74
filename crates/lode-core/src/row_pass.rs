//! Contract and expectations as one pass over rows: declared by project or ingest, compiled by the engine.

use arrow::array::{BooleanArray, RecordBatch};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// A predicate over one row. A NULL answer passes, as in SQL `CHECK`, unless `null_is` says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    pub name: String,
    /// A boolean SQL expression over the row's columns.
    pub expect: String,
    #[serde(default)]
    pub on_violation: OnViolation,
    #[serde(default, with = "null_is", skip_serializing_if = "std::ops::Not::not")]
    pub null_is: bool,
}

/// `null_is: violation | pass`; true means violation.
mod null_is {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum NullIs {
        Violation,
        Pass,
    }

    pub(super) fn serialize<S: Serializer>(is_violation: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *is_violation { "violation" } else { "pass" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Ok(matches!(NullIs::deserialize(deserializer)?, NullIs::Violation))
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnViolation {
    Warn,
    Drop,
    #[default]
    Quarantine,
    Fail,
}

/// A compiled list of expectations for one schema.
pub trait RowPass: Send + Sync {
    /// Checks each row. Errors: `Data` when a predicate cannot be computed (a cast, a division by zero).
    fn check(&self, batch: &RecordBatch) -> Result<RowVerdict, Problem>;
}

/// The verdict over one batch of n rows.
#[derive(Debug, Clone)]
pub struct RowVerdict {
    /// n bits: the row goes on.
    pub accept: BooleanArray,
    /// Rows that are quarantined: at most one violation a row, of the first rule that asks for it.
    pub quarantined: Vec<Violation>,
    /// One entry a rule, in declared order.
    pub counts: Vec<RuleCount>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Row in the batch, from 0.
    pub row: usize,
    pub rule: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    pub rule: String,
    pub on_violation: OnViolation,
    pub violations: u64,
}
