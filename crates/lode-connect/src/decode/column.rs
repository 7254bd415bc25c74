//! Columns while they grow: values in plain vectors, the rows that are NULL in a list, text as views into its block.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
    StringViewArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono_tz::Tz;
use lode_core::{ErrorKind, Problem, sql_type};

use super::values::time::{self, Instant, Pattern, Stamp};
use super::values::{self, number};

/// Why a value did not go into its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Not of the column's type, or outside its range.
    Type,
    /// A local time that the clock of the source's zone jumped over.
    Gap,
}

/// How values of one file are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) point: u8,
    pub(super) zone: Option<Tz>,
    pub(super) patterns: Vec<Pattern>,
    /// In place of the default list.
    pub(super) null_values: Option<Vec<Vec<u8>>>,
    pub(super) is_declared: bool,
}

impl Reading {
    pub(super) fn is_null(&self, trimmed: &[u8]) -> bool {
        match &self.null_values {
            _ if trimmed.is_empty() => true,
            // A declared double reads NaN as the number it is.
            None if self.is_declared && trimmed.eq_ignore_ascii_case(b"nan") => false,
            None => values::is_null_spelling(trimmed),
            Some(spellings) => spellings.iter().any(|spelling| spelling == trimmed),
        }
    }

    #[inline]
    pub(super) fn integer<T: TryFrom<i64>>(&self, text: &[u8]) -> Result<T, Unfit> {
        self.check_zeros(text)?;
        number::integer(text).and_then(|value| T::try_from(value).ok()).ok_or(Unfit::Type)
    }

    #[inline]
    pub(super) fn double(&self, text: &[u8]) -> Result<f64, Unfit> {
        self.check_zeros(text)?;
        let value = number::double(text, self.point).ok_or(Unfit::Type)?;
        if !self.is_declared && (!value.is_finite() || (text.len() > 15 && number::is_wide_integer(text))) {
            return Err(Unfit::Type);
        }
        Ok(value)
    }

    fn float(&self, text: &[u8]) -> Result<f32, Unfit> {
        self.check_zeros(text)?;
        number::float(text, self.point).ok_or(Unfit::Type)
    }

    #[inline]
    fn decimal(&self, text: &[u8], precision: u8, scale: u8) -> Result<i128, Unfit> {
        self.check_zeros(text)?;
        number::decimal(text, precision, scale, self.point).ok_or(Unfit::Type)
    }

    /// Nobody said that the column holds numbers: `01067` may be a code, and would come back as 1067.
    #[inline]
    fn check_zeros(&self, text: &[u8]) -> Result<(), Unfit> {
        if !self.is_declared && number::has_leading_zero(text) { Err(Unfit::Type) } else { Ok(()) }
    }

    fn boolean(&self, text: &[u8]) -> Result<bool, Unfit> {
        let read = if self.is_declared { values::boolean(text) } else { values::strict_boolean(text) };
        read.ok_or(Unfit::Type)
    }

    #[inline]
    fn stamp(&self, text: &[u8]) -> Result<Stamp, Unfit> {
        match time::stamp(text) {
            Some(stamp) => Ok(stamp),
            None => self.patterns.iter().find_map(|pattern| pattern.stamp(text)).ok_or(Unfit::Type),
        }
    }

    #[inline]
    fn day(&self, text: &[u8]) -> Result<i32, Unfit> {
        match time::date(text) {
            Some(day) => Ok(day),
            None => self.stamp(text)?.day().ok_or(Unfit::Type),
        }
    }

    #[inline]
    fn local(&self, text: &[u8]) -> Result<i64, Unfit> {
        self.stamp(text)?.local().ok_or(Unfit::Type)
    }

    #[inline]
    fn instant(&self, text: &[u8]) -> Result<i64, Unfit> {
        match self.stamp(text)?.instant(self.zone) {
            Instant::At(micros) => Ok(micros),
            Instant::Gap => Err(Unfit::Gap),
        }
    }
}

/// Values of a fixed width.
#[derive(Debug, Default)]
pub(super) struct Fixed<T> {
    pub(super) values: Vec<T>,
    pub(super) nulls: Vec<u32>,
}

impl<T: Default> Fixed<T> {
    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.values.len() as u32);
        self.values.push(T::default());
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        truncate_nulls(&mut self.nulls, len);
    }

    fn nulls(&self) -> Option<NullBuffer> {
        null_buffer(self.values.len(), &self.nulls)
    }
}

