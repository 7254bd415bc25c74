use std::sync::Arc;

use arrow::array::*;
use lode_lake::{Exposure, LakeError, StorePath, expose};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use serde_json::{Value, json};

use super::{check, exposed, metadata, summary};
use crate::build::*;

#[tokio::test(flavor = "multi_thread")]
async fn foreign_files_without_ids_and_statistics_are_read() {
    let (_folder, stores) = stores();
    for store in stores {
        let (_, definition) = table_of(&store, &[1, 2]).await;
        // Columns in another order, no field ids, no statistics.
        let columns = rows(&[7, 8, 9]);
        let swapped = columns.project(&[1, 0]).unwrap();
        let mut bytes = Vec::new();
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(&mut bytes, swapped.schema(), options).unwrap();
        writer.write(&swapped).unwrap();
        writer.close().unwrap();
        let size = bytes.len();
        store.put(&StorePath::from(format!("{LOCATION}/foreign file.parquet")), bytes.into()).await.unwrap();
        let add = json!({"path": "foreign%20file.parquet", "partitionValues": {}, "size": size, "modificationTime": 1, "dataChange": true});
        foreign(&store, 1, &[json!({"add": add.clone()})]).await;
        let newest = exposed(&store).await;
        assert_eq!(summary(&metadata(&store, &newest).await)["total-records"], "5");
        check(&store, &newest, &[rows(&[1, 2]), columns], &["id = 8", "name = 'n9'"]);
        append(&store, &definition, 1, &[3], "a").await;
        let newest = exposed(&store).await;
        check(&store, &newest, &[rows(&[1, 2, 3, 7, 8, 9])], &["id > 2"]);

        // A file that cannot be read is no reason to give up the history.
        let mut lost = add.clone();
        lost["path"] = json!("lost.parquet");
        foreign(&store, 3, &[json!({"add": lost})]).await;
        let error = expose(&store, LOCATION, None).await.unwrap_err();
        assert!(matches!(&error, LakeError::NotFound { path } if path.ends_with("lost.parquet")), "{error}");
        let bytes = store.get(&StorePath::from(format!("{LOCATION}/foreign file.parquet"))).await.unwrap();
        store.put(&StorePath::from(format!("{LOCATION}/lost.parquet")), bytes).await.unwrap();
        let last = exposed(&store).await;
        assert_eq!((last.outcome, last.table_uuid), (Exposure::Added, newest.table_uuid));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_foreign_tables_that_change_places_break_no_history() {
    let (_folder, stores) = stores();
    for store in stores {
        let schema = |names: &[&str]| {
            let fields: Vec<Value> = names
                .iter()
                .map(|name| json!({"name": name, "type": if *name == "id" { "long" } else { "string" }, "nullable": true, "metadata": {}}))
                .collect();
            json!({"metaData": {
                "id": "6b1d7a7e-0a4e-4a5c-9d0f-0a5a3a3f3b11", "format": {"provider": "parquet", "options": {}},
                "schemaString": json!({"type": "struct", "fields": fields}).to_string(),
                "partitionColumns": [], "configuration": {},
            }})
        };
        let add = |file: &lode_lake::DataFile| json!({"add": {"path": file.path, "partitionValues": {}, "size": file.size_bytes, "modificationTime": 1, "dataChange": true}});
        let file = write(&store, &events(), &[rows(&[1])]).remove(0);
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}});
        foreign(&store, 0, &[protocol, schema(&["id", "name"]), add(&file)]).await;
        let first = exposed(&store).await;
        // Ids that the log does not keep are counted anew: 1 is another column now.
        foreign(&store, 1, &[schema(&["extra", "id", "name"])]).await;
        let second = exposed(&store).await;
        assert_eq!(second.outcome, Exposure::Rebuilt);
        assert_ne!(second.table_uuid, first.table_uuid);
        let read = metadata(&store, &second).await;
        assert_eq!(read["snapshots"].as_array().unwrap().len(), 1);
        assert_eq!(read["schemas"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_columns_of_foreign_tables_are_found_in_their_files() {
    let (_folder, stores) = stores();
    for store in stores {
        let meta = |names: [&str; 2]| {
            let field = |name: &str, data_type: &str, id: i32| {
                let metadata =
                    json!({"delta.columnMapping.id": id, "delta.columnMapping.physicalName": format!("col-{id}")});
                json!({"name": name, "type": data_type, "nullable": true, "metadata": metadata})
            };
            let fields = [field(names[0], "long", 1), field(names[1], "string", 2)];
            json!({"metaData": {
                "id": "6b1d7a7e-0a4e-4a5c-9d0f-0a5a3a3f3b11", "format": {"provider": "parquet", "options": {}},
                "schemaString": json!({"type": "struct", "fields": fields}).to_string(), "partitionColumns": [names[1]],
                "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "2"},
            }})
        };
        let ids = batch(vec![("col-1", Arc::new(Int64Array::from(vec![1, 2])))]);
        let mut bytes = Vec::new();
        let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(&mut bytes, ids.schema(), options).unwrap();
        writer.write(&ids).unwrap();
        writer.close().unwrap();
        let stats =
            json!({"numRecords": 2, "minValues": {"col-1": 1}, "maxValues": {"col-1": 2}, "nullCount": {"col-1": 0}});
        let add = json!({"add": {
            "path": "f.parquet", "partitionValues": {"col-2": "x"}, "size": bytes.len(), "modificationTime": 1,
            "dataChange": true, "stats": stats.to_string(),
        }});
        store.put(&StorePath::from(format!("{LOCATION}/f.parquet")), bytes.into()).await.unwrap();
        let protocol = json!({"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}});
        foreign(&store, 0, &[protocol, meta(["id", "name"]), add]).await;
        let expected = |names: [&str; 2]| {
            let texts = Arc::new(StringViewArray::from(vec!["x", "x"]));
            batch(vec![(names[0], Arc::new(Int64Array::from(vec![1, 2]))), (names[1], texts)])
        };
        check(&store, &exposed(&store).await, &[expected(["id", "name"])], &["id = 2", "name = 'x'"]);
        foreign(&store, 1, &[meta(["number", "kind"])]).await;
        let second = exposed(&store).await;
        assert_eq!(second.outcome, Exposure::Added);
        check(&store, &second, &[expected(["number", "kind"])], &["number > 1", "kind = 'y'"]);
    }
}
