//! What the families share: arguments as arrays, scalars kept scalar.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarFunctionArgs};

use lode_core::{ErrorKind, Problem};

/// Runs `work` over the arguments as arrays of one length; all-scalar calls give a scalar.
pub(super) fn over_arrays(
    args: &ScalarFunctionArgs,
    work: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let is_scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if is_scalar { 1 } else { args.number_rows };
    let arrays: Result<Vec<ArrayRef>> = args.args.iter().map(|value| value.clone().into_array(rows)).collect();
    let answer = work(&arrays?)?;
    if is_scalar {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?));
    }
    Ok(ColumnarValue::Array(answer))
}

/// Text of any width as plain strings.
pub(super) fn strings(array: &ArrayRef) -> Result<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// One argument by position.
pub(super) fn argument(arrays: &[ArrayRef], at: usize) -> Result<&ArrayRef> {
    arrays.get(at).ok_or_else(|| DataFusionError::Internal("an argument is missing".to_owned()))
}

/// Builds an array row by row: NULL where any argument is NULL.
pub(super) fn by_row<T, A: FromIterator<Option<T>>>(
    arrays: &[&dyn Array],
    rows: usize,
    mut row: impl FnMut(usize) -> Result<T>,
) -> Result<A> {
    (0..rows)
        .map(|at| if arrays.iter().any(|array| array.is_null(at)) { Ok(None) } else { row(at).map(Some) })
        .collect()
}

/// What the expressions of a plan's node can name.
pub(super) fn inputs(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = plan {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    Ok(schema)
}

/// The begin of a value, for an error.
pub(super) fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

/// An error of the data, in our words.
pub(super) fn data(what: impl Into<String>, fix: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Problem::new(ErrorKind::Data, what).fix(fix)))
}

/// An error for what is left out on purpose.
pub(super) fn unsupported(what: impl Into<String>, fix: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(Problem::new(ErrorKind::Unsupported, what).fix(fix)))
}
