use super::*;

#[test]
fn arrow_type_names_become_sql() {
    assert_eq!(
        types_in_sql("Utf8View + Decimal128(10, 2), Timestamp(Microsecond, Some(\"UTC\")), Timestamp(ns)"),
        "text + numeric(10,2), timestamptz, timestamp"
    );
}

#[test]
fn a_word_is_found_outside_of_strings_and_comments() {
    let place = place_of_word("select 'x' -- x\n, X from t", "<sql>", "x").unwrap();
    assert_eq!((place.line, place.column), (Some(2), Some(3)));
}

#[test]
fn a_refused_operation_names_both_types() {
    let error = DataFusionError::Plan("Cannot coerce arithmetic expression Utf8 + Boolean to valid types".into());
    let problem = explain(error, "select 1", "<sql>");
    assert_eq!(problem.what(), "there is no text + boolean");
    assert_eq!(problem.remedy(), Some("cast the text: `x::boolean`"));
}

#[test]
fn an_unknown_function_suggests_a_near_one() {
    let functions = ["date_trunc".to_owned()];
    let source = Source { functions: &functions, ..Source::new("select date_trunk('day', now())", "m.sql") };
    let error = DataFusionError::Plan("Invalid function 'date_trunk'.\nDid you mean 'x'?".into());
    let problem = explain_in(error, &source);
    assert_eq!(problem.remedy(), Some("did you mean date_trunc()?"));
    assert_eq!(problem.places()[0].to_string(), "m.sql:1:8");
}

#[test]
fn a_lack_of_memory_names_what_helps() {
    let problem = explain(DataFusionError::ResourcesExhausted("sort\nmore".into()), "select 1", "<sql>");
    assert_eq!(problem.kind(), ErrorKind::Full);
    let fix = problem.remedy().unwrap();
    assert!(fix.contains("machine with more memory") && !fix.contains("lode.yml"), "{fix}");
}

#[test]
fn a_damaged_page_is_no_fault_of_the_statement() {
    let error = ArrowError::ParquetError("Parquet argument error: External: Unknown frame descriptor".into());
    let shown = arrow(&error).render();
    assert!(shown.starts_with("error: a data file cannot be read as Parquet: "), "{shown}");
    assert!(shown.contains("restore the file from a backup"), "{shown}");
    let error = ArrowError::ParquetError("Failed to fetch metadata for file bronze/t/a-0.parquet: x".into());
    assert!(arrow(&error).render().contains("\n  where: bronze/t/a-0.parquet\n"), "{}", arrow(&error).render());
}
