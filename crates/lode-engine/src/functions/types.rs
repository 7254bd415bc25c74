//! SQL type names as the types of this lake: microseconds, `float` as double, bare `numeric` as (38,9).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, TimezoneInfo};

use lode_core::sql_type::SQL_TYPE_MARK;
use lode_core::{ErrorKind, Problem, sql_type};

#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, name: &Sql) -> Result<Option<FieldRef>> {
        if let Some(refused) = refused(name) {
            return Err(DataFusionError::External(Box::new(refused)));
        }
        let mark = match name {
            Sql::JSON => Some("json"),
            Sql::JSONB => Some("jsonb"),
            _ => None,
        };
        let mark = mark.map(|mark| (SQL_TYPE_MARK.to_owned(), mark.to_owned()));
        Ok(plan(name)
            .map(|data_type| Arc::new(Field::new("", data_type, true).with_metadata(mark.into_iter().collect()))))
    }
}

/// Times have microseconds; one of fewer digits would have to be rounded wherever it is made. The values of a list of json
/// would not be checked.
pub(crate) fn refused(name: &Sql) -> Option<Problem> {
    if let Sql::Array(ArrayElemTypeDef::SquareBracket(element, _)) = name
        && matches!(element.as_ref(), Sql::JSON | Sql::JSONB)
    {
        return Some(
            Problem::new(ErrorKind::Unsupported, "lists of json are not supported")
                .fix("keep the list as one json value"),
        );
    }
    let digits = match name {
        Sql::Time(Some(digits), _) => *digits,
        Sql::Timestamp(Some(digits), _) | Sql::TimestampNtz(Some(digits)) | Sql::Datetime(Some(digits)) => *digits,
        _ => return None,
    };
    (digits < 6).then(|| {
        Problem::new(ErrorKind::Unsupported, format!("`{}` is not supported", name.to_string().to_lowercase())).fix(
            "use the type without digits, which has microseconds, and cut where it matters: `date_trunc('second', x)`",
        )
    })
}

fn plan(name: &Sql) -> Option<DataType> {
    Some(match name {
        Sql::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => sql_type::timestamptz(),
        Sql::Timestamp(..) | Sql::TimestampNtz(_) | Sql::Datetime(_) => sql_type::timestamp(),
        Sql::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time64(TimeUnit::Microsecond),
        // `float` and `float(25)` to `float(53)` are double precision.
        Sql::Float(ExactNumberInfo::None) => DataType::Float64,
        Sql::Float(ExactNumberInfo::Precision(bits)) if *bits > 24 => DataType::Float64,
        Sql::Numeric(ExactNumberInfo::None) | Sql::Decimal(ExactNumberInfo::None) | Sql::Dec(ExactNumberInfo::None) => {
            DataType::Decimal128(38, 9)
        }
        Sql::CharacterVarying(_) | Sql::Varchar(_) => DataType::Utf8View,
        Sql::JSON | Sql::JSONB => DataType::Utf8View,
        Sql::Uuid => DataType::FixedSizeBinary(16),
        _ => return None,
    })
}
