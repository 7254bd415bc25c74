use arrow::array::{Int64Array, StringViewArray};
use arrow::datatypes::{Field, Schema};
use object_store::memory::InMemory;

use super::*;
use crate::session::EngineOptions;

fn sessions() -> Sessions {
    let folder = tempfile::tempdir().unwrap();
    Sessions::new(&EngineOptions::new(folder.path()), Arc::new(InMemory::new())).unwrap()
}

fn rows() -> RecordBatch {
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("vin", DataType::Utf8View, true)]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(-2), None, Some(-4)])),
            Arc::new(StringViewArray::from(vec![Some("a"), Some("b"), Some("c"), None])),
        ],
    )
    .unwrap()
}

fn rule(name: &str, expect: &str, on_violation: OnViolation) -> Expectation {
    Expectation { name: name.into(), expect: expect.into(), on_violation, null_is: false }
}

#[test]
fn a_null_answer_passes_unless_it_is_a_violation() {
    let batch = rows();
    let mut positive = rule("positive", "id > 0", OnViolation::Quarantine);
    let pass = Pass::compile(&sessions(), batch.schema(), std::slice::from_ref(&positive)).unwrap();
    assert_eq!(pass.check(&batch).unwrap().accept, BooleanArray::from(vec![true, false, true, false]));
    positive.null_is = true;
    let pass = Pass::compile(&sessions(), batch.schema(), &[positive]).unwrap();
    assert_eq!(pass.check(&batch).unwrap().accept, BooleanArray::from(vec![true, false, false, false]));
}

#[test]
fn a_reason_tells_the_rule_and_the_values_it_reads() {
    let batch = rows();
    let rules = [rule("known", "id > 0 and vin <> 'b'", OnViolation::Quarantine)];
    let verdict = Pass::compile(&sessions(), batch.schema(), &rules).unwrap().check(&batch).unwrap();
    assert_eq!(verdict.quarantined[0].reason, "id > 0 and vin <> 'b' does not hold: id = -2, vin = 'b'");
    assert_eq!(verdict.quarantined[1].reason, "id > 0 and vin <> 'b' does not hold: id = -4, vin = NULL");
}

#[test]
fn the_first_rule_that_takes_a_row_out_decides_where_it_goes() {
    let batch = rows();
    let rules = [
        rule("has_vin", "vin is not null", OnViolation::Drop),
        rule("positive", "id > 0", OnViolation::Quarantine),
        rule("small", "id < 0", OnViolation::Warn),
    ];
    let verdict = Pass::compile(&sessions(), batch.schema(), &rules).unwrap().check(&batch).unwrap();
    let rows: Vec<usize> = verdict.quarantined.iter().map(|violation| violation.row).collect();
    assert_eq!(rows, [1]);
    let counts: Vec<u64> = verdict.counts.iter().map(|count| count.violations).collect();
    assert_eq!(counts, [1, 2, 1]);
    assert_eq!(verdict.accept, BooleanArray::from(vec![true, false, true, false]));
}

#[test]
fn a_misspelt_column_is_marked_in_the_rule() {
    let batch = rows();
    let rules = [rule("positive", "idd > 0", OnViolation::Fail)];
    let problem = Pass::compile(&sessions(), batch.schema(), &rules).err().unwrap();
    assert_eq!(problem.what(), "column \"idd\" does not exist");
    assert_eq!(problem.remedy(), Some("did you mean \"id\"?"));
    assert_eq!(problem.places()[0].to_string(), "expectation positive:1:1");
}

#[test]
fn a_rule_that_cannot_be_computed_is_an_error_of_the_data() {
    let batch = rows();
    let rules = [rule("ratio", "1 / (id - 1) > 0", OnViolation::Fail)];
    let pass = Pass::compile(&sessions(), batch.schema(), &rules).unwrap();
    assert_eq!(pass.check(&batch).unwrap_err().kind(), ErrorKind::Data);
}
