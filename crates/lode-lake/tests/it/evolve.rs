use std::sync::Arc;

use arrow::array::{Float64Array, Int32Array, Int64Array};
use lode_lake::{DeltaTable, Evolution, Operation, SchemaPolicy, from_stored};

use crate::build::*;

#[tokio::test]
async fn a_column_is_added_and_one_widened_while_old_files_stay() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let before = definition(&[("id", "integer")], &[]);
        let old = batch(vec![("id", Arc::new(Int32Array::from(vec![1, 2])))]);
        commit(&store, &creation(&before, write(&store, &before, &[old])), "create", 1).await;
        let new = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1_i64 << 40]))),
            ("speed", Arc::new(Float64Array::from(vec![1.5]))),
        ]);
        let Evolution::InPlace(after) = before.evolve(&new.schema(), SchemaPolicy::SyncAllColumns).unwrap() else {
            panic!("not in place")
        };
        let mut append = change(0, Operation::Append, write(&store, &after, &[new]));
        append.definition = Some(after.clone());
        commit(&store, &append, "a", 1).await;
        let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(snapshot.definition, after);
        assert_eq!(ids(&store, &snapshot).await, [1, 2, 1 << 40]);
        let stats = snapshot.column_stats("id").unwrap();
        assert_eq!(stats.max.as_ref(), &Int64Array::from(vec![2, 1 << 40]));
        // A column that a file does not have tells nothing.
        assert_eq!(snapshot.column_stats("speed").unwrap().null_count.iter().collect::<Vec<_>>(), [None, Some(0)]);
    }
}

#[tokio::test]
async fn marked_types_come_back_from_the_file() {
    let (_kept, stores) = stores_and_buckets().await;
    for store in stores {
        let columns = [("id", "bigint"), ("u", "uuid"), ("t", "time"), ("j", "json"), ("i", "interval")];
        let definition = definition(&columns, &[]);
        let texts = |text: &str, sql: &str| {
            let array: arrow::array::ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec![Some(text), None]));
            from_stored(&array, &lode_core::sql_type::field("x", sql).unwrap()).unwrap()
        };
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("u", texts("d2c639aa-8816-431a-aaf6-d3fe2512ff61", "uuid")),
            ("t", texts("12:34:56.789", "time")),
            ("j", texts("{\"a\": 1}", "json")),
            ("i", texts("1 day 2 hours", "interval")),
        ]);
        commit(&store, &creation(&definition, write(&store, &definition, std::slice::from_ref(&rows))), "create", 1)
            .await;
        let snapshot = DeltaTable::new(&store, LOCATION).snapshot(None).await.unwrap();
        assert_eq!(snapshot.definition.schema, definition.schema);
        let stored = read(&store, &snapshot.files[0]).await;
        for field in snapshot.schema().fields() {
            let back = from_stored(stored[0].column_by_name(field.name()).unwrap(), field).unwrap();
            assert_eq!(&back, rows.column_by_name(field.name()).unwrap(), "{}", field.name());
        }
    }
}
