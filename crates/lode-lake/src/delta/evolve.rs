//! Making the definition of a table, and how it may change when rows of another shape arrive.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use lode_core::sql_type::{self, SQL_TYPE_MARK};
use lode_core::{TableId, TableName};

use super::schema::{canonical, largest_id, with_ids};
use crate::{Evolution, LakeError, SchemaPolicy, TableDefinition};

/// Property that keeps ids of dropped columns from being given again.
const MAX_ID: &str = "lode.maxFieldId";

pub(crate) fn create_definition(
    name: TableName,
    schema: &Schema,
    partition_by: Vec<String>,
) -> Result<TableDefinition, LakeError> {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| canonical_of(&name, field)).collect::<Result<_, _>>()?;
    check_names(&name, &fields)?;
    check_depths(&name, &fields)?;
    check_partitions(&name, &fields, &partition_by)?;
    let mut next = 1;
    let fields = with_ids(&fields.into(), &mut next);
    let properties = BTreeMap::from([(MAX_ID.to_owned(), (next - 1).to_string())]);
    Ok(TableDefinition {
        id: TableId::random(),
        name,
        schema: Arc::new(Schema::new(fields)),
        partition_by,
        properties,
        constraints: Vec::new(),
        comment: None,
    })
}

fn canonical_of(table: &TableName, field: &Field) -> Result<Field, LakeError> {
    canonical(field).map_err(|sql| LakeError::Unsupported {
        table: table.to_string(),
        feature: format!("type {sql} of column \"{}\"", field.name()),
    })
}

fn schema_error(message: String, fix: impl Into<String>) -> LakeError {
    LakeError::Schema { message, fix: fix.into() }
}

/// Columns nested deeper are refused: schemas are walked by calls of calls, here and in every reader.
const DEPTH_MAX: usize = 32;

fn check_depths(table: &TableName, fields: &[Field]) -> Result<(), LakeError> {
    match fields.iter().find(|field| !is_within(field.data_type(), DEPTH_MAX)) {
        None => Ok(()),
        Some(field) => Err(schema_error(
            format!("column \"{}\" of table \"{table}\" is nested deeper than {DEPTH_MAX} levels", field.name()),
            "keep the inner levels as json",
        )),
    }
}

fn is_within(data_type: &DataType, depth: usize) -> bool {
    match data_type {
        DataType::List(element) => depth > 0 && is_within(element.data_type(), depth - 1),
        DataType::Struct(fields) => depth > 0 && fields.iter().all(|field| is_within(field.data_type(), depth - 1)),
        _ => true,
    }
}

fn check_names(table: &TableName, fields: &[Field]) -> Result<(), LakeError> {
    if fields.is_empty() {
        return Err(schema_error(format!("table \"{table}\" would have no columns"), "select at least one column"));
    }
    let mut seen = HashSet::new();
    for field in fields {
        if field.name().is_empty() {
            return Err(schema_error(format!("table \"{table}\" has a column without a name"), "name it with AS"));
        }
        // Delta and Iceberg readers fold case.
        if !seen.insert(field.name().to_lowercase()) {
            let message = format!("table \"{table}\" has two columns \"{}\"", field.name());
            return Err(schema_error(
                message,
                "rename one of them with AS; names that differ only in case count as equal",
            ));
        }
    }
    Ok(())
}

fn check_partitions(table: &TableName, fields: &[Field], partition_by: &[String]) -> Result<(), LakeError> {
    let mut seen = HashSet::new();
    for name in partition_by {
        let Some(field) = fields.iter().find(|field| field.name() == name) else {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            let message = format!("table \"{table}\" has no column \"{name}\" to partition by");
            let fix = match lode_core::nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("choose among {}", names.join(", ")),
            };
            return Err(schema_error(message, fix));
        };
        if field.data_type().is_nested() || matches!(field.data_type(), DataType::BinaryView) {
            let message = format!("column \"{name}\" of type {} cannot partition a table", sql_type::name_of(field));
            return Err(schema_error(message, "partition by a column of text, numbers, dates or booleans"));
        }
        if !seen.insert(name) {
            let message = format!("table \"{table}\" is partitioned by \"{name}\" twice");
            return Err(schema_error(message, "name each column once"));
        }
    }
    if !partition_by.is_empty() && partition_by.len() == fields.len() {
        let message = format!("table \"{table}\" would have no columns but those of its partitions");
        return Err(schema_error(message, "partition by fewer columns"));
    }
    Ok(())
}