fn truncate_nulls(nulls: &mut Vec<u32>, len: usize) {
    while nulls.last().is_some_and(|row| *row as usize >= len) {
        nulls.pop();
    }
}

fn null_buffer(len: usize, nulls: &[u32]) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(len);
    bits.append_n(len, true);
    for row in nulls {
        bits.set_bit(*row as usize, false);
    }
    Some(NullBuffer::new(bits.finish()))
}

/// Text or bytes as Arrow views: up to 12 bytes inside the view, longer ones by place in the block (buffer 0) or in
/// `side` (buffer 1), which holds what had to be unescaped.
#[derive(Debug, Default)]
pub(super) struct Text {
    views: Vec<u128>,
    nulls: Vec<u32>,
    side: Vec<u8>,
    uses_block: bool,
    pub(super) chars_max: Option<u32>,
}

#[inline]
fn inline_view(value: &[u8]) -> u128 {
    let mut bytes = [0_u8; 16];
    if let Some(target) = bytes.get_mut(4..4 + value.len()) {
        target.copy_from_slice(value);
    }
    u128::from_le_bytes(bytes) | value.len() as u128
}

#[inline]
fn far_view(value: &[u8], buffer: u32, offset: usize) -> u128 {
    let prefix = value.first_chunk::<4>().map_or(0, |head| u32::from_le_bytes(*head));
    value.len() as u128 | u128::from(prefix) << 32 | u128::from(buffer) << 64 | (offset as u128) << 96
}

impl Text {
    /// A value that lies in the block from `start` to `end`.
    #[inline]
    pub(super) fn push_at(&mut self, block: &[u8], start: usize, end: usize) -> Result<(), Unfit> {
        let value = block.get(start..end).unwrap_or_default();
        self.check(value)?;
        if value.len() <= 12 {
            // The fast form of `inline_view`: one load of 16 bytes, cut by a mask.
            let view = match block.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
                Some(chunk) => {
                    let kept = u128::from_le_bytes(*chunk) & ((1_u128 << (8 * value.len())) - 1);
                    kept << 32 | value.len() as u128
                }
                None => inline_view(value),
            };
            self.views.push(view);
        } else {
            self.uses_block = true;
            self.views.push(far_view(value, 0, start));
        }
        Ok(())
    }

    /// A value that lies nowhere in the block.
    pub(super) fn push(&mut self, value: &[u8]) -> Result<(), Unfit> {
        self.check(value)?;
        if value.len() <= 12 {
            self.views.push(inline_view(value));
        } else {
            self.views.push(far_view(value, 1, self.side.len()));
            self.side.extend_from_slice(value);
        }
        Ok(())
    }

    #[inline]
    fn check(&self, value: &[u8]) -> Result<(), Unfit> {
        match self.chars_max {
            Some(max) if value.len() > max as usize => {
                let chars = value.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
                if chars > max as usize { Err(Unfit::Type) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.views.len() as u32);
        self.views.push(0);
    }

    fn truncate(&mut self, len: usize) {
        self.views.truncate(len);
        truncate_nulls(&mut self.nulls, len);
    }

    fn parts(self, block: &Buffer) -> (ScalarBuffer<u128>, Vec<Buffer>, Option<NullBuffer>) {
        let nulls = null_buffer(self.views.len(), &self.nulls);
        let first = if self.uses_block { block.clone() } else { Buffer::from_vec(Vec::<u8>::new()) };
        let mut buffers = Vec::new();
        if self.uses_block || !self.side.is_empty() {
            buffers.push(first);
        }
        if !self.side.is_empty() {
            buffers.push(Buffer::from_vec(self.side));
        }
        (self.views.into(), buffers, nulls)
    }
}

/// One column, or one part of a nested column.
#[derive(Debug)]
pub(super) enum Column {
    Boolean(Fixed<bool>),
    Int16(Fixed<i16>),
    Int32(Fixed<i32>),
    Int64(Fixed<i64>),
    Float32(Fixed<f32>),
    Float64(Fixed<f64>),
    Decimal(Fixed<i128>, u8, u8),
    Date(Fixed<i32>),
    Timestamp(Fixed<i64>),
    TimestampTz(Fixed<i64>),
    Time(Fixed<i64>),
    Interval(Fixed<IntervalMonthDayNano>),
    Uuid(Fixed<[u8; 16]>),
    Text(Text),
    Json(Text),
    Bytes(Text),
    List(Box<List>),
    Struct(Struct),
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) field: FieldRef,
    pub(super) offsets: Vec<i32>,
    pub(super) nulls: Vec<u32>,
    pub(super) child: Column,
}

