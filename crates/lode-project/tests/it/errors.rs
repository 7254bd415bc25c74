//! Every mistake says what, where and how to mend it.

use lode_core::{ErrorKind, Problem};
use lode_jobs::NodeStatus;
use lode_project::{Command, Overrides, Project, Selection};

use crate::support::{Bench, assert_status, folder, load, load_error, now, outcome};

fn assert_problem(problem: &Problem, kind: ErrorKind, what: &str, place: &str, fix: &str) {
    let shown = problem.render();
    assert_eq!(problem.kind(), kind, "{shown}");
    assert!(problem.to_string().contains(what), "{shown}");
    assert!(problem.places().iter().any(|found| found.to_string().starts_with(place)), "{shown}");
    assert!(problem.remedy().is_some_and(|found| found.contains(fix)), "{shown}");
}

#[test]
fn a_folder_without_a_project() {
    let dir = tempfile::tempdir().unwrap();
    let problem = Project::load(dir.path(), &Overrides::new(now())).err().unwrap();
    assert_problem(&problem, ErrorKind::Config, "no dbt_project.yml", "", "lode init");
}

#[test]
fn a_bad_project_file() {
    let problem = load_error(&[("dbt_project.yml", "name: shop\n  models: x\n")]);
    assert_problem(&problem, ErrorKind::Config, "not valid YAML", "dbt_project.yml:2", "indentation");
    let problem = load_error(&[("dbt_project.yml", "version: 1\n")]);
    assert_problem(&problem, ErrorKind::Config, "key \"name\" is missing", "dbt_project.yml", "name:");
    let problem = load_error(&[("dbt_project.yml", "name: shop\nmodels: [a]\n")]);
    assert_problem(&problem, ErrorKind::Config, "must be a map", "dbt_project.yml:2:9", "map");
}

#[test]
fn a_bad_config() {
    let model = "select 1\n{{ config(materialized='tabel') }}";
    let problem = load_error(&[("models/m.sql", model)]);
    assert_problem(&problem, ErrorKind::Unsupported, "materialized \"tabel\"", "models/m.sql:2:11", "\"table\"");
    let model = "{{ config(materialized='incremental', on_schema_change='drop') }} select 1";
    assert_problem(
        &load_error(&[("models/m.sql", model)]),
        ErrorKind::Config,
        "on_schema_change",
        "models/m.sql:1",
        "sync_all_columns",
    );
    let model = "{{ config(materialized='incremental', incremental_strategy='merge') }} select 1";
    assert_problem(
        &load_error(&[("models/m.sql", model)]),
        ErrorKind::Config,
        "unique_key",
        "models/m.sql",
        "unique_key",
    );
    for word in ["snapshot", "streaming", "materialized_view", "scd2"] {
        let problem = load_error(&[("models/m.sql", &format!("{{{{ config(materialized='{word}') }}}} select 1"))]);
        assert_problem(&problem, ErrorKind::Unsupported, word, "models/m.sql:1:11", "incremental");
    }
    let schema = "models:\n  - name: m\n    config:\n      materialized: table\n      expectations:\n        - {name: r, expct: x > 0}\n";
    let problem = load_error(&[("models/m.sql", "select 1"), ("models/s.yml", schema)]);
    assert_problem(&problem, ErrorKind::Config, "expct", "models/s.yml:6:11", "expect:");
}

#[test]
fn an_unknown_ref_and_an_unknown_source() {
    let files = [("models/orders.sql", "select 1"), ("models/m.sql", "select *\nfrom {{ ref('order') }}")];
    let problem = load_error(&files);
    assert_problem(
        &problem,
        ErrorKind::Config,
        "model \"m\" depends on model \"order\"",
        "models/m.sql:2:13",
        "did you mean \"orders\"?",
    );
    assert!(problem.render().contains("   2 | from {{ ref('order') }}\n     |             ^"), "{}", problem.render());
    let schema = "sources: [{name: bronze, tables: [{name: orders}]}]";
    let problem =
        load_error(&[("models/m.sql", "select * from {{ source('bronze', 'ordres') }}"), ("models/s.yml", schema)]);
    assert_problem(&problem, ErrorKind::Config, "source \"bronze.ordres\"", "models/m.sql:1:35", "bronze.orders");
}

