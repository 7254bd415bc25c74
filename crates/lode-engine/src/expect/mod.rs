//! Expectations and constraints as one pass over rows.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::Utc;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;

use lode_core::sql_type::SQL_TYPE_MARK;
use lode_core::{
    ErrorKind, Expectation, OnViolation, Place, Problem, RowPass, RowVerdict, RuleCount, SqlSession, Violation,
    sql_type,
};
use lode_lake::TableDefinition;

use crate::functions::marked::Work;
use crate::parse;
use crate::problem::{self, Source};
use crate::session::Sessions;
use crate::tables::Pins;

/// Characters of one value in a reason.
const VALUE_CHARS: usize = 80;

/// A compiled list of rules.
pub(crate) struct Pass {
    rules: Vec<Rule>,
}

struct Rule {
    name: String,
    text: String,
    on_violation: OnViolation,
    null_is_violation: bool,
    predicate: Arc<dyn PhysicalExpr>,
    /// Columns that the rule reads: name and place in the batch.
    columns: Vec<(String, usize)>,
}

/// A verdict with the rows that stop the write.
pub(crate) struct Verdict {
    pub(crate) rows: RowVerdict,
    pub(crate) failed: Vec<Violation>,
}

impl Pass {
    /// Errors: `Undefined`, `Syntax`, `TypeMismatch` with the place in the rule's text.
    pub(crate) fn compile(
        sessions: &Sessions,
        schema: SchemaRef,
        expectations: &[Expectation],
    ) -> Result<Self, Problem> {
        let rules: Result<Vec<Rule>, Problem> =
            expectations.iter().map(|expectation| compile_rule(sessions, &schema, expectation)).collect();
        Ok(Self { rules: rules? })
    }

    /// CHECK constraints, lengths and json columns of a table as rules that fail. NOT NULL is checked by the writer.
    pub(crate) fn constraints(sessions: &Sessions, definition: &TableDefinition) -> Result<Self, Problem> {
        let rule = |name: String, expect: String| Expectation {
            name,
            expect,
            on_violation: OnViolation::Fail,
            null_is: false,
        };
        let checks = definition.constraints.iter().map(|check| rule(check.name.clone(), check.expression.clone()));
        let lengths = definition.schema.fields().iter().filter_map(|field| {
            let (sql_type, length) = (sql_type::name_of(field), declared_length(field)?);
            let column = field.name().replace('"', "\"\"");
            Some(rule(format!("{} {sql_type}", field.name()), format!("char_length(\"{column}\") <= {length}")))
        });
        let is_json = |field: &Field| matches!(sql_type::name_of(field).as_str(), "json" | "jsonb");
        let json = definition.schema.fields().iter().filter(|field| is_json(field)).map(|field| {
            let (name, column) = (format!("{} json", field.name()), field.name().replace('"', "\"\""));
            rule(name, format!("{}(\"{column}\")", Work::IsJson.name()))
        });
        let rules: Vec<Expectation> = checks.chain(lengths).chain(json).collect();
        Self::compile(sessions, Arc::clone(&definition.schema), &rules)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// One count a rule, all zero.
    pub(crate) fn zero(&self) -> Vec<RuleCount> {
        let count = |rule: &Rule| RuleCount { rule: rule.name.clone(), on_violation: rule.on_violation, violations: 0 };
        self.rules.iter().map(count).collect()
    }

    /// Checks each row; `Fail` violations are told apart, at most `fail_limit` of them.
    pub(crate) fn verdict(&self, batch: &RecordBatch, fail_limit: usize) -> Result<Verdict, Problem> {
        let rows = batch.num_rows();
        let mut accept = vec![true; rows];
        let mut quarantined = Vec::new();
        let mut failed = Vec::new();
        let mut counts = self.zero();
        for (rule, count) in self.rules.iter().zip(&mut counts) {
            let holds = rule.evaluate(batch)?;
            if !rule.null_is_violation && holds.false_count() == 0 {
                continue;
            }
            for (row, accepted) in accept.iter_mut().enumerate() {
                if !rule.is_broken(&holds, row) {
                    continue;
                }
                count.violations += 1;
                match rule.on_violation {
                    OnViolation::Warn => {}
                    OnViolation::Fail if failed.len() < fail_limit => failed.push(rule.violation(batch, row)?),
                    OnViolation::Fail => {}
                    // The first rule that takes a row out decides where it goes.
                    OnViolation::Drop => *accepted = false,
                    OnViolation::Quarantine if *accepted => {
                        *accepted = false;
                        quarantined.push(rule.violation(batch, row)?);
                    }
                    OnViolation::Quarantine => {}
                }
            }
        }
        quarantined.sort_by_key(|violation| violation.row);
        Ok(Verdict { rows: RowVerdict { accept: BooleanArray::from(accept), quarantined, counts }, failed })
    }
}

impl RowPass for Pass {
    fn check(&self, batch: &RecordBatch) -> Result<RowVerdict, Problem> {
        Ok(self.verdict(batch, 0)?.rows)
    }
}

impl Rule {
    fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, Problem> {
        let value = self
            .predicate
            .evaluate(batch)
            .and_then(|value| value.into_array(batch.num_rows()))
            .map_err(|error| problem::explain(error, &self.text, &self.origin()).context(self.could_not()))?;
        let flags = value.as_any().downcast_ref::<BooleanArray>();
        flags.cloned().ok_or_else(|| Problem::internal(format!("{}: it gave no boolean", self.could_not())))
    }

