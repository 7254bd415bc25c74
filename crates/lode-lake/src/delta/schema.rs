//! Arrow schemas to Delta schema strings and back, and the canonical types of the type table (design: "Types").
//!
//! Field ids live in Arrow metadata as `PARQUET:field_id` and in Delta metadata as `lode.field_id`; ids of list
//! elements and map entries, which Delta has no place for, stand in `lode.nested_ids` of the field around them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use lode_core::sql_type::{self, SQL_TYPE_MARK};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use serde_json::{Map, Value, json};

const DELTA_ID: &str = "lode.field_id";
const DELTA_NESTED_IDS: &str = "lode.nested_ids";
/// Arrow metadata keeps text only: a Delta metadata value that is not text is kept as JSON under this prefix.
const JSON_PREFIX: &str = "delta.json:";
pub(crate) const PHYSICAL_NAME: &str = "delta.columnMapping.physicalName";
const MAPPING_ID: &str = "delta.json:delta.columnMapping.id";

/// The Delta schema string of an Arrow schema in canonical types. Errors: the SQL name of a type that has no Delta type.
pub(crate) fn to_delta(schema: &Schema) -> Result<String, String> {
    Ok(struct_to_delta(schema.fields())?.to_string())
}

fn struct_to_delta(fields: &Fields) -> Result<Value, String> {
    let fields: Result<Vec<Value>, String> = fields.iter().map(|field| field_to_delta(field)).collect();
    Ok(json!({"type": "struct", "fields": fields?}))
}

fn field_to_delta(field: &Field) -> Result<Value, String> {
    let mut metadata = Map::new();
    let mut keys: Vec<_> = field.metadata().iter().collect();
    keys.sort_unstable();
    for (key, value) in keys {
        if key == PARQUET_FIELD_ID_META_KEY {
            let id: i64 = value.parse().map_err(|_| format!("field id {value}"))?;
            metadata.insert(DELTA_ID.to_owned(), id.into());
        } else if let Some(key) = key.strip_prefix(JSON_PREFIX) {
            metadata.insert(key.to_owned(), serde_json::from_str(value).map_err(|error| error.to_string())?);
        } else {
            metadata.insert(key.clone(), value.clone().into());
        }
    }
    let mut nested = Map::new();
    nested_ids(field.name(), field.data_type(), &mut nested);
    if !nested.is_empty() {
        metadata.insert(DELTA_NESTED_IDS.to_owned(), nested.into());
    }
    Ok(json!({
        "name": field.name(),
        "type": type_to_delta(field.data_type())?,
        "nullable": field.is_nullable(),
        "metadata": metadata,
    }))
}

fn nested_ids(path: &str, data_type: &DataType, into: &mut Map<String, Value>) {
    let mut add = |name: &str, field: &Field| {
        let path = format!("{path}.{name}");
        if let Some(id) = field_id(field) {
            into.insert(path.clone(), id.into());
        }
        nested_ids(&path, field.data_type(), into);
    };
    match data_type {
        DataType::List(element) => add("element", element),
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type() {
                for (name, field) in ["key", "value"].iter().zip(pair) {
                    add(name, field);
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn field_id(field: &Field) -> Option<i32> {
    field.metadata().get(PARQUET_FIELD_ID_META_KEY)?.parse().ok()
}

fn type_to_delta(data_type: &DataType) -> Result<Value, String> {
    Ok(match data_type {
        DataType::Int8 => "byte".into(),
        DataType::Int16 => "short".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "long".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})").into(),
        DataType::Utf8View | DataType::Time64(_) | DataType::Interval(_) | DataType::FixedSizeBinary(16) => {
            "string".into()
        }
        DataType::BinaryView => "binary".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp_ntz".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".into(),
        DataType::List(element) => json!({
            "type": "array",
            "elementType": type_to_delta(element.data_type())?,
            "containsNull": element.is_nullable(),
        }),
        DataType::Struct(fields) => struct_to_delta(fields)?,
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => match pair.as_ref() {
                [key, value] => json!({
                    "type": "map",
                    "keyType": type_to_delta(key.data_type())?,
                    "valueType": type_to_delta(value.data_type())?,
                    "valueContainsNull": value.is_nullable(),
                }),
                _ => return Err(sql_type::name(data_type)),
            },
            _ => return Err(sql_type::name(data_type)),
        },
        other => return Err(sql_type::name(other)),
    })
}

/// The Arrow schema of a Delta schema string. Fields without an id get ids behind the largest one, depth first.
/// Errors: what is wrong; a type that Lode does not know is named.
pub(crate) fn from_delta(text: &str) -> Result<SchemaRef, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let fields = struct_from_delta(&value)?;
    let mut next = largest_id(&fields) + 1;
    Ok(Arc::new(Schema::new(with_ids(&fields, &mut next))))
}

