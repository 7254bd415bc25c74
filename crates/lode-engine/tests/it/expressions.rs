//! PostgreSQL 15 is the oracle of values.

use crate::fixture::{Fixture, is_same};

/// Text of a value by PostgreSQL's own output rules: the cast to text is part of what is tested.
fn as_text(expression: &str) -> String {
    format!("select {expression}")
}

#[tokio::test]
async fn expressions_answer_as_postgres_or_are_errors() {
    let fixture = Fixture::new().await;
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("../sql/expressions.txt").lines() {
        let Some((expression, theirs)) = line.split_once(" => ").filter(|_| !line.starts_with('#')) else { continue };
        count += 1;
        let (expression, is_refused) = match expression.strip_prefix("refused: ") {
            Some(rest) => (rest, true),
            None => (expression, false),
        };
        let ours = match fixture.sql(&as_text(expression)).await {
            Ok(rows) => rows.join("\\n").replace('\n', "\\n"),
            Err(problem) => format!("!{problem}"),
        };
        // Some types have their text from the cast only; the value is the same.
        let as_cast = fixture.sql(&as_text(&format!("({expression})::text"))).await.ok().map(|rows| rows.join("\\n"));
        let fits = match (theirs.starts_with('!') || is_refused, ours.starts_with('!')) {
            (true, is_error) => is_error,
            (false, true) => false,
            (false, false) => is_same(&ours, theirs) || as_cast.is_some_and(|text| is_same(&text, theirs)),
        };
        if !fits {
            wrong.push(format!("{expression}: ours {ours}, PostgreSQL's {theirs}"));
        }
    }
    assert!(count > 100, "only {count} expressions");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