#[derive(Debug)]
pub(super) struct Struct {
    pub(super) fields: Fields,
    pub(super) index: Arc<HashMap<Box<[u8]>, usize>>,
    pub(super) len: usize,
    pub(super) nulls: Vec<u32>,
    pub(super) children: Vec<Column>,
}

impl Struct {
    pub(super) fn of(fields: &Fields) -> Result<Self, Problem> {
        let index = fields.iter().enumerate().map(|(at, field)| (field.name().as_bytes().into(), at)).collect();
        let children = fields.iter().map(|field| Column::of(field)).collect::<Result<_, _>>()?;
        Ok(Self { fields: fields.clone(), index: Arc::new(index), len: 0, nulls: Vec::new(), children })
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        truncate_nulls(&mut self.nulls, len);
        self.children.iter_mut().for_each(|child| child.truncate(len));
    }

    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.len as u32);
        self.children.iter_mut().for_each(Column::push_null);
        self.len += 1;
    }
}

impl Column {
    /// An empty column of the field's type.
    /// Errors: `Unsupported` for a type that no SQL type stands for.
    pub(super) fn of(field: &Field) -> Result<Self, Problem> {
        let mark = field.metadata().get(sql_type::SQL_TYPE_MARK).map(String::as_str);
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(Fixed::default()),
            DataType::Int16 => Self::Int16(Fixed::default()),
            DataType::Int32 => Self::Int32(Fixed::default()),
            DataType::Int64 => Self::Int64(Fixed::default()),
            DataType::Float32 => Self::Float32(Fixed::default()),
            DataType::Float64 => Self::Float64(Fixed::default()),
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Self::Decimal(Fixed::default(), *precision, *scale as u8)
            }
            DataType::Date32 => Self::Date(Fixed::default()),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Timestamp(Fixed::default()),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::TimestampTz(Fixed::default()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Fixed::default()),
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval(Fixed::default()),
            DataType::FixedSizeBinary(16) => Self::Uuid(Fixed::default()),
            DataType::Utf8View if matches!(mark, Some("json" | "jsonb")) => Self::Json(Text::default()),
            DataType::Utf8View => {
                let chars_max = mark.and_then(|mark| {
                    let (_, inside) = mark.split_once('(')?;
                    inside.trim_end_matches(')').trim().parse().ok()
                });
                Self::Text(Text { chars_max, ..Text::default() })
            }
            DataType::BinaryView => Self::Bytes(Text::default()),
            DataType::List(element) => Self::List(Box::new(List {
                field: element.clone(),
                offsets: vec![0],
                nulls: Vec::new(),
                child: Self::of(element)?,
            })),
            DataType::Struct(fields) => Self::Struct(Struct::of(fields)?),
            other => {
                return Err(Problem::new(
                    ErrorKind::Unsupported,
                    format!("column \"{}\" has type {other}, which no file can be read into", field.name()),
                )
                .fix("declare the column with one of the SQL types"));
            }
        })
    }

    /// Makes room for `rows` more values, so that a block's columns do not grow by copying. Nested ones grow as they need.
    pub(super) fn reserve(&mut self, rows: usize) {
        match self {
            Self::Boolean(column) => column.values.reserve_exact(rows),
            Self::Int16(column) => column.values.reserve_exact(rows),
            Self::Int32(column) | Self::Date(column) => column.values.reserve_exact(rows),
            Self::Int64(column) | Self::Timestamp(column) | Self::TimestampTz(column) | Self::Time(column) => {
                column.values.reserve_exact(rows);
            }
            Self::Float32(column) => column.values.reserve_exact(rows),
            Self::Float64(column) => column.values.reserve_exact(rows),
            Self::Decimal(column, ..) => column.values.reserve_exact(rows),
            Self::Interval(column) => column.values.reserve_exact(rows),
            Self::Uuid(column) => column.values.reserve_exact(rows),
            Self::Text(column) | Self::Json(column) | Self::Bytes(column) => column.views.reserve_exact(rows),
            Self::List(_) | Self::Struct(_) => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Boolean(column) => column.values.len(),
            Self::Int16(column) => column.values.len(),
            Self::Int32(column) | Self::Date(column) => column.values.len(),
            Self::Int64(column) | Self::Timestamp(column) | Self::TimestampTz(column) | Self::Time(column) => {
                column.values.len()
            }
            Self::Float32(column) => column.values.len(),
            Self::Float64(column) => column.values.len(),
            Self::Decimal(column, ..) => column.values.len(),
            Self::Interval(column) => column.values.len(),
            Self::Uuid(column) => column.values.len(),
            Self::Text(column) | Self::Json(column) | Self::Bytes(column) => column.views.len(),
            Self::List(list) => list.offsets.len() - 1,
            Self::Struct(column) => column.len,
        }
    }

    /// Whether `row` is NULL. Looks from the end, so it is cheap for the newest rows.
    pub(super) fn is_null(&self, row: usize) -> bool {
        let nulls = match self {
            Self::Boolean(column) => &column.nulls,
            Self::Int16(column) => &column.nulls,
            Self::Int32(column) | Self::Date(column) => &column.nulls,
            Self::Int64(column) | Self::Timestamp(column) | Self::TimestampTz(column) | Self::Time(column) => {
                &column.nulls
            }
            Self::Float32(column) => &column.nulls,
            Self::Float64(column) => &column.nulls,
            Self::Decimal(column, ..) => &column.nulls,
            Self::Interval(column) => &column.nulls,
            Self::Uuid(column) => &column.nulls,
            Self::Text(column) | Self::Json(column) | Self::Bytes(column) => &column.nulls,
            Self::List(list) => &list.nulls,
            Self::Struct(column) => &column.nulls,
        };
        nulls.iter().rev().take_while(|null| **null as usize >= row).any(|null| *null as usize == row)
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Boolean(column) => column.push_null(),
            Self::Int16(column) => column.push_null(),
            Self::Int32(column) | Self::Date(column) => column.push_null(),
            Self::Int64(column) | Self::Timestamp(column) | Self::TimestampTz(column) | Self::Time(column) => {
                column.push_null();
            }
            Self::Float32(column) => column.push_null(),
            Self::Float64(column) => column.push_null(),
            Self::Decimal(column, ..) => column.push_null(),
            Self::Interval(column) => column.push_null(),
            Self::Uuid(column) => column.push_null(),
            Self::Text(column) | Self::Json(column) | Self::Bytes(column) => column.push_null(),
            Self::List(list) => {
                list.nulls.push(list.offsets.len() as u32 - 1);
                list.offsets.push(list.offsets.last().copied().unwrap_or_default());
            }
            Self::Struct(column) => column.push_null(),
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(column) => column.truncate(len),
            Self::Int16(column) => column.truncate(len),
            Self::Int32(column) | Self::Date(column) => column.truncate(len),
            Self::Int64(column) | Self::Timestamp(column) | Self::TimestampTz(column) | Self::Time(column) => {
                column.truncate(len);
            }
            Self::Float32(column) => column.truncate(len),
            Self::Float64(column) => column.truncate(len),
            Self::Decimal(column, ..) => column.truncate(len),
            Self::Interval(column) => column.truncate(len),
            Self::Uuid(column) => column.truncate(len),
            Self::Text(column) | Self::Json(column) | Self::Bytes(column) => column.truncate(len),
            Self::List(list) => {
                list.offsets.truncate(len + 1);
                truncate_nulls(&mut list.nulls, len);
                list.child.truncate(list.offsets.last().copied().unwrap_or_default() as usize);
            }
            Self::Struct(column) => column.truncate(len),
        }
    }

    /// Appends the value that `text` spells, NULL spellings aside. Nothing is appended on an error.
    pub(super) fn push_text(&mut self, text: &[u8], reading: &Reading) -> Result<(), Unfit> {
        match self {
            Self::Boolean(column) => column.push(reading.boolean(text)?),
            Self::Int16(column) => column.push(reading.integer(text)?),
            Self::Int32(column) => column.push(reading.integer(text)?),
            Self::Int64(column) => column.push(reading.integer(text)?),
            Self::Float32(column) => column.push(reading.float(text)?),
            Self::Float64(column) => column.push(reading.double(text)?),
            Self::Decimal(column, precision, scale) => {
                column.push(reading.decimal(text, *precision, *scale)?);
            }
            Self::Date(column) => column.push(reading.day(text)?),
            Self::Timestamp(column) => column.push(reading.local(text)?),
            Self::TimestampTz(column) => column.push(reading.instant(text)?),
            Self::Time(column) => column.push(time::time_of_day(text).ok_or(Unfit::Type)?),
            Self::Interval(column) => column.push(interval(text)?),
            Self::Uuid(column) => column.push(lode_core::values::uuid(text).ok_or(Unfit::Type)?),
            Self::Text(column) => column.push(text)?,
            Self::Json(column) => {
                super::json::validate(text).map_err(|_| Unfit::Type)?;
                column.push(values::trim(text))?;
            }
            Self::Bytes(column) => column.push(&values::hex_bytes(text).ok_or(Unfit::Type)?)?,
            Self::List(_) | Self::Struct(_) => return Err(Unfit::Type),
        }
        Ok(())
    }

    /// Appends a column of cells, each NULL, a value, or unfit (then NULL, and `unfit` is told the row in `cells`).
    /// One loop a type, so that the kernels are inlined into it.
    pub(super) fn push_cells<C: Cells>(
        &mut self,
        cells: &mut C,
        reading: &Reading,
        unfit: &mut dyn FnMut(usize, Unfit),
    ) {
        match self {
            Self::Int64(column) => fill(column, cells, reading, unfit, |text| reading.integer(text)),
            Self::Int32(column) => fill(column, cells, reading, unfit, |text| reading.integer(text)),
            Self::Float64(column) => fill(column, cells, reading, unfit, |text| reading.double(text)),
            Self::Decimal(column, precision, scale) => {
                let (precision, scale) = (*precision, *scale);
                fill(column, cells, reading, unfit, |text| reading.decimal(text, precision, scale));
            }
            Self::Date(column) => fill(column, cells, reading, unfit, |text| reading.day(text)),
            Self::Timestamp(column) => fill(column, cells, reading, unfit, |text| reading.local(text)),
            Self::TimestampTz(column) => fill(column, cells, reading, unfit, |text| reading.instant(text)),
            Self::Boolean(column) => fill(column, cells, reading, unfit, |text| reading.boolean(text)),
            Self::Text(column) => fill_text(column, cells, unfit),
            other => {
                for row in 0..cells.len() {
                    let text = cells.text(row);
                    let trimmed = values::trim(text);
                    if reading.is_null(trimmed) {
                        other.push_null();
                    } else if let Err(why) = push_any(other, trimmed, reading) {
                        other.push_null();
                        unfit(row, why);
                    }
                }
            }
        }
    }

    /// The finished array. `block` is the text that views point into; all of it that is pointed to is valid UTF-8.
    pub(super) fn finish(self, block: &Buffer) -> Result<ArrayRef, Problem> {
        let broken = |error: arrow::error::ArrowError| Problem::internal("a decoded column is not whole").cause(error);
        Ok(match self {
            Self::Boolean(column) => {
                let nulls = column.nulls();
                Arc::new(BooleanArray::new(BooleanBuffer::from(column.values), nulls))
            }
            Self::Int16(column) => {
                let nulls = column.nulls();
                Arc::new(Int16Array::new(column.values.into(), nulls))
            }
            Self::Int32(column) => {
                let nulls = column.nulls();
                Arc::new(Int32Array::new(column.values.into(), nulls))
            }
            Self::Int64(column) => {
                let nulls = column.nulls();
                Arc::new(Int64Array::new(column.values.into(), nulls))
            }
            Self::Float32(column) => {
                let nulls = column.nulls();
                Arc::new(Float32Array::new(column.values.into(), nulls))
            }
            Self::Float64(column) => {
                let nulls = column.nulls();
                Arc::new(Float64Array::new(column.values.into(), nulls))
            }
            Self::Decimal(column, precision, scale) => {
                let nulls = column.nulls();
                let array = Decimal128Array::new(column.values.into(), nulls);
                Arc::new(array.with_precision_and_scale(precision, scale as i8).map_err(broken)?)
            }
            Self::Date(column) => {
                let nulls = column.nulls();
                Arc::new(Date32Array::new(column.values.into(), nulls))
            }
            Self::Timestamp(column) => {
                let nulls = column.nulls();
                Arc::new(TimestampMicrosecondArray::new(column.values.into(), nulls))
            }
            Self::TimestampTz(column) => {
                let nulls = column.nulls();
                Arc::new(TimestampMicrosecondArray::new(column.values.into(), nulls).with_timezone("UTC"))
            }
            Self::Time(column) => {
                let nulls = column.nulls();
                Arc::new(Time64MicrosecondArray::new(column.values.into(), nulls))
            }
            Self::Interval(column) => {
                let nulls = column.nulls();
                Arc::new(IntervalMonthDayNanoArray::new(column.values.into(), nulls))
            }
            Self::Uuid(column) => {
                let nulls = column.nulls();
                let bytes = Buffer::from_vec(column.values.into_flattened());
                Arc::new(FixedSizeBinaryArray::try_new(16, bytes, nulls).map_err(broken)?)
            }
            Self::Text(column) | Self::Json(column) => {
                let (views, buffers, nulls) = column.parts(block);
                Arc::new(string_views(views, buffers, nulls))
            }
            Self::Bytes(column) => {
                let (views, buffers, nulls) = column.parts(block);
                Arc::new(BinaryViewArray::try_new(views, buffers, nulls).map_err(broken)?)
            }
            Self::List(list) => {
                let nulls = null_buffer(list.offsets.len() - 1, &list.nulls);
                let child = list.child.finish(block)?;
                let offsets = OffsetBuffer::new(list.offsets.into());
                Arc::new(ListArray::try_new(list.field, offsets, child, nulls).map_err(broken)?)
            }
            Self::Struct(column) => {
                let nulls = null_buffer(column.len, &column.nulls);
                let children =
                    column.children.into_iter().map(|child| child.finish(block)).collect::<Result<_, _>>()?;
                let array = StructArray::try_new_with_length(column.fields, children, nulls, column.len);
                Arc::new(array.map_err(broken)?)
            }
        })
    }
}