fn struct_from_delta(value: &Value) -> Result<Fields, String> {
    let fields = value.get("fields").and_then(Value::as_array).ok_or("a struct without \"fields\"")?;
    fields.iter().map(field_from_delta).collect()
}

fn field_from_delta(value: &Value) -> Result<Field, String> {
    let name = value.get("name").and_then(Value::as_str).ok_or("a field without a name")?;
    let delta = value.get("type").ok_or_else(|| format!("field \"{name}\" without a type"))?;
    let nullable = value.get("nullable").and_then(Value::as_bool).unwrap_or(true);
    let mut metadata = HashMap::new();
    let mut nested = Map::new();
    for (key, value) in value.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        match (key.as_str(), value) {
            (DELTA_ID, id) => {
                metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
            }
            (DELTA_NESTED_IDS, Value::Object(ids)) => nested = ids.clone(),
            (_, Value::String(text)) => {
                metadata.insert(key.clone(), text.clone());
            }
            (_, other) => {
                metadata.insert(format!("{JSON_PREFIX}{key}"), other.to_string());
            }
        }
    }
    if let (None, Some(id)) = (metadata.get(PARQUET_FIELD_ID_META_KEY), metadata.get(MAPPING_ID)) {
        metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.clone());
    }
    let mut data_type = type_from_delta(delta, name, &nested)?;
    // A mark that does not fit the stored type is somebody else's: the stored type stands.
    if let (DataType::Utf8View, Some(mark)) = (&data_type, metadata.get(SQL_TYPE_MARK))
        && let Ok((marked, _)) = sql_type::parse(mark)
        && stored_type(&marked) == DataType::Utf8View
    {
        data_type = marked;
    }
    Ok(Field::new(name, data_type, nullable).with_metadata(metadata))
}

fn type_from_delta(value: &Value, path: &str, nested: &Map<String, Value>) -> Result<DataType, String> {
    let inner = |value: Option<&Value>, name: &str, nullable: bool| -> Result<Field, String> {
        let path = format!("{path}.{name}");
        let value = value.ok_or_else(|| format!("\"{path}\" without a type"))?;
        let field = Field::new(name, type_from_delta(value, &path, nested)?, nullable);
        Ok(match nested.get(&path) {
            Some(id) => with_id(field, id),
            None => field,
        })
    };
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(true);
    if let Some(name) = value.as_str() {
        return primitive_from_delta(name).ok_or_else(|| format!("type {name}"));
    }
    match value.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(DataType::Struct(struct_from_delta(value)?)),
        Some("array") => {
            Ok(DataType::List(Arc::new(inner(value.get("elementType"), "element", flag("containsNull"))?)))
        }
        Some("map") => {
            let key = inner(value.get("keyType"), "key", false)?;
            let of = inner(value.get("valueType"), "value", flag("valueContainsNull"))?;
            Ok(map_of(key, of))
        }
        _ => Err(format!("type {value}")),
    }
}

fn with_id(field: Field, id: impl ToString) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
    field.with_metadata(metadata)
}

fn map_of(key: Field, value: Field) -> DataType {
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(vec![key, value].into()), false)), false)
}

