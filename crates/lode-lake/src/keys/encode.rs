//! Keys as 128-bit numbers: exact and in order where the columns fit, else a keyed hash.

use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, SchemaRef, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{TableDefinition, convert};

/// How one column becomes bytes. Types into which a column is widened in place have one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Integer,
    Float,
    Decimal,
    Date,
    Timestamp,
    Time,
    Uuid,
    Text,
    Bytes,
}

impl Kind {
    /// Of a column of a table.
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Time64(_) => Self::Time,
            DataType::FixedSizeBinary(16) => Self::Uuid,
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Self::Integer,
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Decimal128(..) => Self::Decimal,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Timestamp,
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Self::Text,
            DataType::Binary | DataType::BinaryView | DataType::LargeBinary => Self::Bytes,
            _ => return None,
        })
    }

    /// Bytes of a value; `None` where values differ in length.
    fn width(self) -> Option<usize> {
        match self {
            Self::Boolean => Some(1),
            Self::Date => Some(4),
            Self::Integer | Self::Float | Self::Timestamp | Self::Time => Some(8),
            Self::Decimal | Self::Uuid => Some(16),
            Self::Text | Self::Bytes => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Time => "time",
            Self::Uuid => "uuid",
            Self::Text => "text",
            Self::Bytes => "bytes",
        }
    }
}

#[derive(Debug, Clone)]
struct KeyColumn {
    field: Arc<Field>,
    kind: Kind,
}

/// Makes keys of the rows of one table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KeyEncoder {
    columns: Arc<[KeyColumn]>,
    is_exact: bool,
    /// The table's id is random and its own: nobody outside can make keys collide.
    hash_key: [u8; 16],
    signature: Arc<str>,
}

/// Keys of a batch.
#[derive(Debug, Default)]
pub struct KeySet {
    /// One a row.
    pub keys: Vec<u128>,
    /// Rows with a NULL in the key, which equals no other; their entry in `keys` says nothing. Sorted.
    pub without: Vec<u32>,
}

impl KeyEncoder {
    /// `None` when a column is not in the table, or of a type that makes no key (interval, list, composite).
    pub fn new(definition: &TableDefinition, columns: &[String]) -> Option<Self> {
        let mut found = Vec::with_capacity(columns.len());
        let mut signature = definition.id.to_string();
        for name in columns {
            let field = definition.schema.field_with_name(name).ok()?;
            let kind = Kind::of(field.data_type())?;
            // A decimal of another scale has other numbers for its values.
            let scale = if let DataType::Decimal128(_, scale) = field.data_type() { *scale } else { 0 };
            let id = crate::delta::schema::field_id(field);
            let id = id.map_or_else(|| name.clone(), |id| id.to_string());
            signature.push_str(&format!("|{id}:{}:{scale}", kind.name()));
            found.push(KeyColumn { field: Arc::new(field.clone()), kind });
        }
        let width: Option<usize> = found.iter().map(|column| column.kind.width()).sum();
        Some(Self {
            is_exact: width.is_some_and(|width| width <= 16) && !found.is_empty(),
            columns: found.into(),
            hash_key: *definition.id.0.as_bytes(),
            signature: signature.into(),
        })
        .filter(|encoder| !encoder.columns.is_empty())
    }

    /// The encoder of the table's own key, if it has one.
    pub fn of_table(definition: &TableDefinition) -> Option<Self> {
        Self::new(definition, &key_columns(definition))
    }

    /// What makes keys of two encoders comparable.
    pub(crate) fn signature(&self) -> &str {
        &self.signature
    }

    /// Keys of rows as statements have them, the columns by name.
    /// Errors: why a value does not fit the table.
    pub fn encode(&self, rows: &RecordBatch) -> Result<KeySet, String> {
        let columns: Result<Vec<ArrayRef>, String> = self
            .columns
            .iter()
            .map(|column| {
                let name = column.field.name();
                let array = rows.column_by_name(name).ok_or_else(|| format!("the key \"{name}\" is missing"))?;
                convert::to_stored(array, &column.field)
            })
            .collect();
        self.encode_stored(&columns?)
    }

    /// Keys of the key's columns as they stand in files, in the order of the key.
    pub(crate) fn encode_stored(&self, columns: &[ArrayRef]) -> Result<KeySet, String> {
        let rows = columns.first().map_or(0, |column| column.len());
        let mut set = KeySet { keys: Vec::with_capacity(rows), without: Vec::new() };
        let values: Result<Vec<Values>, String> =
            columns.iter().zip(self.columns.iter()).map(|(array, column)| Values::new(array, column)).collect();
        let values = values?;
        let mut bytes = Vec::with_capacity(64);
        for row in 0..rows {
            if values.iter().any(|value| value.array().is_null(row)) {
                set.without.push(row as u32);
                set.keys.push(0);
                continue;
            }
            bytes.clear();
            for value in &values {
                value.put(row, !self.is_exact, &mut bytes);
            }
            set.keys.push(self.number(&bytes));
        }
        Ok(set)
    }