pub(crate) fn evolve(table: &TableDefinition, incoming: &Schema, policy: SchemaPolicy) -> Result<Evolution, LakeError> {
    // NULL without a type fits every column.
    let typed = |field: &Field| match table.schema.field_with_name(field.name()) {
        Ok(column) if field.data_type() == &DataType::Null => Ok(column.clone()),
        _ => canonical_of(&table.name, field),
    };
    let incoming: Vec<Field> = incoming.fields().iter().map(|field| typed(field)).collect::<Result<_, _>>()?;
    check_names(&table.name, &incoming)?;
    let change = compare(table, &incoming, policy)?;
    if change.added.is_empty() && change.changed.is_empty() && change.dropped.is_empty() {
        return Ok(Evolution::Same);
    }
    check_depths(&table.name, &incoming)?;
    let needs_rewrite = !change.dropped.is_empty() || change.changed.iter().any(|(_, _, in_place)| !in_place);
    if let Some(name) = table
        .partition_by
        .iter()
        .find(|name| change.dropped.contains(name) || change.changed.iter().any(|(changed, _, _)| changed == *name))
    {
        let message = format!("partition column \"{name}\" of table \"{}\" cannot change", table.name);
        return Err(schema_error(message, "build the table anew with another partitioning"));
    }
    let definition = changed_definition(table, change);
    Ok(if needs_rewrite { Evolution::Rewrite(definition) } else { Evolution::InPlace(definition) })
}

#[derive(Default)]
struct Change {
    added: Vec<Field>,
    dropped: Vec<String>,
    /// Column, its new field, whether old files may stay.
    changed: Vec<(String, Field, bool)>,
}

fn compare(table: &TableDefinition, incoming: &[Field], policy: SchemaPolicy) -> Result<Change, LakeError> {
    let mut change = Change::default();
    let refuse = |what: String| {
        let fix =
            "set `on_schema_change` to append_new_columns or sync_all_columns, or select the columns of the table";
        Err(schema_error(what, fix))
    };
    for field in incoming {
        let name = field.name();
        let Ok(column) = table.schema.field_with_name(name) else {
            if let Some(near) = table.schema.fields().iter().find(|known| known.name().eq_ignore_ascii_case(name)) {
                let message = format!(
                    "column \"{name}\" differs from column \"{}\" of table \"{}\" only in case",
                    near.name(),
                    table.name
                );
                return Err(schema_error(message, format!("rename it with AS \"{}\"", near.name())));
            }
            match policy {
                SchemaPolicy::Ignore => {}
                SchemaPolicy::Fail => return refuse(format!("column \"{name}\" is not in table \"{}\"", table.name)),
                // Rows that are there already have no value for it.
                _ => change.added.push(field.clone().with_nullable(true)),
            }
            continue;
        };
        if fits(field, column) {
            continue;
        }
        let (from, to) = (sql_type::name_of(column), sql_type::name_of(field));
        let message = format!("column \"{name}\" of table \"{}\" changed from {from} to {to}", table.name);
        if policy != SchemaPolicy::SyncAllColumns {
            let fix = format!("cast it to {from}, or set `on_schema_change: sync_all_columns`");
            return Err(schema_error(message, fix));
        }
        change.changed.push((name.clone(), field.clone(), widens_in_place(column.data_type(), field.data_type())));
    }
    for column in table.schema.fields() {
        let name = column.name();
        if incoming.iter().any(|field| field.name() == name) {
            continue;
        }
        match policy {
            SchemaPolicy::Fail => {
                return refuse(format!("column \"{name}\" of table \"{}\" is missing in the rows", table.name));
            }
            SchemaPolicy::SyncAllColumns => change.dropped.push(name.clone()),
            _ if !column.is_nullable() => {
                let message =
                    format!("column \"{name}\" of table \"{}\" is missing in the rows and NOT NULL", table.name);
                return Err(schema_error(message, "select a value for it"));
            }
            _ => {}
        }
    }
    Ok(change)
}

/// Whether every value of `field` has its place in `column` as it is, so that the writer may cast.
fn fits(field: &Field, column: &Field) -> bool {
    let mark = |field: &Field| field.metadata().get(SQL_TYPE_MARK).cloned();
    match (field.data_type(), column.data_type()) {
        // Plain text goes into marked text (json, varchar(n)) as text; its content is the engine's to check.
        (DataType::Utf8View, DataType::Utf8View) => {
            mark(field).is_none() || mark(field) == mark(column) || mark(column).is_none()
        }
        (from, to) => crate::convert::fits_type(from, to),
    }
}

/// Old files keep the narrower type: deltalake, polars and DuckDB cast it when they read (checked).
fn widens_in_place(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64};
    matches!((from, to), (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) | (Float32, Float64))
}