fn primitive_from_delta(name: &str) -> Option<DataType> {
    Some(match name {
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "string" => DataType::Utf8View,
        "binary" => DataType::BinaryView,
        "boolean" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamp" => sql_type::timestamptz(),
        "timestamp_ntz" => sql_type::timestamp(),
        decimal => {
            let (precision, scale) = decimal.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
    })
}

/// The largest field id in use, at any depth; 0 when there is none.
pub(crate) fn largest_id(fields: &Fields) -> i32 {
    let below = |field: &FieldRef| match field.data_type() {
        DataType::Struct(fields) => largest_id(fields),
        DataType::List(element) | DataType::Map(element, _) => largest_id(&vec![Arc::clone(element)].into()),
        _ => 0,
    };
    fields.iter().map(|field| field_id(field).unwrap_or(0).max(below(field))).max().unwrap_or(0)
}

/// Gives each field that has none the next id, depth first.
pub(crate) fn with_ids(fields: &Fields, next: &mut i32) -> Fields {
    fields.iter().map(|field| field_with_ids(field, next)).collect()
}

fn field_with_ids(field: &Field, next: &mut i32) -> Field {
    let mut given = field.clone();
    if field_id(field).is_none() {
        given = with_id(given, *next);
        *next += 1;
    }
    let data_type = match given.data_type() {
        DataType::Struct(fields) => DataType::Struct(with_ids(fields, next)),
        DataType::List(element) => DataType::List(Arc::new(field_with_ids(element, next))),
        DataType::Map(entries, sorted) => match entries.data_type() {
            // The pair itself is no Delta or Iceberg field and has no id.
            DataType::Struct(pair) => {
                let pair = DataType::Struct(with_ids(pair, next));
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted)
            }
            other => other.clone(),
        },
        other => other.clone(),
    };
    given.with_data_type(data_type)
}

/// The canonical field for rows of `field`: a type of the type table, its mark, no foreign metadata and no ids.
/// Errors: the SQL name of a type outside the table.
pub(crate) fn canonical(field: &Field) -> Result<Field, String> {
    let mut data_type = canonical_type(field.data_type())?;
    let mark = match (&data_type, field.metadata().get(SQL_TYPE_MARK)) {
        (DataType::Time64(_), _) => Some("time".to_owned()),
        (DataType::Interval(_), _) => Some("interval".to_owned()),
        (DataType::FixedSizeBinary(_), _) => Some("uuid".to_owned()),
        (DataType::Utf8View, Some(mark)) => {
            // Text that is marked as another type becomes that type.
            if let Ok((marked, _)) = sql_type::parse(mark) {
                if stored_type(&marked) == DataType::Utf8View {
                    data_type = marked;
                    Some(mark.clone())
                } else {
                    None
                }
            } else {
                None
            }
        }
        _ => None,
    };
    let metadata = mark.map(|mark| (SQL_TYPE_MARK.to_owned(), mark)).into_iter().collect();
    Ok(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata))
}

fn canonical_type(data_type: &DataType) -> Result<DataType, String> {
    let unknown = || sql_type::name(data_type);
    Ok(match data_type {
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => DataType::Int16,
        DataType::Int32 | DataType::UInt16 => DataType::Int32,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => decimal(*precision, *scale).ok_or_else(unknown)?,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8View,
        DataType::FixedSizeBinary(16) => DataType::FixedSizeBinary(16),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::Boolean => DataType::Boolean,
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, None) => sql_type::timestamp(),
        DataType::Timestamp(_, Some(_)) => sql_type::timestamptz(),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Dictionary(_, value) => canonical_type(value)?,
        DataType::RunEndEncoded(_, value) => canonical_type(value.data_type())?,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(Arc::new(element_of(element, "element")?)),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| canonical(field)).collect::<Result<_, _>>()?)
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => match pair.as_ref() {
                [key, value] => map_of(element_of(key, "key")?.with_nullable(false), element_of(value, "value")?),
                _ => return Err(unknown()),
            },
            _ => return Err(unknown()),
        },
        _ => return Err(unknown()),
    })
}

/// Elements have no Delta metadata of their own, so no mark: what would need one becomes plain text.
fn element_of(field: &Field, name: &str) -> Result<Field, String> {
    let canonical = canonical(field)?;
    let data_type = match canonical.data_type() {
        marked if stored_type(marked) == DataType::Utf8View => DataType::Utf8View,
        other => other.clone(),
    };
    Ok(Field::new(name, data_type, field.is_nullable()))
}

fn decimal(precision: u8, scale: i8) -> Option<DataType> {
    // A negative scale is zeros before the point.
    let (precision, scale) =
        if scale < 0 { (precision.checked_add(scale.unsigned_abs())?, 0) } else { (precision, scale) };
    (precision <= 38).then_some(DataType::Decimal128(precision, scale))
}

/// The type in which a canonical type stands in a data file.
pub(crate) fn stored_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Time64(_) | DataType::Interval(_) | DataType::FixedSizeBinary(16) => DataType::Utf8View,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| stored_field(field)).collect()),
        DataType::List(element) => DataType::List(Arc::new(stored_field(element))),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(pair) => {
                let pair = DataType::Struct(pair.iter().map(|field| stored_field(field)).collect());
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted)
            }
            _ => data_type.clone(),
        },
        other => other.clone(),
    }
}

