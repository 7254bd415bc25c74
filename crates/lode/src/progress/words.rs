//! Words and numbers of progress lines.

use std::time::Duration;

use lode_core::OnViolation;
use lode_jobs::{NodeInfo, NodeOutcome, NodeStatus, RunTotals};

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let figures = number.to_string();
    let mut out = String::with_capacity(figures.len() + figures.len() / 3);
    for (at, figure) in figures.chars().enumerate() {
        if at > 0 && (figures.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(figure);
    }
    out
}

pub(crate) fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `0.12s`, `75.0s`, `3m 20s`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.2}s", time.as_secs_f64()),
        10..120 => format!("{:.1}s", time.as_secs_f64()),
        long => format!("{}m {:02}s", long / 60, long % 60),
    }
}

/// `12,345 rows, 3 quarantined`; empty for what has no rows.
pub(super) fn rows(outcome: &NodeOutcome) -> String {
    let mut parts = Vec::new();
    if let Some(rows) = outcome.rows.filter(|_| !outcome.is_reused) {
        parts.push(plural(rows, "row"));
    }
    if outcome.rows_quarantined > 0 {
        parts.push(format!("{} quarantined", count(outcome.rows_quarantined)));
    }
    if outcome.rows_dropped > 0 {
        parts.push(format!("{} dropped", count(outcome.rows_dropped)));
    }
    let warned = outcome.rules.iter().filter(|rule| rule.on_violation == OnViolation::Warn && rule.violations > 0);
    parts.extend(warned.map(|rule| format!("{} warned: {}", plural(rule.violations, "row"), rule.rule)));
    parts.join(", ")
}

/// dbt's verb for the end of a node: `OK created`, `ERROR creating`, `PASS`, `FAIL 3`, ….
pub(super) fn ending(node: &NodeInfo, outcome: &NodeOutcome) -> String {
    let (done, doing) = match node.resource_type.as_str() {
        "seed" => ("loaded", "loading"),
        "ingest" => ("landed", "landing"),
        "snapshot" => ("snapshotted", "snapshotting"),
        _ => ("created", "creating"),
    };
    let failures = || outcome.failures.map(|failures| format!(" {failures}")).unwrap_or_default();
    let is_test = matches!(node.resource_type.as_str(), "test" | "unit_test");
    match outcome.status {
        NodeStatus::Success if is_test => "OK".to_owned(),
        NodeStatus::Error if is_test => "ERROR".to_owned(),
        NodeStatus::Success => format!("OK {done}"),
        NodeStatus::NoOp => "NO-OP".to_owned(),
        NodeStatus::PartialSuccess => format!("PARTIAL SUCCESS {doing}"),
        NodeStatus::Error => format!("ERROR {doing}"),
        NodeStatus::Skipped => "SKIP".to_owned(),
        NodeStatus::Pass => "PASS".to_owned(),
        NodeStatus::Warn => format!("WARN{}", failures()),
        NodeStatus::Fail => format!("FAIL{}", failures()),
    }
}

/// dbt's bracket at the end of the line, without colour: `SUCCESS 12 in 0.12s`.
pub(super) fn bracket(outcome: &NodeOutcome) -> String {
    let time = seconds(outcome.elapsed);
    match outcome.status {
        NodeStatus::Skipped => "SKIP".to_owned(),
        NodeStatus::Success if outcome.is_reused => format!("REUSED in {time}"),
        NodeStatus::Success => match rows(outcome) {
            rows if rows.is_empty() => format!("SUCCESS in {time}"),
            rows => format!("SUCCESS {rows} in {time}"),
        },
        NodeStatus::Warn | NodeStatus::PartialSuccess if outcome.failures.is_none() && !rows(outcome).is_empty() => {
            format!("{} {} in {time}", outcome.status.as_str().to_uppercase(), rows(outcome))
        }
        status => {
            let failures = outcome.failures.filter(|_| matches!(status, NodeStatus::Fail | NodeStatus::Warn));
            let failures = failures.map(|failures| format!(" {failures}")).unwrap_or_default();
            format!("{}{failures} in {time}", status.as_str().to_uppercase())
        }
    }
}

/// dbt's last line.
pub(super) fn totals(totals: &RunTotals) -> String {
    format!(
        "Done. PASS={} WARN={} ERROR={} SKIP={} NO-OP={} TOTAL={}",
        totals.pass,
        totals.warn,
        totals.error,
        totals.skip,
        totals.no_op,
        totals.total()
    )
}

#[cfg(test)]
mod tests {
    use lode_core::RuleCount;

    use super::*;

    #[test]
    fn numbers_have_thousands() {
        assert_eq!([count(7), count(999), count(1000), count(1234567)], ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn rows_that_were_only_warned_of_are_told() {
        let mut outcome = NodeOutcome::new(NodeStatus::Success, Default::default(), Duration::from_millis(120));
        outcome.rows = Some(12);
        let rule = |rule: &str, on_violation, violations| RuleCount { rule: rule.into(), on_violation, violations };
        outcome.rules = vec![
            rule("amount_is_positive", OnViolation::Warn, 3),
            rule("never", OnViolation::Warn, 0),
            rule("dropped", OnViolation::Drop, 9),
        ];
        assert_eq!(bracket(&outcome), "SUCCESS 12 rows, 3 rows warned: amount_is_positive in 0.12s");
        outcome.status = NodeStatus::Warn;
        assert_eq!(bracket(&outcome), "WARN 12 rows, 3 rows warned: amount_is_positive in 0.12s");
    }

    #[test]
    fn times_grow_coarser() {
        let shown = [120, 12_340, 200_000].map(|millis| seconds(Duration::from_millis(millis)));
        assert_eq!(shown, ["0.12s", "12.3s", "3m 20s"]);
    }
}
