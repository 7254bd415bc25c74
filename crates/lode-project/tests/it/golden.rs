//! Names, configs and edges as dbt-core 1.11 with dbt-duckdb 1.10 gave them for the same files.

use serde_json::{Value, json};

use crate::support::{Bench, folder, load};
use lode_project::{Command, Selection};

const PROJECT: &str = "name: shop
version: '1.0'
profile: shop
vars:
  cents: 100
  shop:
    own: from_package
  own: from_global
models:
  +materialized: view
  +tags: all
  shop:
    +meta: {owner: root, level: 1}
    staging:
      +schema: silver
      +tags: [stg]
    gold:
      +materialized: table
      schema: gold
      +enabled: \"{{ var('xx', 100) == 100 }}\"
seeds:
  shop:
    +schema: raw
data_tests:
  shop:
    +severity: warn
";

const SCHEMA: &str = "sources:
  - name: shop
    schema: bronze
    tables:
      - name: orders
        columns:
          - name: id
            data_tests: [not_null, unique]
models:
  - name: stg_orders
    config: {tags: yml, meta: {from: yml}}
    columns:
      - name: id
        data_tests:
          - unique
          - not_null:
              config: {severity: error, where: \"id > 0\"}
      - name: status
        data_tests:
          - accepted_values:
              arguments: {values: ['placed', 'shipped', 'completed', 'return_pending', 'returned']}
      - name: country
        data_tests:
          - relationships:
              arguments: {to: ref('countries'), field: code}
          - accepted_values: {arguments: {values: [1, 2.5, true], quote: false}}
  - name: orders
    config: {tags: [yml], schema: other, materialized: view}
    columns:
      - name: id
        data_tests:
          - not_null: {name: my_own_name}
";

fn files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("dbt_project.yml", PROJECT),
        ("seeds/countries.csv", "code,name\nFR,France\nDE,Germany\n"),
        ("models/staging/stg_orders.sql", "select * from {{ source('shop', 'orders') }}\n"),
        (
            "models/gold/orders.sql",
            "{{ config(tags=['sql'], meta={'level': 3}, alias='orders_final') }}\nselect * from {{ ref('stg_orders') }} -- {{ var('own') }} {{ var('cents') }}\n",
        ),
        (
            "models/gold/plain.sql",
            "{{ config(materialized='incremental', unique_key='id') }}\nselect 1 as id\n{% if is_incremental() %} where 1=1 {% endif %}\n",
        ),
        ("models/schema.yml", SCHEMA),
        (
            "tests/no_negative.sql",
            "{{ config(severity='warn', error_if='> 10') }}\nselect * from {{ ref('orders') }} where amount < 0\n",
        ),
    ]
}

async fn manifest() -> Value {
    let bench = Bench::new(&files());
    bench.run(Command::Compile, &[]).await;
    let text = std::fs::read_to_string(bench.dir.path().join("target/manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn test_ids_are_those_of_dbt() {
    let project = load(&folder(&files()));
    let plan = project.plan(Command::Test, &Selection::default()).unwrap();
    let mut ids: Vec<String> = project.list(&plan).into_iter().map(|listed| listed.unique_id).collect();
    ids.sort();
    assert_eq!(
        ids,
        [
            "test.shop.accepted_values_stg_orders_country__False__1__2_5__True.b2de7c5766",
            "test.shop.accepted_values_stg_orders_status__placed__shipped__completed__return_pending__returned.080fb20aad",
            "test.shop.my_own_name.faaa681538",
            "test.shop.no_negative",
            "test.shop.not_null_stg_orders_id.8cf5724805",
            "test.shop.relationships_stg_orders_country__code__ref_countries_.f08f0a5cf9",
            "test.shop.source_not_null_shop_orders_id.5be7e9a27b",
            "test.shop.source_unique_shop_orders_id.58eb404101",
            "test.shop.unique_stg_orders_id.beb6e97f2f",
        ]
    );
}

#[tokio::test]
async fn configs_and_names_are_those_of_dbt() {
    let manifest = manifest().await;
    let node = |id: &str| {
        let node = &manifest["nodes"][id];
        let config = &node["config"];
        json!([
            node["schema"],
            node["alias"],
            config["materialized"],
            config["tags"],
            config["meta"],
            node["depends_on"]["nodes"]
        ])
    };
    assert_eq!(
        node("model.shop.orders"),
        json!(["public_other", "orders_final", "view", ["all", "yml", "sql"], {"owner": "root", "level": 3}, ["model.shop.stg_orders"]])
    );
    assert_eq!(
        node("model.shop.plain"),
        json!(["public_gold", "plain", "incremental", ["all"], {"owner": "root", "level": 1}, []])
    );
    assert_eq!(
        node("model.shop.stg_orders"),
        json!(["public_silver", "stg_orders", "view", ["all", "stg", "yml"], {"owner": "root", "level": 1, "from": "yml"}, ["source.shop.shop.orders"]])
    );
    assert_eq!(manifest["nodes"]["seed.shop.countries"]["schema"], "public_raw");
    let test = |id: &str, key: &str| manifest["nodes"][id]["config"][key].clone();
    assert_eq!(test("test.shop.not_null_stg_orders_id.8cf5724805", "severity"), "error");
    assert_eq!(test("test.shop.not_null_stg_orders_id.8cf5724805", "where"), "id > 0");
    assert_eq!(test("test.shop.unique_stg_orders_id.beb6e97f2f", "severity"), "warn");
    assert_eq!(test("test.shop.no_negative", "error_if"), "> 10");
    let long =
        "test.shop.accepted_values_stg_orders_status__placed__shipped__completed__return_pending__returned.080fb20aad";
    assert_eq!(manifest["nodes"][long]["alias"], "accepted_values_stg_orders_4f514bf94b77b7ea437830eec4421c58");
}

#[tokio::test]
async fn the_manifest_has_every_key_that_readers_ask_for() {
    let manifest = manifest().await;
    for key in [
        "metadata",
        "nodes",
        "sources",
        "macros",
        "docs",
        "exposures",
        "metrics",
        "groups",
        "selectors",
        "disabled",
        "parent_map",
        "child_map",
    ] {
        assert!(manifest.get(key).is_some(), "{key}");
    }
    assert_eq!(manifest["metadata"]["dbt_schema_version"], "https://schemas.getdbt.com/dbt/manifest/v12.json");
    assert_eq!(manifest["child_map"]["source.shop.shop.orders"][0], "model.shop.stg_orders");
    assert!(manifest["macros"].get("macro.dbt.generate_schema_name").is_some());
}
