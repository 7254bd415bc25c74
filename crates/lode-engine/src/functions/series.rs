//! `generate_series` in FROM over timestamps in microseconds.

use std::sync::Arc;

use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

/// The planner's own function reads nanoseconds only.
#[derive(Debug)]
pub(super) struct GenerateSeries {
    inner: Arc<TableFunction>,
}

impl GenerateSeries {
    pub(super) fn new(inner: Arc<TableFunction>) -> Self {
        Self { inner }
    }
}

impl TableFunctionImpl for GenerateSeries {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let exprs: Vec<Expr> = args.exprs().iter().map(in_nanoseconds).collect();
        self.inner.create_table_provider_with_args(TableFunctionArgs::new(&exprs, args.session()))
    }
}

fn in_nanoseconds(expr: &Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::TimestampMicrosecond(micros, zone), metadata) => {
            let nanos = micros.and_then(|micros| micros.checked_mul(1_000));
            Expr::Literal(ScalarValue::TimestampNanosecond(nanos, zone.clone()), metadata.clone())
        }
        other => other.clone(),
    }
}
