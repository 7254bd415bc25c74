//! `mod`, `div`, `sign`, and `round` of floats half to even.

use std::sync::Arc;

use arrow::array::types::Decimal128Type;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::kernel::{argument, by_row, over_arrays};

pub(super) fn functions(round: Arc<ScalarUDF>) -> Vec<ScalarUDF> {
    let of = |kind| Math { kind, signature: signature(kind) };
    vec![
        super::function(of(Kind::Mod)),
        super::function(of(Kind::Div)),
        super::function(of(Kind::Sign)),
        super::function(Round { inner: round, signature: Signature::user_defined(Volatility::Immutable) }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Mod,
    Div,
    Sign,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Math {
    kind: Kind,
    signature: Signature,
}

fn signature(kind: Kind) -> Signature {
    match kind {
        Kind::Mod | Kind::Div => Signature::numeric(2, Volatility::Immutable),
        Kind::Sign => Signature::numeric(1, Volatility::Immutable),
    }
}

impl ScalarUDFImpl for Math {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Mod => "mod",
            Kind::Div => "div",
            Kind::Sign => "sign",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let first = types.first().cloned().unwrap_or(DataType::Float64);
        Ok(match (self.kind, first) {
            (Kind::Mod, kept) => kept,
            (Kind::Div, DataType::Decimal128(_, _)) => DataType::Decimal128(38, 0),
            (Kind::Div, kept) => kept,
            (Kind::Sign, DataType::Decimal128(_, _)) => DataType::Decimal128(38, 0),
            (Kind::Sign, _) => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let first = argument(arrays, 0)?;
            match self.kind {
                Kind::Mod => Ok(numeric::rem(first, argument(arrays, 1)?)?),
                Kind::Div => div(first, argument(arrays, 1)?),
                Kind::Sign => sign(first),
            }
        })
    }
}

/// The quotient cut to an integer.
fn div(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    match left.data_type() {
        DataType::Decimal128(_, _) => {
            // Signature brought both to one scale, so the raw numbers divide.
            let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
            let answer: Decimal128Array = by_row(&[left, right], left.len(), |at| {
                left.value(at).checked_div(right.value(at)).ok_or_else(|| ArrowError::DivideByZero.into())
            })?;
            Ok(Arc::new(answer.with_precision_and_scale(38, 0)?))
        }
        DataType::Float32 | DataType::Float64 => {
            let (left, right) = (cast(left, &DataType::Float64)?, cast(right, &DataType::Float64)?);
            let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
            let answer: Float64Array = by_row(&[left, right], left.len(), |at| {
                if right.value(at) == 0.0 {
                    return Err(ArrowError::DivideByZero.into());
                }
                Ok((left.value(at) / right.value(at)).trunc())
            })?;
            Ok(cast(&answer, left.data_type())?)
        }
        kept => {
            let (first, second) = (cast(left, &DataType::Int64)?, cast(right, &DataType::Int64)?);
            let (first, second) = (first.as_primitive::<Int64Type>(), second.as_primitive::<Int64Type>());
            let answer: Int64Array = by_row(&[first, second], first.len(), |at| {
                first.value(at).checked_div(second.value(at)).ok_or_else(|| ArrowError::DivideByZero.into())
            })?;
            Ok(cast(&answer, kept)?)
        }
    }
}

fn sign(array: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::Decimal128(_, _) = array.data_type() {
        let values = array.as_primitive::<Decimal128Type>();
        let answer: Decimal128Array = by_row(&[values], values.len(), |at| Ok(values.value(at).signum()))?;
        return Ok(Arc::new(answer.with_precision_and_scale(38, 0)?));
    }
    let values = cast(array, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let answer: Float64Array = by_row(&[values], values.len(), |at| {
        let value = values.value(at);
        Ok(if value == 0.0 || value.is_nan() { value.abs() } else { value.signum() })
    })?;
    Ok(Arc::new(answer))
}

/// `expr` rounded to a whole number, for casts to integers.
pub(super) fn rounded(expr: Expr) -> Expr {
    Arc::new(super::function(RoundToWhole { signature: Signature::any(1, Volatility::Immutable) })).call(vec![expr])
}

/// A float half to even, a numeric half away from zero; the type stays.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundToWhole {
    signature: Signature,
}

impl ScalarUDFImpl for RoundToWhole {
    fn name(&self) -> &str {
        "round_to_whole"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Float64))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        over_arrays(&args, |arrays| {
            let array = argument(arrays, 0)?;
            if let DataType::Decimal128(precision, scale) = array.data_type() {
                let one = 10_i128.pow(u32::from(scale.unsigned_abs()));
                let values = array.as_primitive::<Decimal128Type>();
                let answer: Decimal128Array = by_row(&[values], values.len(), |at| {
                    let value = values.value(at);
                    let rest = value % one;
                    let away = if rest.abs() * 2 >= one { one * value.signum() } else { 0 };
                    Ok(value - rest + away)
                })?;
                return Ok(Arc::new(answer.with_precision_and_scale(*precision, *scale)?));
            }
            half_to_even(array)
        })
    }
}

fn half_to_even(array: &ArrayRef) -> Result<ArrayRef> {
    let values = cast(array, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let answer: Float64Array = by_row(&[values], values.len(), |at| Ok(values.value(at).round_ties_even()))?;
    Ok(cast(&answer, array.data_type())?)
}

/// PostgreSQL rounds `double precision` half to even and `numeric` half away from zero.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Round {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Round {
    fn name(&self) -> &str {
        "round"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        // The digits are an integer; a whole number is rounded as numeric.
        let mut wanted = types.to_vec();
        if let Some(first) = wanted.first_mut() {
            if first.is_integer() {
                *first = DataType::Decimal128(38, 0);
            } else if !matches!(first, DataType::Decimal128(..) | DataType::Float32 | DataType::Float64) {
                *first = DataType::Float64;
            }
        }
        if let Some(second) = wanted.get_mut(1) {
            *second = DataType::Int32;
        }
        Ok(wanted)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<arrow::datatypes::FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_float = args.arg_fields.first().is_some_and(|field| field.data_type().is_floating());
        if !is_float || args.args.len() > 1 {
            return self.inner.invoke_with_args(args);
        }
        over_arrays(&args, |arrays| half_to_even(argument(arrays, 0)?))
    }
}
