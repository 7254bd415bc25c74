use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::DataType;
use lode_lake::DeltaTable;
use serde_json::json;

use crate::build::*;

#[tokio::test]
async fn statistics_are_right_for_hard_values() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let columns = [
            ("id", "bigint"),
            ("f", "double precision"),
            ("g", "double precision"),
            ("s", "text"),
            ("d", "numeric(12,2)"),
            ("e", "numeric(38,9)"),
            ("at", "timestamptz"),
            ("day", "date"),
            ("nothing", "integer"),
        ];
        let definition = definition(&columns, &[]);
        let long = "é".repeat(40);
        let micros = 1_700_000_000_123_456_i64;
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            ("f", Arc::new(Float64Array::from(vec![Some(-1.5), Some(f64::NAN), None]))),
            ("g", Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, 0.0, 1e300]))),
            ("s", Arc::new(StringViewArray::from(vec![Some(long.as_str()), Some("a"), None]))),
            ("d", Arc::new(Decimal128Array::from(vec![-5, 12, 7]).with_precision_and_scale(12, 2).unwrap())),
            (
                "e",
                Arc::new(Decimal128Array::from(vec![-1, 2, 10_i128.pow(37)]).with_precision_and_scale(38, 9).unwrap()),
            ),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, micros]).with_timezone("UTC"))),
            ("day", Arc::new(Date32Array::from(vec![-1, 0, 1]))),
            ("nothing", Arc::new(Int32Array::from(vec![None, None, None]))),
        ]);
        let files = write(&store, &definition, &[rows]);
        let stats = files[0].stats.clone().unwrap();
        assert_eq!(stats.num_records, 3);
        assert_eq!(stats.min_values["id"], json!(i64::MIN));
        assert_eq!(stats.max_values["id"], json!(i64::MAX));
        assert_eq!(stats.min_values["f"], json!(-1.5));
        assert!(!stats.max_values.contains_key("f"), "NaN is the largest");
        assert!(!stats.min_values.contains_key("g"), "infinity is no JSON");
        assert_eq!(stats.max_values["g"].as_f64(), Some(1e300));
        assert_eq!(stats.min_values["s"], json!("a"));
        assert_eq!(stats.max_values["s"], json!(format!("{}ê", "é".repeat(31))));
        assert_eq!(stats.min_values["d"].to_string(), "-0.05");
        assert_eq!(stats.max_values["e"].to_string(), "10000000000000000000000000000.000000000");
        assert_eq!(stats.min_values["at"], json!("1969-12-31T23:59:59.999999Z"));
        assert_eq!(stats.min_values["day"], json!("1969-12-31"));
        assert_eq!(stats.null_count["nothing"], json!(3));
        assert!(!stats.min_values.contains_key("nothing"));

        commit(&store, &creation(&definition, files), "create", 1).await;
        let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        let min = |name: &str| snapshot.column_stats(name).unwrap().min;
        let max = |name: &str| snapshot.column_stats(name).unwrap().max;
        assert_eq!(min("id").as_primitive::<arrow::datatypes::Int64Type>().value(0), i64::MIN);
        assert_eq!(min("d").as_primitive::<arrow::datatypes::Decimal128Type>().value(0), -5);
        assert_eq!(max("e").as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 10_i128.pow(37));
        assert_eq!(min("at").as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0), -1);
        assert_eq!(max("at").as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0), micros);
        assert_eq!(max("day").as_primitive::<arrow::datatypes::Date32Type>().value(0), 1);
        assert!(max("f").is_null(0) && min("nothing").is_null(0));
        // Nobody knows who wrote the maximum, and whether there is a NaN above it.
        assert!(max("g").is_null(0));
        assert_eq!(min("f").as_primitive::<arrow::datatypes::Float64Type>().value(0), -1.5);
        assert_eq!(min("s").data_type(), &DataType::Utf8View);
        assert!(snapshot.column_stats("unknown").is_none());
    }
}

#[tokio::test]
async fn composite_columns_have_statistics_of_their_parts() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let definition = definition(&[("id", "bigint"), ("p", "struct<x: integer, y: text>"), ("l", "integer[]")], &[]);
        let parts = StructArray::try_from(vec![
            ("x", Arc::new(Int32Array::from(vec![Some(3), None])) as ArrayRef),
            ("y", Arc::new(StringViewArray::from(vec!["a", "b"])) as ArrayRef),
        ]);
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None]);
        list.append_null();
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("p", Arc::new(parts.unwrap())),
            ("l", Arc::new(list.finish())),
        ]);
        let stats = write(&store, &definition, &[rows])[0].stats.clone().unwrap();
        assert_eq!(stats.min_values["p"], json!({"x": 3, "y": "a"}));
        assert_eq!(stats.null_count["p"], json!({"x": 1, "y": 0}));
        assert!(!stats.min_values.contains_key("l"));
    }
}