fn changed_definition(table: &TableDefinition, change: Change) -> TableDefinition {
    let mut fields: Vec<Field> = Vec::new();
    for column in table.schema.fields() {
        if change.dropped.contains(column.name()) {
            continue;
        }
        match change.changed.iter().find(|(name, _, _)| name == column.name()) {
            Some((_, field, true)) => {
                fields.push(column.as_ref().clone().with_data_type(field.data_type().clone()));
            }
            // A column of another type is another column: new id.
            Some((_, field, false)) => fields.push(field.clone().with_nullable(column.is_nullable())),
            None => fields.push(column.as_ref().clone()),
        }
    }
    fields.extend(change.added);
    let known = table.properties.get(MAX_ID).and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    let mut next = known.max(largest_id(table.schema.fields())) + 1;
    let fields: Fields = with_ids(&fields.into(), &mut next);
    let mut definition = table.clone();
    definition.schema = Arc::new(Schema::new(fields));
    definition.properties.insert(MAX_ID.to_owned(), (next - 1).to_string());
    definition
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::schema::field_id;

    fn schema_of(columns: &[(&str, &str)]) -> Schema {
        Schema::new(columns.iter().map(|(name, sql)| sql_type::field(name, sql).unwrap()).collect::<Vec<_>>())
    }

    fn table(columns: &[(&str, &str)]) -> TableDefinition {
        create_definition(TableName::new("bronze", "t"), &schema_of(columns), Vec::new()).unwrap()
    }

    fn message(error: LakeError) -> String {
        match error {
            LakeError::Schema { message, fix } => format!("{message}; {fix}"),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn same_and_narrower_rows_leave_the_table_as_it_is() {
        let table = table(&[("a", "bigint"), ("b", "numeric(12,2)"), ("c", "double precision")]);
        let rows = schema_of(&[("c", "real"), ("a", "smallint"), ("b", "numeric(9,2)")]);
        for policy in [SchemaPolicy::Ignore, SchemaPolicy::Fail, SchemaPolicy::SyncAllColumns] {
            assert_eq!(table.evolve(&rows, policy).unwrap(), Evolution::Same);
        }
    }

    #[test]
    fn a_new_column_is_added_at_the_end_with_a_fresh_id() {
        let table = table(&[("a", "bigint")]);
        let rows = schema_of(&[("n", "text"), ("a", "bigint")]);
        let Evolution::InPlace(changed) = table.evolve(&rows, SchemaPolicy::AppendNewColumns).unwrap() else {
            panic!()
        };
        assert_eq!(changed.schema.field(1).name(), "n");
        assert_eq!(field_id(changed.schema.field(1)), Some(2));
        assert_eq!(table.evolve(&rows, SchemaPolicy::Ignore).unwrap(), Evolution::Same);
        let error = message(table.evolve(&rows, SchemaPolicy::Fail).unwrap_err());
        assert!(error.starts_with("column \"n\" is not in table \"bronze.t\""), "{error}");
    }

    #[test]
    fn integers_and_floats_widen_in_place_and_all_else_is_rewritten() {
        let table = table(&[("a", "integer"), ("b", "real"), ("c", "integer")]);
        let wider = schema_of(&[("a", "bigint"), ("b", "double precision"), ("c", "integer")]);
        let Evolution::InPlace(changed) = table.evolve(&wider, SchemaPolicy::SyncAllColumns).unwrap() else { panic!() };
        assert_eq!(field_id(changed.schema.field(0)), Some(1));
        let text = schema_of(&[("a", "integer"), ("b", "real"), ("c", "text")]);
        let Evolution::Rewrite(changed) = table.evolve(&text, SchemaPolicy::SyncAllColumns).unwrap() else { panic!() };
        assert_eq!(field_id(changed.schema.field(2)), Some(4), "a column of another type is another column");
        let error = message(table.evolve(&text, SchemaPolicy::AppendNewColumns).unwrap_err());
        let wanted = "column \"c\" of table \"bronze.t\" changed from integer to text; cast it to integer, or set `on_schema_change: sync_all_columns`";
        assert_eq!(error, wanted);
    }

    #[test]
    fn ids_of_dropped_columns_are_not_given_again() {
        let table = table(&[("a", "integer"), ("b", "text")]);
        let Evolution::Rewrite(less) =
            table.evolve(&schema_of(&[("a", "integer")]), SchemaPolicy::SyncAllColumns).unwrap()
        else {
            panic!()
        };
        let rows = schema_of(&[("a", "integer"), ("c", "text")]);
        let Evolution::InPlace(more) = less.evolve(&rows, SchemaPolicy::SyncAllColumns).unwrap() else { panic!() };
        assert_eq!(field_id(more.schema.field(1)), Some(3));
    }

    #[test]
    fn names_and_partitions_are_checked() {
        let create = |columns: &[(&str, &str)], by: &[&str]| {
            let by = by.iter().map(|name| (*name).to_owned()).collect();
            message(create_definition(TableName::new("s", "t"), &schema_of(columns), by).unwrap_err())
        };
        assert!(create(&[("a", "text"), ("A", "text")], &[]).contains("two columns \"A\""));
        assert!(create(&[("", "text")], &[]).contains("without a name"));
        assert!(create(&[("region", "text"), ("x", "text")], &["regoin"]).contains("did you mean \"region\"?"));
        assert!(create(&[("a", "text[]"), ("x", "text")], &["a"]).contains("cannot partition"));
    }

    #[test]
    fn a_column_nested_too_deep_is_refused() {
        let of = |depth: usize| {
            let list = |inner, _| DataType::List(Arc::new(Field::new("element", inner, true)));
            let schema = Schema::new(vec![Field::new("l", (0..depth).fold(DataType::Int64, list), true)]);
            create_definition(TableName::new("bronze", "t"), &schema, Vec::new())
        };
        assert!(of(32).is_ok());
        let error = message(of(33).unwrap_err());
        assert!(error.starts_with("column \"l\" of table \"bronze.t\" is nested deeper than 32 levels"), "{error}");
    }
}
