use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields};
use lode_core::TableName;
use lode_lake::{Evolution, Exposure, Operation, SchemaPolicy, Store, TableDefinition, expose};
use serde_json::{Value, json};

use super::{check, exposed, metadata, summary};
use crate::build::*;

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_and_widened() {
    let (_folder, stores) = stores();
    for store in stores {
        let before = definition(&[("id", "integer"), ("f", "real")], &[]);
        let old = batch(vec![
            ("id", Arc::new(Int32Array::from(vec![1, 2]))),
            ("f", Arc::new(Float32Array::from(vec![0.5, 1.5]))),
        ]);
        commit(&store, &creation(&before, write(&store, &before, &[old])), "create", 1).await;
        exposed(&store).await;
        let new = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
            ("f", Arc::new(Float64Array::from(vec![2.5]))),
            ("speed", Arc::new(StringViewArray::from(vec!["fast"]))),
        ]);
        let Evolution::InPlace(after) = before.evolve(&new.schema(), SchemaPolicy::SyncAllColumns).unwrap() else {
            panic!("not in place")
        };
        let mut append = change(0, Operation::Append, write(&store, &after, std::slice::from_ref(&new)));
        append.definition = Some(after.clone());
        commit(&store, &append, "a", 1).await;
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::Added);
        let widened = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("f", Arc::new(Float64Array::from(vec![0.5, 1.5]))),
            ("speed", Arc::new(StringViewArray::from(vec![None::<&str>, None]))),
        ]);
        let conditions =
            ["id = 2", "id > 5", "id > 1099511627775", "f < 1.0", "f > 1.0", "speed is null", "speed = 'fast'"];
        check(&store, &newest, &[widened, new], &conditions);
        let read = metadata(&store, &newest).await;
        assert_eq!(read["current-schema-id"], 1);
        assert_eq!(read["schemas"][0]["fields"][0]["type"], "int");
        assert_eq!(read["schemas"][1]["fields"][0], json!({"id": 1, "name": "id", "required": false, "type": "long"}));
        assert_eq!(read["schemas"][1]["fields"][2]["id"], 3);
        assert_eq!((&read["snapshots"][0]["schema-id"], &read["snapshots"][1]["schema-id"]), (&json!(0), &json!(1)));
        assert_eq!(read["last-column-id"], 3);
        let mapping: Value =
            serde_json::from_str(read["properties"]["schema.name-mapping.default"].as_str().unwrap()).unwrap();
        assert_eq!(mapping[2], json!({"field-id": 3, "names": ["speed"]}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_column_is_widened() {
    let (_folder, stores) = stores();
    for store in stores {
        let before = definition(&[("id", "integer"), ("n", "integer"), ("name", "text")], &["id"]);
        let of = |id: ArrayRef, names: Vec<&str>| {
            let n = Int32Array::from((0..names.len() as i32).collect::<Vec<_>>());
            batch(vec![("id", id), ("n", Arc::new(n)), ("name", Arc::new(StringViewArray::from(names)))])
        };
        let old = of(Arc::new(Int32Array::from(vec![1, 2])), vec!["a", "b"]);
        commit(&store, &creation(&before, write(&store, &before, &[old])), "create", 1).await;
        exposed(&store).await;
        let new = of(Arc::new(Int64Array::from(vec![1_i64 << 40])), vec!["c"]);
        // As another writer may do it.
        let mut fields: Vec<Field> = before.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields[0] = fields[0].clone().with_data_type(DataType::Int64);
        let after = TableDefinition { schema: Arc::new(arrow::datatypes::Schema::new(fields)), ..before };
        let mut append = change(0, Operation::Append, write(&store, &after, std::slice::from_ref(&new)));
        append.definition = Some(after.clone());
        commit(&store, &append, "a", 1).await;
        let newest = exposed(&store).await;
        assert_eq!(newest.outcome, Exposure::Added);
        let widened = of(Arc::new(Int64Array::from(vec![1, 2])), vec!["a", "b"]);
        check(&store, &newest, &[widened, new], &["id = 2", "id > 5", "id < 2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read_back() {
    let (_folder, stores) = stores();
    for store in stores {
        let columns = [
            ("id", "bigint"),
            ("small", "smallint"),
            ("num", "integer"),
            ("r", "real"),
            ("d", "double precision"),
            ("dec", "numeric(12,2)"),
            ("big", "numeric(38,9)"),
            ("s", "text"),
            ("v", "varchar(50)"),
            ("b", "bytea"),
            ("yes", "boolean"),
            ("day", "date"),
            ("at", "timestamp"),
            ("atz", "timestamptz"),
            ("t", "time"),
            ("u", "uuid"),
            ("j", "json"),
            ("l", "integer[]"),
            ("p", "struct<x: integer, y: text>"),
        ];
        let definition = definition(&columns, &[]);
        let decimal = |values: Vec<Option<i128>>, precision, scale| {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
        };
        let texts = |values: [Option<&str>; 3]| Arc::new(StringViewArray::from(values.to_vec())) as ArrayRef;
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None]);
        list.append_null();
        list.append_value([]);
        let parts: ArrayRef = Arc::new(StructArray::new(
            Fields::from(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8View, true)]),
            vec![Arc::new(Int32Array::from(vec![Some(7), None, Some(-7)])), texts([Some("a"), None, Some("b")])],
            Some(vec![true, false, true].into()),
        ));
        let long = "é".repeat(45);
        let rows: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            ("small", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
            ("num", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
            ("r", Arc::new(Float32Array::from(vec![Some(-1.5), None, Some(f32::INFINITY)]))),
            ("d", Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(0.0)]))),
            ("dec", decimal(vec![Some(-123_456), None, Some(99)], 12, 2)),
            ("big", decimal(vec![Some(-1), None, Some(10_i128.pow(37))], 38, 9)),
            ("s", texts([Some(""), None, Some(long.as_str())])),
            ("v", texts([Some("a\nb"), None, Some("ü")])),
            ("b", Arc::new(BinaryViewArray::from(vec![Some(&b"\0\xff"[..]), None, Some(&b""[..])]))),
            ("yes", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("day", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(20_000)]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]))),
            (
                "atz",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)])
                        .with_timezone("UTC"),
                ),
            ),
            ("t", texts([Some("12:34:56.789000"), None, Some("00:00:00")])),
            (
                "u",
                texts([
                    Some("d2c639aa-8816-431a-aaf6-d3fe2512ff61"),
                    None,
                    Some("00000000-0000-0000-0000-000000000000"),
                ]),
            ),
            ("j", texts([Some("{\"a\": 1}"), None, Some("[]")])),
            ("l", Arc::new(list.finish())),
            ("p", parts),
        ];
        let rows = batch(rows);
        let files = write(&store, &definition, std::slice::from_ref(&rows));
        commit(&store, &creation(&definition, files), "create", 1).await;
        let newest = exposed(&store).await;
        let conditions = [
            "id = -9223372036854775808",
            "num > 0",
            "r > 0",
            "d < 1",
            "\"dec\" < 0",
            "dec > 0.98",
            "big > 1000",
            "s > 'éé'",
            "day < '1970-01-01'",
            "yes = true",
            "t > '05:00:00'",
            "id is null",
        ];
        check(&store, &newest, &[rows], &conditions);
        let read = metadata(&store, &newest).await;
        let types: Vec<&Value> =
            read["schemas"][0]["fields"].as_array().unwrap().iter().map(|field| &field["type"]).collect();
        assert_eq!(types[13..17], ["timestamptz", "string", "string", "string"]);
        assert_eq!(types[18]["fields"][1], json!({"id": 22, "name": "y", "required": false, "type": "string"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_have_typed_values() {
    let (_folder, stores) = stores();
    for store in stores {
        let columns = [
            ("id", "bigint"),
            ("region name", "text"),
            ("day", "date"),
            ("n", "integer"),
            ("dec", "numeric(12,2)"),
            ("yes", "boolean"),
            ("at", "timestamp"),
            ("u", "uuid"),
        ];
        let by = ["region name", "day", "n", "dec", "yes", "at", "u"];
        let definition = definition(&columns, &by);
        let odd = ["a/b=c d", "ü%41 'x'", "#?&+", "..", "{[*]}"];
        let rows_of = |from: i64, names: &[&str]| {
            let count = names.len() + 1;
            let names: Vec<Option<&str>> = names.iter().map(|name| Some(*name)).chain([None]).collect();
            let numbers: Vec<Option<i32>> = (0..count as i32).map(|n| (n > 0).then_some(-n)).collect();
            let decimals: Vec<Option<i128>> = (0..count as i128).map(|n| (n > 0).then_some(n * -1_234)).collect();
            let id = Some("d2c639aa-8816-431a-aaf6-d3fe2512ff61");
            batch(vec![
                ("id", Arc::new(Int64Array::from_iter_values(from..from + count as i64))),
                ("region name", Arc::new(StringViewArray::from(names))),
                ("day", Arc::new(Date32Array::from(numbers.clone()))),
                ("n", Arc::new(Int32Array::from(numbers.clone()))),
                ("dec", Arc::new(Decimal128Array::from(decimals).with_precision_and_scale(12, 2).unwrap())),
                (
                    "yes",
                    Arc::new(BooleanArray::from(numbers.iter().map(|n| n.map(|n| n % 2 == 0)).collect::<Vec<_>>())),
                ),
                (
                    "at",
                    Arc::new(TimestampMicrosecondArray::from(
                        numbers.iter().map(|n| n.map(|n| i64::from(n) * 1_000_001)).collect::<Vec<_>>(),
                    )),
                ),
                ("u", Arc::new(StringViewArray::from(vec![id; count]))),
            ])
        };
        let first = rows_of(0, &odd);
        commit(&store, &creation(&definition, write(&store, &definition, std::slice::from_ref(&first))), "create", 1)
            .await;
        let newest = exposed(&store).await;
        let read = metadata(&store, &newest).await;
        let field = json!({"source-id": 2, "field-id": 1000, "name": "region name", "transform": "identity"});
        assert_eq!(read["partition-specs"][0]["fields"][0], field);
        assert_eq!(read["last-partition-id"], 1006);
        let conditions = ["day < '1969-12-30'", "n = -2", "n is null", "dec < -20", "yes = true", "id < 3"];
        check(&store, &newest, std::slice::from_ref(&first), &conditions);

        // The partitions of "a/b=c d" and NULL are replaced.
        let second = rows_of(100, &odd[..1]).slice(0, 1);
        let files = write(&store, &definition, std::slice::from_ref(&second));
        commit(&store, &change(0, Operation::ReplacePartitions, files), "a", 1).await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[first.slice(1, odd.len()), second], &["n is null", "id >= 100"]);
        assert_eq!(summary(&metadata(&store, &newest).await)["deleted-data-files"], "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_and_required_columns_are_read_back() {
    let (_folder, stores) = stores();
    for store in stores {
        let pair = Fields::from(vec![
            Field::new("key", DataType::Utf8View, false),
            Field::new("value", DataType::Int64, true),
        ]);
        let map = DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(pair.clone()), false)), false);
        let inner = DataType::Struct(Fields::from(vec![
            Field::new("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8View, true))), true),
            Field::new("n", DataType::Int64, false),
        ]));
        let deep = DataType::List(Arc::new(Field::new("element", inner.clone(), true)));
        let schema = arrow::datatypes::Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("m", map.clone(), true),
            Field::new("deep", deep.clone(), true),
        ]);
        let definition = TableDefinition::create(TableName::new("bronze", "events"), &schema, Vec::new()).unwrap();
        let text = [
            r#"{"id": 1, "m": {"a": 1, "b": null}, "deep": [{"tags": ["x", null], "n": 1}, null]}"#,
            // No NULL in place of the list: pyiceberg 0.12.0 makes an empty list of structs of it.
            r#"{"id": 2, "m": null, "deep": [{"tags": null, "n": 2}]}"#,
            r#"{"id": 3, "m": {}, "deep": []}"#,
        ];
        let mut decoder = arrow::json::ReaderBuilder::new(Arc::new(schema)).build_decoder().unwrap();
        decoder.decode(text.join("\n").as_bytes()).unwrap();
        let rows = decoder.flush().unwrap().unwrap();
        commit(&store, &creation(&definition, write(&store, &definition, std::slice::from_ref(&rows))), "create", 1)
            .await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[rows], &["id > 1", "id >= 1"]);
        let read = metadata(&store, &newest).await;
        let fields = read["schemas"][0]["fields"].as_array().unwrap();
        assert_eq!(fields[0]["required"], true);
        assert_eq!(fields[1]["type"]["key-id"], 3);
        assert_eq!(fields[2]["type"]["element"]["fields"][0]["type"]["element-id"], 8);
        assert_eq!(read["last-column-id"], 9);
    }
}

#[tokio::test]
async fn a_change_of_type_that_iceberg_lacks_is_refused() {
    let store = Store::memory();
    table_of(&store, &[1]).await;
    let line = log_line(&store, 0, "metaData").await.unwrap();
    let mut schema: Value = serde_json::from_str(line["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"][0]["metadata"]["delta.typeChanges"] = json!([{"fromType": "integer", "toType": "double"}]);
    schema["fields"][0]["type"] = json!("double");
    let mut changed = line.clone();
    changed["schemaString"] = schema.to_string().into();
    let protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["typeWidening"], "writerFeatures": ["typeWidening"]});
    foreign(&store, 1, &[json!({"protocol": protocol}), json!({"metaData": changed})]).await;
    let error = expose(&store, LOCATION, None).await.unwrap_err();
    let wanted =
        "Iceberg cannot show column \"id\" of table \"bronze.events\", which was widened from integer to double";
    assert_eq!(error.to_string(), wanted);
}