    fn could_not(&self) -> String {
        format!("could not check expectation \"{}\"", self.name)
    }

    fn origin(&self) -> String {
        format!("expectation {}", self.name)
    }

    fn is_broken(&self, holds: &BooleanArray, row: usize) -> bool {
        if holds.is_null(row) { self.null_is_violation } else { !holds.value(row) }
    }

    fn violation(&self, batch: &RecordBatch, row: usize) -> Result<Violation, Problem> {
        let mut reason = format!("{} does not hold", self.text);
        for (at, (name, column)) in self.columns.iter().enumerate() {
            reason.push_str(if at == 0 { ": " } else { ", " });
            reason.push_str(&format!("{name} = {}", shown(batch, *column, row)?));
        }
        Ok(Violation { row, rule: self.name.clone(), reason })
    }
}

/// `n` of a `varchar(n)` or `char(n)` column.
fn declared_length(field: &Field) -> Option<u64> {
    let mark = field.metadata().get(SQL_TYPE_MARK)?;
    let (base, rest) = mark.split_once('(')?;
    let is_text = matches!(base.trim(), "varchar" | "character varying" | "char" | "character" | "bpchar");
    rest.split_once(')').filter(|_| is_text)?.0.trim().parse().ok()
}

/// A value as SQL would write it, clipped.
fn shown(batch: &RecordBatch, column: usize, row: usize) -> Result<String, Problem> {
    let array =
        batch.columns().get(column).ok_or_else(|| Problem::internal("a rule reads a column that is missing"))?;
    if array.is_null(row) {
        return Ok("NULL".to_owned());
    }
    let options = FormatOptions::default().with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"));
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(|error| problem::arrow(&error))?;
    let text = formatter.value(row).to_string();
    let mut clipped: String = text.chars().take(VALUE_CHARS).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    let is_text = matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    Ok(if is_text { format!("'{clipped}'") } else { clipped })
}

fn compile_rule(sessions: &Sessions, schema: &SchemaRef, expectation: &Expectation) -> Result<Rule, Problem> {
    let origin = format!("expectation {}", expectation.name);
    let source = Source::new(&expectation.expect, &origin);
    let explain = |error| problem::explain_in(error, &source);
    // The clock stands still in a compiled rule only for the planner's folding; rules are compiled anew for each run.
    let state = sessions.state(&SqlSession::new(Utc::now()).origin(origin.clone()), &Pins::default());
    let columns = DFSchema::try_from(Arc::clone(schema)).map_err(explain)?;
    let parsed = parse::expression(&expectation.expect, &origin)?;
    let expr = state.create_logical_expr_from_sql_expr(parsed, &columns).map_err(|error| {
        let problem = explain(error);
        if expectation.expect.to_lowercase().contains("select") {
            return Problem::new(ErrorKind::Unsupported, "an expectation cannot hold a subquery")
                .at(Place::of(&origin))
                .fix("join the other table in the model, and expect something of the joined column");
        }
        problem
    })?;
    let mut read: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
    read.sort_unstable();
    read.dedup();
    let predicate = state.create_physical_expr(expr, &columns).map_err(explain)?;
    let found = predicate.data_type(schema).map_err(explain)?;
    if !matches!(found, DataType::Boolean | DataType::Null) {
        let found = lode_core::sql_type::name(&found);
        return Err(Problem::new(
            ErrorKind::TypeMismatch,
            format!("an expectation must be true or false, not {found}"),
        )
        .at(Place::at(&origin, &expectation.expect, 1, 1))
        .fix("compare the value with something, e.g. `x > 0`"));
    }
    let columns = read.into_iter().filter_map(|name| schema.index_of(&name).ok().map(|at| (name, at))).collect();
    Ok(Rule {
        name: expectation.name.clone(),
        text: expectation.expect.clone(),
        on_violation: expectation.on_violation,
        null_is_violation: expectation.null_is,
        predicate,
        columns,
    })
}

#[cfg(test)]
mod tests;
