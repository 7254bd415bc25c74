//! Selection words.

use lode_project::{Command, Selection};

use crate::support::{folder, load};

const FILES: &[(&str, &str)] = &[
    (
        "models/s.yml",
        "sources: [{name: bronze, tables: [{name: orders}, {name: cars}]}]
models:
  - {name: c, columns: [{name: id, data_tests: [unique]}]}
",
    ),
    ("models/staging/a.sql", "{{ config(tags=['raw']) }} select * from {{ source('bronze', 'orders') }}"),
    ("models/staging/b.sql", "select * from {{ source('bronze', 'cars') }}"),
    ("models/gold/c.sql", "{{ config(materialized='table', tags=['daily', 'gold']) }} select * from {{ ref('a') }}"),
    ("models/gold/d.sql", "{{ config(materialized='table') }} select * from {{ ref('c') }} join {{ ref('b') }}"),
    ("models/gold/e.sql", "select * from {{ ref('d') }}"),
    ("seeds/f.csv", "a\n1\n"),
];

fn chosen(command: Command, select: &str, exclude: &str) -> String {
    let dir = folder(FILES);
    let project = load(&dir);
    let words = |text: &str| text.split('|').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let selection = Selection { select: words(select), exclude: words(exclude), resource_types: Vec::new() };
    let plan = project.plan(command, &selection).unwrap();
    let mut names: Vec<String> = project.list(&plan).into_iter().map(|listed| listed.name).collect();
    names.sort();
    names.join(" ")
}

#[test]
fn words_select_as_in_dbt() {
    let cases: &[(&str, &str, &str)] = &[
        ("", "", "a b c d e"),
        ("c", "", "c"),
        ("+c", "", "a c"),
        ("c+", "", "c d e"),
        ("c+1", "", "c d"),
        ("1+d", "", "b c d"),
        ("+d+", "", "a b c d e"),
        ("@c", "", "a b c d e"),
        ("a b", "", "a b"),
        ("a|b", "", "a b"),
        ("tag:daily", "", "c"),
        ("tag:daily,tag:gold", "", "c"),
        ("tag:daily,tag:raw", "", ""),
        ("path:models/gold", "", "c d e"),
        ("models/staging", "", "a b"),
        ("models/gold/c.sql", "", "c"),
        ("config.materialized:table", "", "c d"),
        ("source:bronze+1", "", "a b"),
        ("source:bronze.orders+", "", "a c d e"),
        ("staging", "", "a b"),
        ("shop.gold", "", "c d e"),
        ("staging.*", "", "a b"),
        ("[ab]", "", "a b"),
        ("*", "d+", "a b c"),
        ("", "tag:gold path:models/staging", "d e"),
        ("package:shop", "", "a b c d e"),
        ("file:c.sql", "", "c"),
        ("resource_type:model,path:models/gold", "e", "c d"),
    ];
    for (select, exclude, wanted) in cases {
        assert_eq!(chosen(Command::Run, select, exclude), *wanted, "{select:?} without {exclude:?}");
    }
}

#[test]
fn each_command_takes_its_kinds() {
    assert_eq!(chosen(Command::Build, "", ""), "a b c d e f unique_c_id");
    assert_eq!(chosen(Command::Test, "", ""), "unique_c_id");
    assert_eq!(chosen(Command::Test, "c", ""), "unique_c_id");
    assert_eq!(chosen(Command::Test, "d", ""), "");
    assert_eq!(chosen(Command::Seed, "", ""), "f");
    assert_eq!(chosen(Command::Build, "c", ""), "c unique_c_id");
    assert_eq!(chosen(Command::Build, "", "c"), "a b d e f");
    assert_eq!(chosen(Command::Ls, "source:*", ""), "cars orders");
    assert_eq!(chosen(Command::Build, "test_name:unique", ""), "unique_c_id");
}

#[test]
fn what_matched_nothing_is_told() {
    let project = load(&folder(FILES));
    let selection = Selection { select: vec!["nope".into()], ..Selection::default() };
    let plan = project.plan(Command::Run, &selection).unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.unmatched, ["nope"]);
}
