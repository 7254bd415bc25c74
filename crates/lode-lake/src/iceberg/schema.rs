//! The Iceberg schema, name mapping and partition spec of a table definition, with the field ids of its data files.
//! Source: Iceberg spec, "Schemas and Data Types", "Column Projection", "Partitioning", Appendix C.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::delta::schema::{field_id, stored_field, stored_type};
use crate::{LakeError, TableDefinition};

/// Partition fields are numbered from here. Source: Iceberg spec, "Partition Specs".
pub(crate) const PARTITION_ID_FIRST: i32 = 1000;
/// The types that a column had before it was widened, as the Delta log keeps them.
const TYPE_CHANGES: &str = "delta.json:delta.typeChanges";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Schema {
    pub(crate) schema_id: i32,
    #[serde(rename = "type")]
    kind: String,
    pub(crate) fields: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) id: i32,
    pub(crate) name: String,
    required: bool,
    /// The name of a primitive type, or the object of a nested one.
    #[serde(rename = "type")]
    pub(crate) data_type: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PartitionSpec {
    pub(crate) spec_id: i32,
    pub(crate) fields: Vec<PartitionField>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PartitionField {
    pub(crate) source_id: i32,
    pub(crate) field_id: i32,
    pub(crate) name: String,
    transform: String,
}

/// A column, or a part of a composite one, that data files may have bounds of.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) id: i32,
    /// Names in the data files, from the top-level column down.
    pub(crate) path: Vec<String>,
    /// As stored.
    pub(crate) data_type: DataType,
}

/// The schema of a table. Its id is 0 until it is compared with those that the metadata has.
/// Errors: `Schema` for a change of type that Iceberg readers do not follow, `Unsupported` for a type.
pub(crate) fn schema_of(definition: &TableDefinition) -> Result<Schema, LakeError> {
    let unsupported = |feature: String| LakeError::Unsupported { table: definition.name.to_string(), feature };
    for field in definition.schema.fields() {
        if let Some(change) = field.metadata().get(TYPE_CHANGES).and_then(|changes| not_promoted(changes)) {
            return Err(LakeError::Schema {
                message: format!(
                    "Iceberg cannot show column \"{}\" of table \"{}\", which was {change}",
                    field.name(),
                    definition.name
                ),
                fix: "write the table anew, or expose it as Delta only".into(),
            });
        }
    }
    let fields: Result<Vec<Column>, String> = definition.schema.fields().iter().map(|field| column(field)).collect();
    Ok(Schema { schema_id: 0, kind: "struct".into(), fields: fields.map_err(unsupported)? })
}

/// The first change of type that Iceberg readers would not follow in files from before it.
/// Source: Iceberg spec, "Schema Evolution".
fn not_promoted(changes: &str) -> Option<String> {
    let changes: Vec<BTreeMap<String, Value>> = serde_json::from_str(changes).ok()?;
    let rank = |name: &str| ["byte", "short", "integer", "long"].iter().position(|known| *known == name);
    changes.iter().find_map(|change| {
        let (from, to) = (change.get("fromType")?.as_str()?, change.get("toType")?.as_str()?);
        let is_promoted = match (rank(from), rank(to), decimal_parts(from), decimal_parts(to)) {
            (Some(from), Some(to), ..) => from <= to,
            (.., Some((p1, s1)), Some((p2, s2))) => p1 <= p2 && s1 == s2,
            _ => (from, to) == ("float", "double") || from == to,
        };
        (!is_promoted).then(|| format!("widened from {from} to {to}"))
    })
}