    fn number(&self, bytes: &[u8]) -> u128 {
        if self.is_exact {
            let mut whole = [0_u8; 16];
            if let Some(front) = whole.get_mut(..bytes.len()) {
                front.copy_from_slice(bytes);
            }
            return u128::from_be_bytes(whole);
        }
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(bytes);
        hasher.finish128().as_u128()
    }

    /// Places of the key's columns in a schema of stored columns.
    pub(crate) fn places(&self, stored: &SchemaRef) -> Option<Vec<usize>> {
        self.columns
            .iter()
            .map(|column| stored.index_of(crate::delta::schema::stored_field(&column.field).name()).ok())
            .collect()
    }
}

impl KeySet {
    /// Rows that have a key, with it.
    pub fn present(&self) -> impl Iterator<Item = (usize, u128)> + '_ {
        let mut without = self.without.iter().copied().peekable();
        self.keys
            .iter()
            .copied()
            .enumerate()
            .filter(move |(row, _)| without.next_if(|at| *at as usize == *row).is_none())
    }
}

/// The columns of the table's key; none when it has none.
pub(crate) fn key_columns(definition: &TableDefinition) -> Vec<String> {
    let columns = definition.properties.get(lode_core::KEY);
    columns.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// A column in the one form of its kind.
enum Values {
    Boolean(ArrayRef),
    Integer(ArrayRef),
    Float(ArrayRef),
    Decimal(ArrayRef),
    Date(ArrayRef),
    Timestamp(ArrayRef),
    Time(ArrayRef),
    Uuid(ArrayRef),
    Text(ArrayRef),
    Bytes(ArrayRef),
}

impl Values {
    fn new(array: &ArrayRef, column: &KeyColumn) -> Result<Self, String> {
        let as_type = |wanted: &DataType| match array.data_type() == wanted {
            true => Ok(Arc::clone(array)),
            false => cast(array, wanted).map_err(|error| error.to_string()),
        };
        Ok(match column.kind {
            // Text in files, which may be spelled in several ways.
            Kind::Time => Self::Time(convert::from_stored(array, &column.field)?),
            Kind::Uuid => Self::Uuid(convert::from_stored(array, &column.field)?),
            Kind::Boolean => Self::Boolean(as_type(&DataType::Boolean)?),
            Kind::Integer => Self::Integer(as_type(&DataType::Int64)?),
            Kind::Float => Self::Float(as_type(&DataType::Float64)?),
            Kind::Decimal => Self::Decimal(Arc::clone(array)),
            Kind::Date => Self::Date(as_type(&DataType::Date32)?),
            Kind::Timestamp => {
                let zone = if let DataType::Timestamp(_, zone) = array.data_type() { zone.clone() } else { None };
                Self::Timestamp(as_type(&DataType::Timestamp(TimeUnit::Microsecond, zone))?)
            }
            Kind::Text => Self::Text(as_type(&DataType::Utf8View)?),
            Kind::Bytes => Self::Bytes(as_type(&DataType::BinaryView)?),
        })
    }

    fn array(&self) -> &ArrayRef {
        match self {
            Self::Boolean(array)
            | Self::Integer(array)
            | Self::Float(array)
            | Self::Decimal(array)
            | Self::Date(array)
            | Self::Timestamp(array)
            | Self::Time(array)
            | Self::Uuid(array)
            | Self::Text(array)
            | Self::Bytes(array) => array,
        }
    }

    /// Appends the bytes of a value, in the order of values; with `delimited`, so that two columns cannot run together.
    fn put(&self, row: usize, delimited: bool, bytes: &mut Vec<u8>) {
        let signed = |value: i64| (value ^ i64::MIN).to_be_bytes();
        let long = |value: &[u8], bytes: &mut Vec<u8>| {
            if delimited {
                bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
            }
            bytes.extend_from_slice(value);
        };
        match self {
            Self::Boolean(array) => bytes.push(u8::from(array.as_boolean().value(row))),
            Self::Integer(array) => bytes.extend_from_slice(&signed(array.as_primitive::<Int64Type>().value(row))),
            Self::Timestamp(array) => {
                bytes.extend_from_slice(&signed(array.as_primitive::<TimestampMicrosecondType>().value(row)));
            }
            Self::Time(array) => {
                bytes.extend_from_slice(&signed(array.as_primitive::<Time64MicrosecondType>().value(row)));
            }
            Self::Uuid(array) => bytes.extend_from_slice(array.as_fixed_size_binary().value(row)),
            Self::Date(array) => {
                let days = array.as_primitive::<Date32Type>().value(row);
                bytes.extend_from_slice(&(days ^ i32::MIN).to_be_bytes());
            }
            Self::Decimal(array) => {
                let number = array.as_primitive::<Decimal128Type>().value(row);
                bytes.extend_from_slice(&(number ^ i128::MIN).to_be_bytes());
            }
            Self::Float(array) => {
                let value = array.as_primitive::<Float64Type>().value(row);
                // One zero and one NaN, as `=` has it in PostgreSQL.
                let value = if value == 0.0 { 0.0 } else { value };
                let bits = if value.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { value.to_bits() };
                let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
                bytes.extend_from_slice(&ordered.to_be_bytes());
            }
            Self::Text(array) => long(array.as_string_view().value(row).as_bytes(), bytes),
            Self::Bytes(array) => long(array.as_binary_view().value(row), bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int16Array, Int64Array, StringArray, UInt64Array};
    use arrow::datatypes::Schema;

    use super::*;

    fn encoder(fields: Vec<Field>) -> KeyEncoder {
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let definition = TableDefinition::create("a.b".parse().unwrap(), &Schema::new(fields), Vec::new()).unwrap();
        KeyEncoder::new(&definition, &names).unwrap()
    }

    #[test]
    fn exact_keys_keep_the_order_of_their_values() {
        let encoder = encoder(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Float64, true)]);
        assert!(encoder.is_exact);
        let a: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -1, -1, 0, 0, 7]));
        let b: ArrayRef = Arc::new(Float64Array::from(vec![5.0, -2.0, 1.0, f64::NEG_INFINITY, -0.0, f64::NAN]));
        let set = encoder.encode_stored(&[a, b]).unwrap();
        assert!(set.keys.is_sorted() && set.without.is_empty());
        let zero = |value: f64| {
            let arrays: Vec<ArrayRef> =
                vec![Arc::new(Int64Array::from(vec![0])), Arc::new(Float64Array::from(vec![value]))];
            encoder.encode_stored(&arrays).unwrap().keys[0]
        };
        assert_eq!(zero(0.0), zero(-0.0));
        assert_eq!(zero(f64::NAN), zero(-f64::NAN));
    }

    #[test]
    fn a_widened_column_has_the_same_keys_and_a_null_has_none() {
        let encoder = encoder(vec![Field::new("a", DataType::Int64, true)]);
        let narrow: ArrayRef = Arc::new(Int16Array::from(vec![Some(-3), None, Some(4)]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![Some(-3), None, Some(4)]));
        let (narrow, wide) = (encoder.encode_stored(&[narrow]).unwrap(), encoder.encode_stored(&[wide]).unwrap());
        assert_eq!(narrow.keys, wide.keys);
        assert_eq!(narrow.without, [1]);
        assert_eq!(wide.present().map(|(row, _)| row).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn texts_of_two_columns_do_not_run_together() {
        let encoder =
            encoder(vec![Field::new("a", DataType::Utf8View, true), Field::new("b", DataType::Utf8View, true)]);
        assert!(!encoder.is_exact);
        let arrays = |a: &str, b: &str| -> u128 {
            let arrays: Vec<ArrayRef> =
                vec![Arc::new(StringArray::from(vec![a])), Arc::new(StringArray::from(vec![b]))];
            encoder.encode_stored(&arrays).unwrap().keys[0]
        };
        assert_ne!(arrays("ab", "c"), arrays("a", "bc"));
        assert_eq!(arrays("ab", "c"), arrays("ab", "c"));
    }

    #[test]
    fn what_has_no_one_form_is_no_key() {
        let unit = arrow::datatypes::IntervalUnit::MonthDayNano;
        for data_type in [DataType::Interval(unit), DataType::new_list(DataType::Int64, true)] {
            let schema = Schema::new(vec![Field::new("a", data_type, true)]);
            let definition = TableDefinition::create("a.b".parse().unwrap(), &schema, Vec::new()).unwrap();
            assert!(KeyEncoder::new(&definition, &["a".to_owned()]).is_none());
        }
        let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(
            encoder(vec![Field::new("a", DataType::Int64, true)])
                .encode_stored(&[numbers])
                .is_ok_and(|set| set.without == [0])
        );
    }
}
