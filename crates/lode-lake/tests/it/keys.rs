//! The key index against a simple model: whatever happens to files and runs, no row of a wanted key is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use lode_core::{AttemptId, KEY, SnapshotId, TableName};
use lode_lake::{
    DataFile, DeadRows, DeltaTable, KeyEncoder, KeyIndex, Operation, Snapshot, Store, StorePath, TableChange,
    TableDefinition, TableWriter, Txn, WriterOptions, apply, merge_runs,
};

const LOCATION: &str = "silver/t";

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

struct World {
    store: Store,
    definition: TableDefinition,
    version: i64,
    txn: i64,
    /// Keys by file and position, in the words of the model.
    rows: BTreeMap<(String, u64), Option<i64>>,
}

impl World {
    fn new(text_keys: bool) -> Self {
        let key = Field::new("k", if text_keys { DataType::Utf8View } else { DataType::Int64 }, true);
        let schema = Schema::new(vec![key, Field::new("v", DataType::Int64, true)]);
        let name = TableName::new("silver", "t");
        let mut definition = TableDefinition::create(name, &schema, Vec::new()).unwrap();
        definition.properties.insert(KEY.to_owned(), r#"["k"]"#.to_owned());
        Self { store: Store::memory(), definition, version: -1, txn: 0, rows: BTreeMap::new() }
    }

    fn batch(&self, keys: &[Option<i64>]) -> RecordBatch {
        let key: ArrayRef = match self.definition.schema.field(0).data_type() {
            DataType::Int64 => Arc::new(Int64Array::from(keys.to_vec())),
            _ => Arc::new(keys.iter().map(|key| key.map(|key| format!("key {key}"))).collect::<StringArray>()),
        };
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        RecordBatch::try_from_iter_with_nullable([("k", key, true), ("v", values, true)]).unwrap()
    }

    fn encoder(&self) -> KeyEncoder {
        KeyEncoder::of_table(&self.definition).unwrap()
    }

    /// Writes files of some rows each; `foreign` ones have no runs.
    fn write(&mut self, keys: &[Option<i64>], file_rows: usize, foreign: bool) -> Vec<DataFile> {
        let mut definition = self.definition.clone();
        if foreign {
            definition.properties.remove(KEY);
        }
        let mut files = Vec::new();
        for keys in keys.chunks(file_rows) {
            let attempt = AttemptId::random();
            let options = WriterOptions::default();
            let mut writer = TableWriter::new(&self.store, LOCATION, &definition, attempt, options);
            for part in keys.chunks(7) {
                writer.write(&self.batch(part)).unwrap();
            }
            let written = writer.finish().unwrap();
            for (position, key) in keys.iter().enumerate() {
                self.rows.insert((written[0].path.clone(), position as u64), *key);
            }
            files.extend(written);
        }
        files
    }

    async fn commit(&mut self, operation: Operation, add: Vec<DataFile>, remove: Vec<String>, dead: Vec<DeadRows>) {
        self.txn += 1;
        for path in &remove {
            self.rows.retain(|(file, _), _| file != path);
        }
        for dead in &dead {
            self.rows.retain(|(file, position), _| *file != dead.path || !dead.rows.contains(*position));
        }
        let change = TableChange {
            table: self.definition.name.clone(),
            location: LOCATION.to_owned(),
            base: SnapshotId(self.version),
            operation: if self.version < 0 { Operation::Append } else { operation },
            definition: (self.version < 0).then(|| self.definition.clone()),
            add,
            remove,
            dead,
            label: "WRITE".to_owned(),
        };
        let txn = Txn { app_id: "test".to_owned(), version: self.txn };
        apply(&self.store, &change, &txn, &|| Ok(())).await.unwrap();
        self.version += 1;
    }

    async fn snapshot(&self) -> Arc<Snapshot> {
        DeltaTable::new(&self.store, LOCATION).snapshot(None).await.unwrap()
    }

    /// Every living row of a wanted key is found, or its file is named as not covered; nothing else is claimed to live.
    async fn check(&self, dice: &mut Dice) -> usize {
        let snapshot = self.snapshot().await;
        let wanted: BTreeSet<i64> = (0..1 + dice.next(60)).map(|_| dice.next(400) as i64).collect();
        let keys: Vec<Option<i64>> = wanted.iter().map(|key| Some(*key)).collect();
        let mut numbers = self.encoder().encode(&self.batch(&keys)).unwrap().keys;
        numbers.sort_unstable();
        let index = KeyIndex::open(&self.store, LOCATION, &snapshot, &self.encoder()).await.unwrap();
        let parts = 1 + dice.next(3) as usize;
        let mut found = index.find(&numbers, 0, parts).await.unwrap();
        for part in 1..parts {
            found = found.and(index.find(&numbers, part, parts).await.unwrap());
        }
        for (place, live) in snapshot.files.iter().enumerate() {
            let of_file: BTreeSet<u64> = self
                .rows
                .iter()
                .filter(|((file, _), key)| *file == live.file.path && key.is_some_and(|key| wanted.contains(&key)))
                .map(|((_, position), _)| *position)
                .collect();
            let dead = DeltaTable::new(&self.store, LOCATION).deleted_rows(live).await.unwrap().unwrap_or_default();
            let claimed: BTreeSet<u64> =
                found.rows.get(&place).into_iter().flatten().filter(|position| !dead.contains(*position)).collect();
            if found.uncovered.contains(&place) {
                assert!(claimed.is_subset(&of_file), "{claimed:?} of {of_file:?}");
            } else {
                assert_eq!(claimed, of_file, "file {}", live.file.path);
            }
        }
        found.uncovered.len()
    }
}

fn keys(dice: &mut Dice, rows: u64) -> Vec<Option<i64>> {
    (0..rows).map(|_| (dice.next(10) > 0).then(|| dice.next(400) as i64)).collect()
}

#[tokio::test]
async fn what_writers_wrote_is_found_whatever_happens_to_files_and_runs() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let mut world = World::new(seed % 2 == 0);
        for _ in 0..40 {
            let snapshot = if world.version < 0 { None } else { Some(world.snapshot().await) };
            let files: Vec<String> =
                snapshot.iter().flat_map(|snapshot| snapshot.files.iter().map(|live| live.file.path.clone())).collect();
            match dice.next(10) {
                // Rows die where they stand, a file goes.
                0 | 1 if !files.is_empty() => {
                    let path = files[dice.next(files.len() as u64) as usize].clone();
                    let rows = (0..3).map(|_| dice.next(20)).collect();
                    world.commit(Operation::Rewrite, Vec::new(), Vec::new(), vec![DeadRows { path, rows }]).await;
                }
                2 if files.len() > 1 => {
                    let path = files[dice.next(files.len() as u64) as usize].clone();
                    world.commit(Operation::Rewrite, Vec::new(), vec![path], Vec::new()).await;
                }
                // Somebody writes who knows nothing of the index.
                3 => {
                    let rows = keys(&mut dice, 25);
                    let files = world.write(&rows, 25, true);
                    world.commit(Operation::Append, files, Vec::new(), Vec::new()).await;
                }
                4 if snapshot.is_some() => {
                    merge_runs(&world.store, LOCATION, world.snapshot().await.as_ref(), &world.encoder(), u64::MAX)
                        .await
                        .unwrap();
                }
                // A run is lost, or damaged at some byte.
                5 => {
                    let listed =
                        world.store.list(&StorePath::from(format!("{LOCATION}/_lode/idx")), None).await.unwrap();
                    if !listed.is_empty() {
                        let path = listed[dice.next(listed.len() as u64) as usize].location.clone();
                        let mut bytes = world.store.get(&path).await.unwrap().to_vec();
                        world.store.delete(&path).await.unwrap();
                        if dice.next(2) == 0 {
                            let at = dice.next(bytes.len() as u64) as usize;
                            bytes[at] ^= 1 << dice.next(8);
                            world.store.put(&path, bytes.into()).await.unwrap();
                        }
                    }
                }
                _ => {
                    let (count, file_rows) = (1 + dice.next(60), 20 + dice.next(30) as usize);
                    let rows = keys(&mut dice, count);
                    let files = world.write(&rows, file_rows, false);
                    world.commit(Operation::Append, files, Vec::new(), Vec::new()).await;
                }
            }
            if world.version >= 0 {
                world.check(&mut dice).await;
            }
        }
    }
}

