//! SQL type names (PostgreSQL's) to Arrow types and back: the first two columns of the type table.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, TimeUnit};

use crate::{ErrorKind, Problem};

/// Key of the field mark that gives a SQL type back where Arrow has none of its own: `json`, `uuid`, `varchar(20)`, …
pub const SQL_TYPE_MARK: &str = "lode.sql_type";

pub fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

/// A nullable field of the SQL type `sql`, with the mark where one is needed.
/// Errors: `Config` for an unknown type.
pub fn field(name: &str, sql: &str) -> Result<Field, Problem> {
    let (data_type, mark) = parse(sql)?;
    let field = Field::new(name, data_type, true);
    Ok(match mark {
        Some(mark) => field.with_metadata([(SQL_TYPE_MARK.to_owned(), mark)].into()),
        None => field,
    })
}

/// Arrow type of a SQL type name, and its mark if Arrow alone does not tell.
pub fn parse(sql: &str) -> Result<(DataType, Option<String>), Problem> {
    let text = sql.trim().to_lowercase();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(element) = text.strip_suffix("[]") {
        let (inner, _) = parse(element)?;
        return Ok((DataType::List(Arc::new(Field::new("element", inner, true))), None));
    }
    if let Some(inner) = text.strip_prefix("struct<").and_then(|rest| rest.strip_suffix('>')) {
        return Ok((DataType::Struct(struct_fields(inner)?), None));
    }
    let (base, arguments) = match text.split_once('(') {
        Some((base, rest)) => {
            let Some((inside, after)) = rest.split_once(')') else { return Err(unknown(sql)) };
            let numbers: Result<Vec<u32>, _> = inside.split(',').map(|part| part.trim().parse()).collect();
            (format!("{}{}", base.trim(), after), numbers.map_err(|_| unknown(sql))?)
        }
        None => (text.clone(), Vec::new()),
    };
    let plain = match (base.as_str(), arguments.as_slice()) {
        ("smallint" | "int2", []) => DataType::Int16,
        ("integer" | "int" | "int4", []) => DataType::Int32,
        ("bigint" | "int8", []) => DataType::Int64,
        ("real" | "float4", []) => DataType::Float32,
        ("double precision" | "double" | "float8" | "float", []) => DataType::Float64,
        ("numeric" | "decimal", []) => DataType::Decimal128(38, 9),
        ("numeric" | "decimal", [precision]) if (1..=38).contains(precision) => {
            DataType::Decimal128(*precision as u8, 0)
        }
        ("numeric" | "decimal", [precision, scale]) if (1..=38).contains(precision) && scale <= precision => {
            DataType::Decimal128(*precision as u8, *scale as i8)
        }
        ("text" | "string" | "varchar" | "character varying", []) => DataType::Utf8View,
        ("varchar" | "character varying" | "char" | "character" | "bpchar", [_]) => {
            return Ok((DataType::Utf8View, Some(text)));
        }
        ("bytea" | "blob", []) => DataType::BinaryView,
        ("boolean" | "bool", []) => DataType::Boolean,
        ("date", []) => DataType::Date32,
        ("timestamp" | "timestamp without time zone", _) => timestamp(),
        ("timestamptz" | "timestamp with time zone", _) => timestamptz(),
        ("time" | "time without time zone", _) => {
            return Ok((DataType::Time64(TimeUnit::Microsecond), Some("time".into())));
        }
        ("interval", []) => return Ok((DataType::Interval(IntervalUnit::MonthDayNano), Some("interval".into()))),
        ("uuid", []) => return Ok((DataType::FixedSizeBinary(16), Some("uuid".into()))),
        ("json" | "jsonb", []) => return Ok((DataType::Utf8View, Some(base))),
        _ => return Err(unknown(sql)),
    };
    Ok((plain, None))
}

fn struct_fields(inner: &str) -> Result<Fields, Problem> {
    let mut fields = Vec::new();
    let (mut depth, mut start) = (0_i32, 0_usize);
    let ends = inner.char_indices().filter_map(|(at, c)| {
        match c {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ',' if depth == 0 => return Some(at),
            _ => {}
        }
        None
    });
    let ends: Vec<usize> = ends.chain([inner.len()]).collect();
    for end in ends {
        let part = inner.get(start..end).unwrap_or_default().trim();
        let (name, sql) = part.split_once(|c: char| c == ':' || c.is_whitespace()).ok_or_else(|| unknown(part))?;
        fields.push(field(name.trim(), sql)?);
        start = end + 1;
    }
    Ok(fields.into())
}

fn unknown(sql: &str) -> Problem {
    Problem::new(ErrorKind::Config, format!("unknown type \"{sql}\"")).fix(
        "known types: smallint, integer, bigint, real, double precision, numeric(p,s), text, varchar(n), bytea, boolean, \
         date, timestamp, timestamptz, time, interval, uuid, json, T[] and struct<name: T, …>",
    )
}

/// The SQL name of a field's type: its mark, else the name of its Arrow type.
pub fn name_of(field: &Field) -> String {
    field.metadata().get(SQL_TYPE_MARK).cloned().unwrap_or_else(|| name(field.data_type()))
}

/// The SQL name of an Arrow type.
pub fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "integer".into(),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            format!("numeric({precision},{scale})")
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".into(),
        DataType::FixedSizeBinary(16) => "uuid".into(),
        DataType::FixedSizeBinary(_) => "bytea".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::FixedSizeList(element, _) => format!("{}[]", name_of(element)),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), name_of(f))).collect();
            format!("struct<{}>", fields.join(", "))
        }
        DataType::Dictionary(_, value) => name(value),
        DataType::Null => "text".into(),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for sql in [
            "smallint",
            "integer",
            "bigint",
            "real",
            "double precision",
            "numeric(12,2)",
            "text",
            "varchar(20)",
            "bytea",
            "boolean",
            "date",
            "timestamp",
            "timestamptz",
            "time",
            "interval",
            "uuid",
            "json",
            "bigint[]",
            "struct<pct: double precision, kwh: numeric(6,2)>",
        ] {
            assert_eq!(name_of(&field("x", sql).unwrap()), sql);
        }
    }

    #[test]
    fn an_unknown_type_lists_the_known_ones() {
        assert!(field("x", "number").unwrap_err().remedy().unwrap().contains("numeric(p,s)"));
    }
}