#[test]
fn packages_that_are_not_there() {
    let packages = ("packages.yml", "packages:\n  - package: dbt-labs/dbt_utils\n    version: 1.0.0\n");
    let problem = load_error(&[("models/a.sql", "select 1"), packages]);
    assert_problem(&problem, ErrorKind::Unsupported, "1 asked for, 0 in dbt_packages", "packages.yml:2", "`dbt deps`");
    let there = ("dbt_packages/dbt_utils/dbt_project.yml", "name: dbt_utils\n");
    load(&folder(&[("models/a.sql", "select 1"), packages, there]));
}

#[test]
fn a_cycle_names_its_path() {
    let problem = load_error(&[
        ("models/a.sql", "select * from {{ ref('b') }}"),
        ("models/b.sql", "select *\nfrom {{ ref('c') }}"),
        ("models/c.sql", "select * from {{ ref('a') }}"),
    ]);
    assert_problem(&problem, ErrorKind::Config, "a -> b -> c -> a", "models/b.sql:2:13", "circle");
}

#[test]
fn two_files_of_one_name_and_two_nodes_of_one_table() {
    let problem = load_error(&[("models/x/a.sql", "select 1"), ("models/y/a.sql", "select 1")]);
    assert_problem(&problem, ErrorKind::Config, "named \"a\"", "models/y/a.sql", "rename");
    let problem = load_error(&[("models/a.sql", "{{ config(alias='b') }} select 1"), ("models/b.sql", "select 1")]);
    assert_problem(&problem, ErrorKind::Config, "public.b", "models/b.sql", "rename");
}

#[test]
fn a_disabled_parent() {
    let problem = load_error(&[
        ("models/a.sql", "{{ config(enabled=false) }} select 1"),
        ("models/b.sql", "select * from {{ ref('a') }}"),
    ]);
    assert_problem(&problem, ErrorKind::Config, "which is disabled", "models/b.sql:1", "enabled: true");
}

#[test]
fn jinja_that_does_not_parse_shows_a_caret() {
    let problem = load_error(&[("models/m.sql", "select 1\n{% if %}\n{% endif %}")]);
    assert_problem(&problem, ErrorKind::Syntax, "Jinja", "models/m.sql:2", "template");
    let problem = load_error(&[("models/m.sql", "select 1\n  {{ ref('a'")]);
    assert_problem(&problem, ErrorKind::Syntax, "not closed", "models/m.sql:2:3", "close");
    let problem = load_error(&[("macros/m.sql", "{% macro a() %}")]);
    assert_problem(&problem, ErrorKind::Syntax, "endmacro", "macros/m.sql:1:1", "close");
}

#[test]
fn a_variable_that_is_not_set() {
    let problem = load_error(&[("models/m.sql", "select\n {{ var('nope') }}")]);
    assert_problem(&problem, ErrorKind::Undefined, "variable \"nope\" is not set", "models/m.sql:2", "--vars");
}

#[test]
fn the_projects_own_error_shows_the_macro_and_its_caller() {
    let problem = load_error(&[
        ("models/m.sql", "select 1\n{{ check('x') }}"),
        (
            "macros/c.sql",
            "\n{% macro check(a) %}\n\n  {{ exceptions.raise_compiler_error('bad ' ~ a) }}\n{% endmacro %}",
        ),
    ]);
    assert_problem(&problem, ErrorKind::Config, "bad x", "macros/c.sql:4", "message");
    assert!(problem.places()[1].to_string().starts_with("models/m.sql:2"), "{}", problem.render());
}