#[expect(unsafe_code, reason = "checking each view again costs as much as decoding it; see the SAFETY note")]
fn string_views(views: ScalarBuffer<u128>, buffers: Vec<Buffer>, nulls: Option<NullBuffer>) -> StringViewArray {
    debug_assert!(StringViewArray::try_new(views.clone(), buffers.clone(), nulls.clone()).is_ok());
    // SAFETY: `Text` makes each view from a slice that it took from the block or put into `side`, so places and prefixes
    // hold. Records are checked to be UTF-8 before their fields are pushed, and fields end at ASCII bytes.
    unsafe { StringViewArray::new_unchecked(views, buffers, nulls) }
}

fn push_any(column: &mut Column, text: &[u8], reading: &Reading) -> Result<(), Unfit> {
    match column {
        Column::List(_) | Column::Struct(_) => super::json::push_value(column, text, reading),
        _ => column.push_text(text, reading),
    }
}

/// A number without a unit is no interval here: files hold counts of days, hours and seconds alike.
fn interval(text: &[u8]) -> Result<IntervalMonthDayNano, Unfit> {
    let text = std::str::from_utf8(text).map_err(|_| Unfit::Type)?;
    if f64::from_str(text.trim()).is_ok() {
        return Err(Unfit::Type);
    }
    lode_core::values::interval(text).ok_or(Unfit::Type)
}

