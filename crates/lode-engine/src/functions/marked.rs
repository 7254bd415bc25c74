//! Text that becomes a uuid, a json value or bytes, and back, as PostgreSQL reads and writes them. A uuid is 16 bytes, json is
//! text with the mark of its type.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeBinaryBuilder, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde::de::IgnoredAny;
use uuid::Uuid;

use lode_core::sql_type::SQL_TYPE_MARK;
use lode_core::values;

use super::kernel::{argument, by_row, clipped, data, over_arrays, strings, unsupported};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    ToUuid,
    /// NULL for what is none.
    TryUuid,
    UuidToText,
    ToJson,
    ToJsonb,
    TryJson,
    IsJson,
    JsonToText,
    ToBytes,
    BytesToText,
}

impl Work {
    const ALL: [Self; 10] = [
        Self::ToUuid,
        Self::TryUuid,
        Self::UuidToText,
        Self::ToJson,
        Self::ToJsonb,
        Self::TryJson,
        Self::IsJson,
        Self::JsonToText,
        Self::ToBytes,
        Self::BytesToText,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ToUuid => "_to_uuid",
            Self::TryUuid => "_try_uuid",
            Self::UuidToText => "_uuid_to_text",
            Self::ToJson => "_to_json",
            Self::ToJsonb => "_to_jsonb",
            Self::JsonToText => "_json_to_text",
            Self::TryJson => "_try_json",
            Self::IsJson => "_is_json",
            Self::ToBytes => "_to_bytes",
            Self::BytesToText => "_bytes_to_text",
        }
    }

    fn mark(self) -> Option<&'static str> {
        match self {
            Self::ToUuid | Self::TryUuid => Some("uuid"),
            Self::ToJson | Self::TryJson => Some("json"),
            Self::ToJsonb => Some("jsonb"),
            _ => None,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::ToUuid | Self::TryUuid => DataType::FixedSizeBinary(16),
            Self::IsJson => DataType::Boolean,
            Self::ToBytes => DataType::BinaryView,
            _ => DataType::Utf8View,
        }
    }

    /// A call of the function.
    pub(super) fn call(self, argument: Expr) -> Expr {
        Arc::new(super::function(Marked::new(self))).call(vec![argument])
    }
}

