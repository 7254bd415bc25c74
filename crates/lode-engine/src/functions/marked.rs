//! Text that becomes a uuid, a json value or bytes, and bytes as text, as PostgreSQL reads and writes them.
//! A uuid stays text here, in its one canonical form, so that equal ids are equal text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use serde::de::IgnoredAny;
use uuid::Uuid;

use lode_core::sql_type::SQL_TYPE_MARK;

use super::kernel::{argument, by_row, data, over_arrays, strings};

/// Characters of a wrong value in an error.
const SHOWN_CHARS: usize = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    ToUuid,
    ToJson,
    IsJson,
    ToBytes,
    BytesToText,
}

impl Work {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ToUuid => "_to_uuid",
            Self::ToJson => "_to_json",
            Self::IsJson => "_is_json",
            Self::ToBytes => "_to_bytes",
            Self::BytesToText => "_bytes_to_text",
        }
    }

    fn mark(self) -> Option<&'static str> {
        match self {
            Self::ToUuid => Some("uuid"),
            Self::ToJson => Some("json"),
            _ => None,
        }
    }

    fn data_type(self) -> DataType {
        match self {
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

pub(super) fn functions() -> [ScalarUDF; 5] {
    [Work::ToUuid, Work::ToJson, Work::IsJson, Work::ToBytes, Work::BytesToText]
        .map(|work| super::function(Marked::new(work)))
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
            Work::BytesToText => is_bytes(from),
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
            if self.work == Work::BytesToText {
                return bytes_to_text(array);
            }
            let texts = strings(array)?;
            let rows = texts.len();
            Ok(match self.work {
                Work::ToUuid => Arc::new(by_row::<_, StringViewArray>(&[&texts], rows, |at| uuid(texts.value(at)))?),
                Work::ToJson => Arc::new(by_row::<_, StringViewArray>(&[&texts], rows, |at| json(texts.value(at)))?),
                Work::IsJson => {
                    Arc::new(by_row::<_, BooleanArray>(&[&texts], rows, |at| Ok(is_json(texts.value(at))))?)
                }
                _ => Arc::new(by_row::<_, BinaryViewArray>(&[&texts], rows, |at| bytes(texts.value(at)))?),
            })
        })
    }
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// Any spelling of a uuid that PostgreSQL reads: braces around it, and a hyphen behind any four digits or none.
/// Source: PostgreSQL 15, 8.12.
fn uuid(text: &str) -> Result<String> {
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    let mut digits = String::with_capacity(32);
    let mut is_in_place = !inner.ends_with('-');
    for c in inner.chars() {
        if c == '-' {
            is_in_place &= !digits.is_empty() && digits.len().is_multiple_of(4);
        } else {
            digits.push(c);
        }
    }
    let id = if is_in_place { Uuid::try_parse_ascii(digits.as_bytes()).ok() } else { None };
    let id = id.filter(|_| digits.len() == 32).ok_or_else(|| {
        data(format!("\"{}\" is not a uuid", shown(text)), "clean the text first, or keep it as text")
    })?;
    Ok(id.hyphenated().to_string())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn json(text: &str) -> Result<String> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            Err(data(format!("\"{}\" is no json: {error}", shown(text)), "clean the text first, or keep it as text"))
        }
    }
}

/// `\x01ab`, else the text itself with `\\` for a backslash and `\001` for a byte. Source: PostgreSQL 15, 8.4.
fn bytes(text: &str) -> Result<Vec<u8>> {
    let wrong = || data(format!("\"{}\" is no bytea", shown(text)), "write it in hex: '\\x01ab'");
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        return digits
            .chunks(2)
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

/// What stands beside a uuid in a comparison is read as one.
pub(super) fn compare_uuids(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_uuid = |expr: &Expr| {
        expr.to_field(schema)
            .is_ok_and(|(_, field)| field.metadata().get(SQL_TYPE_MARK).is_some_and(|mark| mark == "uuid"))
    };
    let wants = |expr: &Expr| expr.get_type(schema).is_ok_and(|from| is_text(&from)) && !is_uuid(expr);
    match expr {
        Expr::BinaryExpr(mut binary) if is_comparison(binary.op) => {
            let side = if is_uuid(&binary.left) && wants(&binary.right) {
                &mut binary.right
            } else if is_uuid(&binary.right) && wants(&binary.left) {
                &mut binary.left
            } else {
                return Ok(Transformed::no(Expr::BinaryExpr(binary)));
            };
            **side = Work::ToUuid.call(std::mem::take(side.as_mut()));
            Ok(Transformed::yes(Expr::BinaryExpr(binary)))
        }
        Expr::InList(mut list) if is_uuid(&list.expr) && list.list.iter().any(wants) => {
            for value in list.list.iter_mut().filter(|value| wants(value)) {
                *value = Work::ToUuid.call(std::mem::take(value));
            }
            Ok(Transformed::yes(Expr::InList(list)))
        }
        expr => Ok(Transformed::no(expr)),
    }
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
        for wrong in ["\\x1", "\\xzz", "\\", "a\\9", "\\400"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_uuid_has_one_form() {
        for spelling in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "{a0eebc999c0b4ef8-bb6d6bb9bd380a11}",
        ] {
            assert_eq!(uuid(spelling).unwrap(), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        }
        for wrong in ["a0eebc99", "", "a0e-ebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11-"] {
            assert!(uuid(wrong).is_err(), "{wrong}");
        }
    }
}