/// The cells of one column over some records.
pub(super) trait Cells {
    fn len(&self) -> usize;
    /// The text of a cell, quotes and escapes resolved.
    fn text(&mut self, row: usize) -> &[u8];
    /// Where the cell lies in the block, if it lies there as it is; and whether it was quoted.
    fn place(&self, row: usize) -> (Option<(usize, usize)>, bool);
    fn block(&self) -> &[u8];
}

#[inline]
fn fill<T: Default, C: Cells>(
    column: &mut Fixed<T>,
    cells: &mut C,
    reading: &Reading,
    unfit: &mut dyn FnMut(usize, Unfit),
    parse: impl Fn(&[u8]) -> Result<T, Unfit>,
) {
    let rows = cells.len();
    column.values.reserve(rows);
    for row in 0..rows {
        let text = cells.text(row);
        if text.is_empty() {
            column.push_null();
            continue;
        }
        match parse(text) {
            Ok(value) => column.push(value),
            Err(why) => {
                let trimmed = values::trim(text);
                if reading.is_null(trimmed) {
                    column.push_null();
                } else if let Some(value) = (trimmed.len() < text.len()).then(|| parse(trimmed).ok()).flatten() {
                    column.push(value);
                } else {
                    column.push_null();
                    unfit(row, why);
                }
            }
        }
    }
}

fn fill_text<C: Cells>(column: &mut Text, cells: &mut C, unfit: &mut dyn FnMut(usize, Unfit)) {
    let rows = cells.len();
    column.views.reserve(rows);
    for row in 0..rows {
        let pushed = match cells.place(row) {
            (Some((start, end)), false) if start == end => {
                column.push_null();
                continue;
            }
            (Some((start, end)), _) => column.push_at(cells.block(), start, end),
            (None, _) => column.push(cells.text(row)),
        };
        if let Err(why) = pushed {
            column.push_null();
            unfit(row, why);
        }
    }
}
