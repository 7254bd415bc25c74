//! Seeds: types, nulls, names, and what is wrong with a file.

use arrow::util::display::array_value_to_string;
use lode_core::ErrorKind;
use lode_project::Command;

use crate::support::{Bench, outcome};

async fn columns(files: &[(&str, &str)]) -> Vec<String> {
    let bench = Bench::new(files);
    let results = bench.run(Command::Seed, &[]).await;
    assert_eq!(results.exit_code(), 0, "{:?}", results.nodes[0].outcome.problem);
    let batch = bench.warehouse.batches.lock()["public.s"].clone();
    let fields = batch.schema();
    let described = fields.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let values: Vec<String> = (0..column.len()).map(|at| array_value_to_string(column, at).unwrap()).collect();
        format!("{} {} [{}]", field.name(), lode_core::sql_type::name_of(field), values.join("|"))
    });
    described.collect()
}

#[tokio::test]
async fn types_are_inferred_and_nulls_found() {
    let csv = "id,price,day,name,flag\n1,$1.50,2024-01-01,\"a, b\",true\n02,2,,null,FALSE\n";
    assert_eq!(
        columns(&[("seeds/s.csv", csv)]).await,
        [
            "id integer [1|2]",
            "price double precision [1.5|2.0]",
            "day date [2024-01-01|]",
            "name text [a, b|]",
            "flag boolean [true|false]"
        ]
    );
}

#[tokio::test]
async fn column_types_and_delimiter_override() {
    let config = "name: shop\nseeds:\n  shop:\n    s:\n      +delimiter: ';'\n      +column_types: {ID: text, amount: \"numeric(8,2)\"}\n";
    assert_eq!(
        columns(&[("dbt_project.yml", config), ("seeds/s.csv", "id;amount\n007;1.5\n;\n")]).await,
        ["id text [007|]", "amount numeric(8,2) [1.50|]"]
    );
}

#[tokio::test]
async fn short_rows_and_empty_lines_are_null() {
    assert_eq!(columns(&[("seeds/s.csv", "\u{feff}a,b\n1\n\n3,x\n")]).await, ["a integer [1||3]", "b text [||x]"]);
}

#[tokio::test]
async fn a_long_row_and_a_wrong_value_name_their_line() {
    let bench = Bench::new(&[("seeds/s.csv", "a,b\n1,2\n1,2,3\n")]);
    let results = bench.run(Command::Seed, &[]).await;
    let problem = outcome(&results, "s").problem.as_ref().unwrap();
    assert_eq!((problem.kind(), problem.places()[0].to_string().as_str()), (ErrorKind::Data, "seeds/s.csv:3"));
    let config = "name: shop\nseeds: {+column_types: {a: integer}}\n";
    let bench = Bench::new(&[("dbt_project.yml", config), ("seeds/s.csv", "a\n1\nx\n")]);
    let results = bench.run(Command::Seed, &[]).await;
    let problem = outcome(&results, "s").problem.as_ref().unwrap();
    assert!(problem.to_string().contains("\"x\" in column \"a\" is not integer"), "{problem}");
    assert_eq!(problem.places()[0].to_string(), "seeds/s.csv:3");
}
