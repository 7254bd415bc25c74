use arrow::array::{BinaryViewArray, Int64Array};

use super::*;

/// `n < 10` is asked for; 7 cannot be computed.
struct BelowTen(OnViolation);

impl RowPass for BelowTen {
    fn check(&self, batch: &RecordBatch) -> Result<lode_core::RowVerdict, Problem> {
        let numbers = batch.column(0).as_primitive::<Int64Type>();
        if numbers.iter().any(|number| number == Some(7)) {
            return Err(Problem::new(ErrorKind::Data, "division by zero"));
        }
        let accept =
            BooleanArray::from_iter(numbers.iter().map(|number| Some(number.is_none_or(|number| number < 10))));
        let refused: Vec<usize> = (0..accept.len()).filter(|row| !accept.value(*row)).collect();
        let violations = refused.len() as u64;
        let quarantined = match self.0 {
            OnViolation::Quarantine => refused
                .into_iter()
                .map(|row| Violation { row, rule: "below_ten".into(), reason: "n < 10".into() })
                .collect(),
            _ => Vec::new(),
        };
        let counts = vec![RuleCount { rule: "below_ten".into(), on_violation: self.0, violations }];
        Ok(lode_core::RowVerdict { accept, quarantined, counts })
    }
}

fn rules(on_malformed: OnMalformed, pass: Option<OnViolation>) -> RowRules {
    let decoded = Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("id", DataType::Int64, true),
        Field::new(LINE, DataType::Int64, false),
    ]);
    RowRules {
        source: "orders".into(),
        epoch: Epoch(1),
        landed_at: DateTime::UNIX_EPOCH,
        schema: bronze_schema(&decoded, &["id".to_owned()]),
        on_malformed,
        row_pass: pass.map(|on_violation| Arc::new(BelowTen(on_violation)) as Arc<dyn RowPass>),
    }
}

fn decoded(n: &[i64], id: &[Option<i64>]) -> Decoded {
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(Int64Array::from(n.to_vec())) as ArrayRef, true),
        ("id", Arc::new(Int64Array::from(id.to_vec())) as ArrayRef, true),
        (LINE, Arc::new(Int64Array::from_iter_values(2..2 + n.len() as i64)) as ArrayRef, false),
    ])
    .unwrap();
    let texts: Vec<String> = n.iter().map(|n| format!("raw {n}")).collect();
    let raw = RawRows {
        bytes: BinaryViewArray::from_iter_values(texts.iter().map(String::as_bytes)),
        offsets: (0..n.len() as u64).map(|row| row * 10).collect(),
    };
    let reject = Reject {
        rule: "decode",
        name: None,
        reason: "too few fields".into(),
        line: 99,
        offset: 990,
        raw: b"x".to_vec(),
    };
    Decoded { batch, rejects: vec![reject], bytes: 100, raw: Some(raw), entry: None }
}

fn sort(rules: &RowRules, decoded: Decoded) -> (Result<RecordBatch, Problem>, RecordBatch, RowCounts) {
    let mut rejected = QuarantineRows::new(rules.epoch, rules.landed_at);
    let mut counts = RowCounts::default();
    let batch = rules.sort("a.csv", decoded, &mut rejected, &mut counts);
    (batch, rejected.take(), counts)
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap();
    match column.as_string_view_opt() {
        Some(texts) => texts.iter().map(|text| text.unwrap_or("NULL").to_owned()).collect(),
        None => column.as_binary_view().iter().map(|raw| String::from_utf8(raw.unwrap().to_vec()).unwrap()).collect(),
    }
}

#[test]
fn each_reject_keeps_its_rule_place_and_bytes() {
    let rules = rules(OnMalformed::Quarantine, Some(OnViolation::Quarantine));
    let (batch, rejected, counts) =
        sort(&rules, decoded(&[1, 2, 12, 7, 3], &[Some(1), None, Some(3), Some(4), Some(5)]));
    let batch = batch.unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 3]);
    assert_eq!(texts(&batch, FILE), ["a.csv", "a.csv"]);
    assert_eq!(batch.column_by_name(LINE).unwrap().as_primitive::<Int64Type>().values(), &[2, 6]);
    assert_eq!(texts(&rejected, "_rule"), ["decode", "contract", "expectation", "error"]);
    assert_eq!(texts(&rejected, "_raw"), ["x", "raw 2", "raw 12", "raw 7"]);
    assert_eq!(texts(&rejected, "_name"), ["NULL", "id", "below_ten", "error"]);
    let numbers = |column: &str| rejected.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(numbers("_line"), [99, 3, 4, 5]);
    assert_eq!(numbers("_offset"), [990, 10, 20, 30]);
    assert_eq!((counts.rows_in, counts.landed, counts.quarantined, counts.dropped), (6, 2, 4, 0));
    counts.check("the test").unwrap();
}

#[test]
fn drop_counts_every_row_that_is_left_out() {
    let rules = rules(OnMalformed::Drop, Some(OnViolation::Drop));
    let (batch, rejected, counts) = sort(&rules, decoded(&[1, 2, 12], &[Some(1), None, Some(3)]));
    assert_eq!(batch.unwrap().num_rows(), 1);
    assert_eq!(rejected.num_rows(), 0);
    assert_eq!((counts.rows_in, counts.landed, counts.quarantined, counts.dropped), (4, 1, 0, 3));
    counts.check("the test").unwrap();
}

#[test]
fn fail_refuses_the_file_with_its_place() {
    let (malformed, _, _) = sort(&rules(OnMalformed::Fail, None), decoded(&[1], &[Some(1)]));
    let problem = malformed.unwrap_err();
    assert_eq!((problem.what(), problem.places()[0].to_string().as_str()), ("too few fields", "a.csv:99"));
    let (broken, _, _) =
        sort(&rules(OnMalformed::Quarantine, Some(OnViolation::Fail)), decoded(&[1, 11], &[Some(1), Some(2)]));
    assert_eq!(broken.unwrap_err().what(), "1 row breaks the expectation \"below_ten\"");
}

#[test]
fn rows_that_do_not_add_up_are_a_bug() {
    let counts = RowCounts { rows_in: 3, landed: 1, quarantined: 1, ..RowCounts::default() };
    assert_eq!(counts.check("x").unwrap_err().kind(), ErrorKind::Internal);
}