fn decimal_parts(name: &str) -> Option<(u8, i8)> {
    let (precision, scale) = name.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

fn column(field: &Field) -> Result<Column, String> {
    Ok(Column {
        id: id_of(field)?,
        name: field.name().clone(),
        required: !field.is_nullable(),
        data_type: type_of(field.data_type())?,
    })
}

fn id_of(field: &Field) -> Result<i32, String> {
    field_id(field).ok_or_else(|| format!("field \"{}\" without an id, which Iceberg needs", field.name()))
}

fn type_of(data_type: &DataType) -> Result<Value, String> {
    Ok(match data_type {
        DataType::Struct(fields) => {
            let fields: Result<Vec<Column>, String> = fields.iter().map(|field| column(field)).collect();
            json!({"type": "struct", "fields": fields?})
        }
        DataType::List(element) => json!({
            "type": "list",
            "element-id": id_of(element)?,
            "element-required": !element.is_nullable(),
            "element": type_of(element.data_type())?,
        }),
        DataType::Map(_, _) => {
            let (key, value) = pair_of(data_type).ok_or("a map without key and value")?;
            json!({
                "type": "map",
                "key-id": id_of(key)?,
                "key": type_of(key.data_type())?,
                "value-id": id_of(value)?,
                "value-required": !value.is_nullable(),
                "value": type_of(value.data_type())?,
            })
        }
        primitive => primitive_name(primitive)?.into(),
    })
}

fn pair_of(map: &DataType) -> Option<(&Field, &Field)> {
    let DataType::Map(entries, _) = map else { return None };
    let DataType::Struct(pair) = entries.data_type() else { return None };
    Some((pair.first()?, pair.get(1)?))
}

/// The Iceberg name of what stands in data files. Time, interval and uuid stand there as text.
pub(crate) fn primitive_name(data_type: &DataType) -> Result<String, String> {
    Ok(match stored_type(data_type) {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int".into(),
        DataType::Int64 => "long".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamptz".into(),
        DataType::Utf8View => "string".into(),
        DataType::BinaryView => "binary".into(),
        other => return Err(format!("type {other} in Iceberg")),
    })
}

/// `schema.name-mapping.default`: by it, files that carry no field ids are read, as other writers make them.
pub(crate) fn name_mapping(fields: &Fields) -> Value {
    fields.iter().map(|field| mapped(stored_field(field).name(), field)).collect()
}

fn mapped(name: &str, field: &Field) -> Value {
    let inner = match field.data_type() {
        DataType::Struct(fields) => name_mapping(fields),
        DataType::List(element) => json!([mapped("element", element)]),
        map @ DataType::Map(_, _) => match pair_of(map) {
            Some((key, value)) => json!([mapped("key", key), mapped("value", value)]),
            None => Value::Null,
        },
        _ => Value::Null,
    };
    let mut entry = json!({"field-id": field_id(field), "names": [name]});
    if let (Value::Array(_), Some(entry)) = (&inner, entry.as_object_mut()) {
        entry.insert("fields".into(), inner);
    }
    entry
}

/// Field id to the names in data files that lead to it, of a name mapping.
pub(crate) fn mapped_paths(mapping: &Value) -> BTreeMap<i64, String> {
    let mut paths = BTreeMap::new();
    collect_paths(mapping, "", &mut paths);
    paths
}

fn collect_paths(mapping: &Value, above: &str, paths: &mut BTreeMap<i64, String>) {
    for entry in mapping.as_array().into_iter().flatten() {
        let name = entry.pointer("/names/0").and_then(Value::as_str).unwrap_or_default();
        let path = format!("{above}\0{name}");
        if let Some(inner) = entry.get("fields") {
            collect_paths(inner, &path, paths);
        }
        if let Some(id) = entry.get("field-id").and_then(Value::as_i64) {
            paths.insert(id, path);
        }
    }
}

/// The partition columns, as identity transforms. Ids are 0 until the spec is compared with those of the metadata.
/// Errors: `Unsupported` for a column that cannot partition.
pub(crate) fn spec_of(definition: &TableDefinition) -> Result<PartitionSpec, LakeError> {
    let field = |name: &String| {
        let field = definition.schema.field_with_name(name).ok()?;
        let is_fit = !field.data_type().is_nested() && !matches!(field.data_type(), DataType::BinaryView);
        is_fit.then_some(())?;
        let source_id = field_id(field)?;
        Some(PartitionField { source_id, field_id: 0, name: name.clone(), transform: "identity".into() })
    };
    let fields = definition.partition_by.iter().map(|name| {
        field(name).ok_or_else(|| LakeError::Unsupported {
            table: definition.name.to_string(),
            feature: format!("partitions by column \"{name}\" in Iceberg"),
        })
    });
    Ok(PartitionSpec { spec_id: 0, fields: fields.collect::<Result<_, _>>()? })
}

/// The leaves that Delta statistics speak of: not those below lists and maps.
pub(crate) fn leaves(fields: &Fields) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect_leaves(fields, &[], &mut found);
    found
}

fn collect_leaves(fields: &Fields, above: &[String], found: &mut Vec<Leaf>) {
    for field in fields {
        let path: Vec<String> = above.iter().chain([stored_field(field).name()]).cloned().collect();
        match field.data_type() {
            DataType::Struct(fields) => collect_leaves(fields, &path, found),
            DataType::List(_) | DataType::Map(_, _) => {}
            primitive => {
                found.extend(field_id(field).map(|id| Leaf { id, path, data_type: stored_type(primitive) }));
            }
        }
    }
}