pub(super) fn functions() -> [ScalarUDF; 10] {
    Work::ALL.map(|work| super::function(Marked::new(work)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Marked {
    work: Work,
    signature: Signature,
}

impl Marked {
    fn new(work: Work) -> Self {
        Self { work, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Marked {
    fn name(&self) -> &str {
        self.work.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.work.data_type())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let from = args.arg_fields.first().map_or(&DataType::Null, |field| field.data_type());
        let fits = match self.work {
            Work::BytesToText | Work::UuidToText => is_bytes(from),
            _ => is_text(from) || from.is_null(),
        };
        if !fits {
            let (from, to) = (lode_core::sql_type::name(from), self.work.mark().unwrap_or("bytea"));
            return Err(DataFusionError::Plan(format!("cannot cast type {from} to {to}")));
        }
        let mark = self.work.mark().map(|mark| (SQL_TYPE_MARK.to_owned(), mark.to_owned()));
        let field = Field::new(self.name(), self.work.data_type(), true);
        Ok(Arc::new(field.with_metadata(mark.into_iter().collect())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let array = argument(arrays, 0)?;
            match self.work {
                Work::BytesToText => return bytes_to_text(array),
                Work::UuidToText => return Ok(Arc::new(uuid_to_text(array)?)),
                // The same text, without the mark of its type.
                Work::JsonToText => return Ok(cast(array, &DataType::Utf8View)?),
                _ => {}
            }
            let texts = strings(array)?;
            let rows = texts.len();
            Ok(match self.work {
                Work::ToUuid => uuids(by_row::<_, Vec<_>>(&[&texts], rows, |at| uuid(texts.value(at)))?),
                Work::TryUuid => uuids(texts.iter().map(|text| uuid(text?).ok()).collect()),
                Work::ToJson | Work::ToJsonb => {
                    Arc::new(by_row::<_, StringViewArray>(&[&texts], rows, |at| json(texts.value(at)))?)
                }
                Work::TryJson => {
                    Arc::new(texts.iter().map(|text| text.filter(|text| is_json(text))).collect::<StringViewArray>())
                }
                Work::IsJson => {
                    Arc::new(by_row::<_, BooleanArray>(&[&texts], rows, |at| Ok(is_json(texts.value(at))))?)
                }
                _ => Arc::new(by_row::<_, BinaryViewArray>(&[&texts], rows, |at| bytes(texts.value(at)))?),
            })
        })
    }
}

fn uuids(values: Vec<Option<[u8; 16]>>) -> ArrayRef {
    let mut ids = FixedSizeBinaryBuilder::with_capacity(values.len(), 16);
    for value in values {
        // Sixteen bytes are what the builder takes.
        match value {
            Some(value) if ids.append_value(value).is_ok() => {}
            _ => ids.append_null(),
        }
    }
    Arc::new(ids.finish())
}

/// Ids in their one spelling.
pub(super) fn uuid_to_text(array: &ArrayRef) -> Result<StringViewArray> {
    let wrong = || DataFusionError::Internal("a uuid has 16 bytes".to_owned());
    let ids = array.as_fixed_size_binary_opt().ok_or_else(wrong)?;
    let text = |id: &[u8]| Uuid::from_slice(id).map(|id| id.hyphenated().to_string()).map_err(|_| wrong());
    ids.iter().map(|id| id.map(text).transpose()).collect()
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn uuid(text: &str) -> Result<[u8; 16]> {
    values::uuid(text.trim().as_bytes())
        .ok_or_else(|| data(format!("\"{}\" is not a uuid", clipped(text)), "clean the text first, or keep it as text"))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn json(text: &str) -> Result<String> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(data(format!("\"{}\" is no json: {error}", clipped(text)), "clean the text first, or keep it as text"))
        }
    }
}

/// `\x01ab`, else the text itself with `\\` for a backslash and `\001` for a byte. Source: PostgreSQL 15, 8.4.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let wrong = || data(format!("\"{}\" is no bytea", clipped(text)), "write it in hex: '\\x01ab'");
    if let Some(digits) = text.strip_prefix("\\x") {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        // Blanks may stand between pairs of digits, not within one.
        let words = digits.as_bytes().split(u8::is_ascii_whitespace).flat_map(|word| word.chunks(2));
        return words
            .map(|pair| match pair {
                [high, low] => Some(value(*high)? << 4 | value(*low)?),
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .ok_or_else(wrong);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                after
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                after
            }
            (b'\\', _) => return Err(wrong()),
            (byte, after) => {
                out.push(*byte);
                after
            }
        };
    }
    Ok(out)
}

fn bytes_to_text(array: &ArrayRef) -> Result<ArrayRef> {
    let values = cast(array, &DataType::BinaryView)?;
    let values = values.as_binary_view();
    let text = |bytes: &[u8]| {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        ['\\', 'x'].into_iter().chain(digits).collect::<String>()
    };
    Ok(Arc::new(values.iter().map(|value| value.map(text)).collect::<StringViewArray>()))
}

/// Literals beside a uuid or an interval are read as one, wherever PostgreSQL settles their type by their neighbours.
/// Intervals of a range or a list are compared by their length.
/// Errors: `Unsupported` for a comparison of json.
pub(super) fn read_literals(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut is_changed = false;
    match &mut expr {
        Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
            refuse_json([binary.left.as_ref(), binary.right.as_ref()], schema)?;
            is_changed |= settle(&mut [&mut binary.left, &mut binary.right], schema);
        }
        Expr::Between(between) => {
            let mut operands = [between.expr.as_mut(), between.low.as_mut(), between.high.as_mut()];
            is_changed |= settle(&mut operands, schema);
            is_changed |= by_length(&mut operands, schema);
        }
        Expr::InList(list) => {
            refuse_json([list.expr.as_ref()], schema)?;
            let mut operands: Vec<&mut Expr> = std::iter::once(list.expr.as_mut()).chain(&mut list.list).collect();
            is_changed |= settle(&mut operands, schema);
            is_changed |= by_length(&mut operands, schema);
        }
        Expr::Case(case) => {
            let (mut whens, mut thens): (Vec<&mut Expr>, Vec<&mut Expr>) =
                case.when_then_expr.iter_mut().map(|(when, then)| (when.as_mut(), then.as_mut())).unzip();
            if let Some(operand) = &mut case.expr {
                whens.push(operand);
                is_changed |= settle(&mut whens, schema);
                is_changed |= by_length(&mut whens, schema);
            }
            thens.extend(case.else_expr.as_deref_mut());
            is_changed |= settle(&mut thens, schema);
        }
        Expr::ScalarFunction(call) if matches!(call.func.name(), "coalesce" | "nullif" | "greatest" | "least") => {
            let mut operands: Vec<&mut Expr> = call.args.iter_mut().collect();
            is_changed |= settle(&mut operands, schema);
        }
        _ => {}
    }
    Ok(Transformed::new_transformed(expr, is_changed))
}

/// Comparisons with literals, before the planner looks at their types.
#[derive(Debug)]
pub(super) struct Literals;

impl ExprPlanner for Literals {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if matches!(expr.op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
            settle(&mut [&mut expr.left, &mut expr.right], schema);
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// Reads the text literals among operands as the uuid or interval beside them.
fn settle(operands: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let type_of = |expr: &Expr| expr.get_type(schema).ok();
    let wanted = operands.iter().filter_map(|expr| type_of(expr)).find(|data_type| {
        matches!(data_type, DataType::FixedSizeBinary(16) | DataType::Interval(IntervalUnit::MonthDayNano))
    });
    let Some(wanted) = wanted else { return false };
    let mut is_changed = false;
    for operand in operands {
        let is_literal = matches!(operand, Expr::Literal(value, _) if value.try_as_str().is_some());
        if is_literal && type_of(operand).is_some_and(|data_type| is_text(&data_type)) {
            let text = std::mem::take(*operand);
            **operand = match wanted {
                DataType::FixedSizeBinary(_) => Work::ToUuid.call(text),
                _ => super::casts::interval_of(text),
            };
            is_changed = true;
        }
    }
    is_changed
}

/// Puts the lengths of intervals in their place, if all operands are intervals.
fn by_length(operands: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let is_interval = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Interval(_)));
    if operands.is_empty() || !operands.iter().all(|expr| is_interval(expr)) {
        return false;
    }
    for operand in operands {
        **operand = super::intervals::length_of(std::mem::take(*operand));
    }
    true
}

fn refuse_json<const N: usize>(operands: [&Expr; N], schema: &DFSchema) -> Result<()> {
    match operands.iter().any(|expr| has_json(expr, schema)) {
        true => Err(unsupported("json values cannot be compared", "compare their text: `x::text = …`")),
        false => Ok(()),
    }
}

/// `json` or `jsonb`, if a field is marked as that.
pub(super) fn json_mark(field: &Field) -> Option<&str> {
    field.metadata().get(SQL_TYPE_MARK).map(String::as_str).filter(|mark| matches!(*mark, "json" | "jsonb"))
}

pub(super) fn has_json(expr: &Expr, schema: &DFSchema) -> bool {
    expr.to_field(schema).is_ok_and(|(_, field)| json_mark(&field).is_some())
}

const fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_both_spellings() {
        assert_eq!(bytes("\\x01 aB").unwrap(), [1, 0xab]);
        assert!(bytes("\\x").unwrap().is_empty());
        assert_eq!(bytes("a\\\\b\\001é").unwrap(), [b'a', b'\\', b'b', 1, 0xc3, 0xa9]);
        for wrong in ["\\x1", "\\x0 1", "\\xzz", "\\", "a\\9", "\\400"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