#[test]
fn a_test_that_does_not_exist() {
    let schema = "models:\n  - name: m\n    columns:\n      - name: id\n        data_tests:\n          - not_nul\n";
    let problem = load_error(&[("models/m.sql", "select 1"), ("models/s.yml", schema)]);
    assert_problem(&problem, ErrorKind::Undefined, "test \"not_nul\"", "models/s.yml:6:13", "not_null");
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    let problem = load_error(&[("snapshots/s.sql", "{% snapshot hist %}select 1{% endsnapshot %}")]);
    assert_problem(&problem, ErrorKind::Unsupported, "snapshot \"hist\"", "snapshots/s.sql:1:1", "incremental");
    let problem = load_error(&[("models/m.py", "def model(dbt, session): pass")]);
    assert_problem(&problem, ErrorKind::Unsupported, "Python model", "models/m.py", "SELECT");
    let problem = load_error(&[("models/a.sql", "select 1"), ("models/m.sql", "select * from {{ ref('a', v=2) }}")]);
    assert_problem(&problem, ErrorKind::Unsupported, "versions", "models/m.sql:1", "own model name");
}

#[test]
fn a_selector_that_cannot_be_read() {
    let project = load(&folder(&[("models/m.sql", "select 1")]));
    let select = vec!["tagg:x".to_owned()];
    let problem = project.plan(Command::Run, &Selection { select, ..Selection::default() }).unwrap_err();
    assert_eq!(problem.kind(), ErrorKind::Usage);
    assert_eq!(problem.remedy(), Some("did you mean \"tag:\"?"));
}

#[tokio::test]
async fn a_missing_column_and_a_type_clash_point_at_the_model() {
    let bench = Bench::new(&[
        (
            "models/a.sql",
            "{{ config(materialized='table') }}\n{% set x = 'padding' %}\nselect\n  no_such_column\nfrom t",
        ),
        ("models/b.sql", "{{ config(materialized='ephemeral') }}select 1 as id"),
        ("models/c.sql", "-- c\nselect id,\n  type_clash + 1\nfrom {{ ref('b') }}"),
    ]);
    let results = bench.run(Command::Run, &[]).await;
    assert_eq!(results.exit_code(), 1);
    for (name, kind, place) in
        [("a", ErrorKind::Undefined, "models/a.sql:4:3"), ("c", ErrorKind::TypeMismatch, "models/c.sql:3:3")]
    {
        assert_status(&results, name, NodeStatus::Error);
        let problem = outcome(&results, name).problem.as_ref().unwrap();
        assert_problem(problem, kind, "is refused", place, "did you mean");
    }
}

#[tokio::test]
async fn an_error_in_the_output_of_a_macro_points_at_its_call() {
    let bench = Bench::new(&[
        ("models/a.sql", "select\n   {{ col() }}\nfrom t"),
        ("macros/m.sql", "{% macro col() %}\n  a,\n no_such_column{% endmacro %}"),
    ]);
    let results = bench.run(Command::Run, &[]).await;
    let problem = outcome(&results, "a").problem.as_ref().unwrap();
    assert_problem(problem, ErrorKind::Undefined, "no_such_column", "models/a.sql:2", "did you mean");
}

#[tokio::test]
async fn an_unknown_macro_names_the_nearest_at_compile() {
    let bench = Bench::new(&[
        ("models/a.sql", "select {{ cents_to_eur(1) }}"),
        ("macros/m.sql", "{% macro cents_to_euro(x) %}{{ x }}{% endmacro %}"),
    ]);
    let results = bench.run(Command::Run, &[]).await;
    let problem = outcome(&results, "a").problem.as_ref().unwrap();
    assert_problem(problem, ErrorKind::Undefined, "macro \"cents_to_eur\"", "models/a.sql:1", "cents_to_euro");
}

#[tokio::test]
async fn a_ref_that_only_the_compile_render_sees_is_refused() {
    let bench = Bench::new(&[
        ("models/a.sql", "select 1"),
        ("models/b.sql", "{% if execute %}select * from {{ ref('a') }}{% endif %}"),
    ]);
    let results = bench.run(Command::Run, &["b"]).await;
    let problem = outcome(&results, "b").problem.as_ref().unwrap();
    assert_problem(problem, ErrorKind::Config, "was not known", "models/b.sql:1", "depends_on");
}