/// What a new schema means for the metadata that was written with an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Columns were added, dropped or renamed, if anything.
    None,
    /// A type was widened: bounds in old manifests are too short.
    Widened,
    /// An id has another type now: the history cannot be read together.
    Broken,
}

/// Compares the types behind equal ids.
pub(crate) fn compare(old: &Schema, new: &Schema) -> Change {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    for (schema, types) in [(old, &mut before), (new, &mut after)] {
        schema.fields.iter().for_each(|column| collect_types(column.id, &column.data_type, types));
    }
    let changes = before.iter().filter_map(|(id, old)| Some((old.as_str(), after.get(id)?.as_str())));
    let change = changes.map(|(old, new)| match (old, new) {
        (old, new) if old == new => Change::None,
        ("int", "long") | ("float", "double") => Change::Widened,
        (old, new) => match (decimal_parts(old), decimal_parts(new)) {
            (Some((p1, s1)), Some((p2, s2))) if p1 <= p2 && s1 == s2 => Change::Widened,
            _ => Change::Broken,
        },
    });
    change.max().unwrap_or(Change::None)
}

fn collect_types(id: i32, data_type: &Value, into: &mut BTreeMap<i32, String>) {
    let kind = data_type.as_str().or_else(|| data_type.get("type")?.as_str()).unwrap_or_default();
    into.insert(id, kind.to_owned());
    for field in data_type.get("fields").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(id), Some(inner)) = (field.get("id").and_then(Value::as_i64), field.get("type")) {
            collect_types(id as i32, inner, into);
        }
    }
    for part in ["element", "key", "value"] {
        let id = data_type.get(format!("{part}-id")).and_then(Value::as_i64);
        if let (Some(id), Some(inner)) = (id, data_type.get(part)) {
            collect_types(id as i32, inner, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lode_core::{TableName, sql_type};

    fn definition(columns: &[(&str, &str)], by: &[&str]) -> TableDefinition {
        let fields: Vec<Field> = columns.iter().map(|(name, sql)| sql_type::field(name, sql).unwrap()).collect();
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        TableDefinition::create(TableName::new("s", "t"), &arrow::datatypes::Schema::new(fields), by).unwrap()
    }

    #[test]
    fn types_have_their_iceberg_names() {
        let columns = [("a", "smallint"), ("b", "numeric(12,2)"), ("c", "uuid"), ("d", "timestamptz"), ("e", "text[]")];
        let schema = schema_of(&definition(&columns, &[])).unwrap();
        let types: Vec<String> = schema.fields.iter().map(|column| column.data_type.to_string()).collect();
        let list = r#"{"type":"list","element-id":6,"element-required":false,"element":"string"}"#;
        assert_eq!(types, ["\"int\"", "\"decimal(12, 2)\"", "\"string\"", "\"timestamptz\"", list]);
    }

    #[test]
    fn the_name_mapping_leads_to_every_id() {
        let definition = definition(&[("a", "struct<b: integer, c: text[]>"), ("d", "text")], &[]);
        let paths = mapped_paths(&name_mapping(definition.schema.fields()));
        assert_eq!(paths.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(paths[&4], "\0a\0c\0element");
    }

    #[test]
    fn a_widened_type_is_told_from_another_one() {
        let schema = |sql: &str| schema_of(&definition(&[("a", sql), ("l", "integer[]")], &[])).unwrap();
        assert_eq!(compare(&schema("integer"), &schema("integer")), Change::None);
        assert_eq!(compare(&schema("integer"), &schema("bigint")), Change::Widened);
        assert_eq!(compare(&schema("numeric(5,2)"), &schema("numeric(9,2)")), Change::Widened);
        assert_eq!(compare(&schema("numeric(5,2)"), &schema("numeric(9,3)")), Change::Broken);
        assert_eq!(compare(&schema("integer"), &schema("text")), Change::Broken);
    }

    #[test]
    fn a_foreign_change_of_type_that_iceberg_lacks_is_found() {
        let change = |from: &str, to: &str| not_promoted(&format!(r#"[{{"fromType":"{from}","toType":"{to}"}}]"#));
        assert_eq!(change("short", "long"), None);
        assert_eq!(change("decimal(5,2)", "decimal(9,2)"), None);
        assert_eq!(change("integer", "double").unwrap(), "widened from integer to double");
        assert!(change("date", "timestamp_ntz").is_some());
    }
}