/// The field as it stands in a data file: stored type, the file's own name of the column, the id and nothing else.
pub(crate) fn stored_field(field: &Field) -> Field {
    let name = field.metadata().get(PHYSICAL_NAME).unwrap_or(field.name());
    let metadata = field
        .metadata()
        .get_key_value(PARQUET_FIELD_ID_META_KEY)
        .map(|(key, id)| (key.clone(), id.clone()))
        .into_iter()
        .collect();
    Field::new(name, stored_type(field.data_type()), field.is_nullable()).with_metadata(metadata)
}

/// The schema without the names in files, which hold only while column mapping is on.
/// Source: Delta protocol, "Reader Requirements for Column Mapping".
pub(crate) fn without_mapping(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| unmapped(field)).collect::<Fields>()))
}

fn unmapped(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(PHYSICAL_NAME);
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| unmapped(field)).collect()),
        DataType::List(element) => DataType::List(Arc::new(unmapped(element))),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(unmapped(entries)), *sorted),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type).with_metadata(metadata)
}

/// The schema of the data files of a table.
pub(crate) fn stored_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| stored_field(field)).collect::<Fields>()))
}

/// Whether any field, at any depth, is a timestamp without zone: a table feature of Delta.
pub(crate) fn has_timestamp_ntz(fields: &Fields) -> bool {
    fields.iter().any(|field| match field.data_type() {
        DataType::Timestamp(_, None) => true,
        DataType::Struct(fields) => has_timestamp_ntz(fields),
        DataType::List(element) | DataType::Map(element, _) => has_timestamp_ntz(&vec![Arc::clone(element)].into()),
        _ => false,
    })
}

/// `TableDefinition::schema` in a seal: the Delta schema string.
pub(crate) mod schema_json {
    use arrow::datatypes::SchemaRef;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    pub(crate) fn serialize<S: Serializer>(schema: &SchemaRef, serializer: S) -> Result<S::Ok, S::Error> {
        super::to_delta(schema).map_err(ser::Error::custom)?.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SchemaRef, D::Error> {
        super::from_delta(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema_of(columns: &[(&str, &str)]) -> Schema {
        Schema::new(columns.iter().map(|(name, sql)| sql_type::field(name, sql).unwrap()).collect::<Vec<_>>())
    }

    fn with_all_ids(schema: &Schema) -> Schema {
        Schema::new(with_ids(schema.fields(), &mut 1))
    }

    #[test]
    fn every_type_goes_there_and_back() {
        let types = [
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
            "struct<pct: double precision, id: uuid>",
        ];
        for sql in types {
            let schema = with_all_ids(&schema_of(&[("x", sql)]));
            assert_eq!(from_delta(&to_delta(&schema).unwrap()).unwrap().as_ref(), &schema, "{sql}");
        }
    }

    #[test]
    fn ids_run_depth_first_and_reach_elements() {
        let schema = with_all_ids(&schema_of(&[("a", "struct<b: integer, c: text[]>"), ("d", "text")]));
        let text = to_delta(&schema).unwrap();
        assert!(text.contains(r#""lode.nested_ids":{"c.element":4}"#), "{text}");
        assert_eq!(field_id(schema.field(1)), Some(5));
        assert_eq!(largest_id(schema.fields()), 5);
    }

    #[test]
    fn foreign_metadata_is_kept() {
        let text = r#"{"type":"struct","fields":[{"name":"x","type":"byte","nullable":true,"metadata":{"comment":"c","delta.columnMapping.id":7,"delta.columnMapping.physicalName":"col-1","n":[1]}}]}"#;
        let schema = from_delta(text).unwrap();
        assert_eq!(field_id(schema.field(0)), Some(7));
        assert_eq!(stored_schema(&schema).field(0).name(), "col-1");
        let again: Value = serde_json::from_str(&to_delta(&schema).unwrap()).unwrap();
        assert_eq!(again["fields"][0]["metadata"]["n"], json!([1]));
        assert_eq!(again["fields"][0]["type"], "byte");
    }

    #[test]
    fn an_unknown_type_is_named() {
        let text = r#"{"type":"struct","fields":[{"name":"x","type":"variant","nullable":true,"metadata":{}}]}"#;
        assert_eq!(from_delta(text).unwrap_err(), "type variant");
    }
}