#[tokio::test]
async fn merged_runs_cover_what_they_did_before() {
    let mut dice = Dice(5);
    let mut world = World::new(false);
    for _ in 0..30 {
        let rows = keys(&mut dice, 3_000);
        let files = world.write(&rows, 3_000, false);
        world.commit(Operation::Append, files, Vec::new(), Vec::new()).await;
    }
    assert_eq!(world.check(&mut dice).await, 0);
    let merged =
        merge_runs(&world.store, LOCATION, world.snapshot().await.as_ref(), &world.encoder(), u64::MAX).await.unwrap();
    assert!(merged.runs_before == 30 && merged.runs_after < 8, "{merged:?}");
    assert_eq!(world.check(&mut dice).await, 0);
    // New files beside the merged ones, and one of them gone.
    let rows = keys(&mut dice, 3_000);
    let files = world.write(&rows, 3_000, false);
    world.commit(Operation::Append, files, Vec::new(), Vec::new()).await;
    let gone = world.snapshot().await.files[3].file.path.clone();
    world.commit(Operation::Rewrite, Vec::new(), vec![gone], Vec::new()).await;
    assert_eq!(world.check(&mut dice).await, 0);
    // Without its manifest, the merged runs are unknown: everything is looked through again, and nothing is lost.
    for meta in world.store.list(&StorePath::from(format!("{LOCATION}/_lode/idx")), None).await.unwrap() {
        if meta.location.as_ref().contains("manifest") {
            world.store.delete(&meta.location).await.unwrap();
        }
    }
    assert!(world.check(&mut dice).await >= 28);
}
