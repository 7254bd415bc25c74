//! Functions and operators that PostgreSQL has and the planner lacks, or answers otherwise. One file a family.

mod aggregates;
mod arithmetic;
pub(crate) mod casts;
mod datetime;
mod floats;
pub(crate) mod intervals;
mod kernel;
pub(crate) mod marked;
mod math;
mod patterns;
mod series;
pub(crate) mod types;
mod zones;

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::AnalyzerRule;

/// Builds a state with all families.
pub(crate) fn build(builder: SessionStateBuilder) -> Result<SessionState> {
    let mut state = builder.build();
    let known = |name: &str| state.udf(name);
    let (date_trunc, date_part, round) = (known("date_trunc")?, known("date_part")?, known("round")?);
    let ours = datetime::functions(date_trunc, date_part)
        .into_iter()
        .chain(math::functions(round))
        .chain(arithmetic::functions())
        .chain(casts::functions())
        .chain(marked::functions())
        .chain([aggregates::row_key()])
        .chain(zones::functions())
        .chain(intervals::functions());
    for function in ours {
        // With its aliases, or a rebuilt state would register the old one under its own name again.
        state.deregister_udf(function.name())?;
        state.register_udf(Arc::new(function))?;
    }
    // PostgreSQL's other names of aggregates.
    for (name, alias) in [("var", "variance"), ("bool_and", "every")] {
        let aggregate = state.udaf(name)?.as_ref().clone().with_aliases([alias]);
        state.register_udaf(Arc::new(aggregate))?;
    }
    if let Some(inner) = state.table_functions().get("generate_series").cloned() {
        state.register_udtf("generate_series", Arc::new(series::GenerateSeries::new(inner)));
    }
    let extract = datetime::Extract(state.udf("date_part")?);
    // Planners are asked in order, and the first that answers wins.
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![
        Arc::new(marked::Literals),
        Arc::new(arithmetic::Operators),
        Arc::new(intervals::Operators),
        Arc::new(extract),
    ];
    planners.extend(FunctionRegistry::expr_planners(&state));
    let rule = Arc::new(casts::Casts);
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(floats::Floats)];
    rules.extend(state.analyzer().rules.iter().cloned());
    let state = SessionStateBuilder::new_from_existing(state)
        .with_analyzer_rules(rules)
        .with_expr_planners(planners)
        .with_analyzer_rule(Arc::clone(&rule) as _)
        .with_analyzer_rule(Arc::new(aggregates::Sums));
    let mut state = state.with_type_planner(Arc::new(types::Types)).build();
    // Last: the list of rules above is a new analyzer, which knows none yet.
    state.register_function_rewrite(rule)?;
    state.register_function_rewrite(Arc::new(aggregates::Averages))?;
    Ok(state)
}

/// A function under its own name and others.
fn function(inner: impl datafusion::logical_expr::ScalarUDFImpl + 'static) -> ScalarUDF {
    ScalarUDF::new_from_impl(inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// Names of all kinds, without those that only operators are planned to.
    fn names() -> BTreeMap<&'static str, Vec<String>> {
        let state = build(SessionStateBuilder::new().with_default_features()).unwrap();
        let listed = |names: Vec<&String>| {
            let mut names: Vec<String> = names.into_iter().filter(|name| !name.starts_with('_')).cloned().collect();
            names.sort();
            names
        };
        BTreeMap::from([
            ("Of a row", listed(state.scalar_functions().keys().collect())),
            ("Aggregates", listed(state.aggregate_functions().keys().collect())),
            ("Of a window", listed(state.window_functions().keys().collect())),
            ("Tables", listed(state.table_functions().keys().collect())),
        ])
    }

    #[test]
    fn the_page_of_functions_names_all_of_them() {
        const HEAD: &str = "## All names\n";
        let mut list = format!(
            "{HEAD}\nMade by the tests; `LODE_BLESS=1 cargo nextest run --workspace -E 'test(the_page_of_functions)'` writes it anew.\n"
        );
        for (kind, names) in names() {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            list.push_str(&format!("\n{kind}: {}\n", names.join(", ")));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/functions.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (before, known) = page.find(HEAD).map_or((page.as_str(), ""), |at| page.split_at(at));
        if std::env::var_os("LODE_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&path, format!("{}\n\n{list}", before.trim_end())).unwrap();
            return;
        }
        assert_eq!(
            known, list,
            "docs/reference/functions.md names other functions; write it anew: LODE_BLESS=1 cargo nextest run --workspace -E 'test(the_page_of_functions)'"
        );
    }
}
