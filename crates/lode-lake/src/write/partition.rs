//! Rows by partition, and how a partition is named.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};

const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";

/// The rows of one partition in one batch.
pub(crate) struct Group {
    /// Equal for equal partition values.
    pub(crate) key: Vec<u8>,
    /// `None`: all rows of the batch.
    pub(crate) rows: Option<UInt32Array>,
    pub(crate) first_row: usize,
}

/// Groups the rows of a batch by their partition values, in order of first appearance.
pub(crate) fn group(columns: &[ArrayRef]) -> Result<Vec<Group>, arrow::error::ArrowError> {
    let sort = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let rows = RowConverter::new(sort)?.convert_columns(columns)?;
    let mut places: HashMap<&[u8], usize> = HashMap::new();
    let mut groups: Vec<(usize, Vec<u32>)> = Vec::new();
    // Rows of a partition mostly come together.
    let mut last: Option<(&[u8], usize)> = None;
    for at in 0..rows.num_rows() {
        let key = rows.row(at).data();
        let place = match last {
            Some((known, place)) if known == key => place,
            _ => *places.entry(key).or_insert_with(|| {
                groups.push((at, Vec::new()));
                groups.len() - 1
            }),
        };
        last = Some((key, place));
        if let Some((_, members)) = groups.get_mut(place) {
            members.push(at as u32);
        }
    }
    let is_one = groups.len() == 1;
    let to_group = |(first_row, members): (usize, Vec<u32>)| Group {
        key: rows.row(first_row).data().to_vec(),
        rows: (!is_one).then(|| members.into()),
        first_row,
    };
    Ok(groups.into_iter().map(to_group).collect())
}

/// The text of a partition value. `Err` for a text that Delta cannot tell from NULL.
/// Source: Delta protocol, "Partition Value Serialization".
pub(crate) fn value(column: &ArrayRef, row: usize) -> Result<Option<String>, String> {
    if column.is_null(row) {
        return Ok(None);
    }
    let text = match column.data_type() {
        DataType::Utf8View => column.as_string_view().value(row).to_owned(),
        _ => {
            let form = FormatOptions::new()
                .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.6f"))
                .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.6f"));
            let formatter = ArrayFormatter::try_new(column, &form).map_err(|error| error.to_string())?;
            formatter.value(row).try_to_string().map_err(|error| error.to_string())?
        }
    };
    if text.is_empty() {
        return Err("an empty text cannot name a partition, as Delta reads it as NULL".into());
    }
    Ok(Some(text))
}

/// `column=value`, escaped as Hive does.
pub(crate) fn folder(column: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{}={}", escape(column), escape(value)),
        None => format!("{}={NULL_FOLDER}", escape(column)),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^' | '\u{7F}' => {
                escaped.push_str(&format!("%{:02X}", c as u32));
            }
            c if c.is_control() => escaped.extend(c.to_string().bytes().map(|byte| format!("%{byte:02X}"))),
            c => escaped.push(c),
        }
    }
    // `.` and `..` are folders of their own.
    if escaped.bytes().all(|byte| byte == b'.') { escaped.replace('.', "%2E") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringViewArray;
    use std::sync::Arc;

    #[test]
    fn folders_are_escaped() {
        assert_eq!(folder("region", Some("a/b=c d")), "region=a%2Fb%3Dc d");
        assert_eq!(folder("x", Some("..")), "x=%2E%2E");
        assert_eq!(folder("x", None), "x=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn rows_are_grouped_in_order_of_first_appearance() {
        let column: ArrayRef = Arc::new(StringViewArray::from(vec![Some("b"), Some("a"), None, Some("b")]));
        let groups = group(&[Arc::clone(&column)]).unwrap();
        let members: Vec<_> = groups.iter().map(|group| group.rows.as_ref().unwrap().values().to_vec()).collect();
        assert_eq!(members, [vec![0, 3], vec![1], vec![2]]);
        assert!(group(&[column.slice(0, 1)]).unwrap()[0].rows.is_none());
    }
}
