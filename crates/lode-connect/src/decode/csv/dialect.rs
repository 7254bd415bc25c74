//! What a `Dialect` means for the splitter, and how its columns meet those of the plan.

use std::collections::HashSet;

use arrow::datatypes::SchemaRef;

use super::super::{Dialect, LINE, RESCUED};
use super::split::Grammar;

impl Dialect {
    pub(in super::super) fn grammar(&self) -> Grammar {
        Grammar { delimiter: self.delimiter, quote: self.quote, escape: self.escape, comment: self.comment }
    }

    /// The dialect in words, for a note.
    pub(in super::super) fn describe(&self) -> String {
        let show = |byte: u8| match byte {
            b'\t' => "tab".to_owned(),
            byte => format!("`{}`", byte as char),
        };
        let mut text = format!("csv: delimiter {}", show(self.delimiter));
        match self.quote {
            Some(quote) => text.push_str(&format!(", quote {}", show(quote))),
            None => text.push_str(", no quotes"),
        }
        if let Some(escape) = self.escape {
            text.push_str(&format!(", escape {}", show(escape)));
        }
        if let Some(comment) = self.comment {
            text.push_str(&format!(", comments {}", show(comment)));
        }
        if self.decimal == b',' {
            text.push_str(", decimal comma");
        }
        if self.skip_rows > 0 {
            text.push_str(&format!(", {} lines before the header", self.skip_rows));
        }
        text.push_str(if self.has_header { "" } else { ", no header" });
        text.push_str(&format!(", {}", self.encoding));
        text
    }
}

/// Names of columns from a header line: without blanks at the ends, none empty, none twice (whatever the case of letters).
pub(in super::super) fn column_names(cells: &[String]) -> Vec<String> {
    let mut taken: HashSet<String> = [RESCUED.to_owned(), LINE.to_owned()].into();
    let mut names = Vec::with_capacity(cells.len());
    for (at, cell) in cells.iter().enumerate() {
        let trimmed = cell.trim();
        let base = if trimmed.is_empty() { format!("column_{}", at + 1) } else { trimmed.to_owned() };
        let mut name = base.clone();
        let mut count = 2;
        while !taken.insert(name.to_lowercase()) {
            name = format!("{base}_{count}");
            count += 1;
        }
        names.push(name);
    }
    names
}

pub(in super::super) struct Matched {
    /// The file's column for each column of the plan.
    pub(in super::super) columns: Vec<Option<usize>>,
    pub(in super::super) extras: Vec<usize>,
}

/// Matches by name, then by name whatever the case; files without header by place.
pub(in super::super) fn match_columns(schema: &SchemaRef, header: &[String], has_header: bool) -> Matched {
    let mut is_used = vec![false; header.len()];
    let mut columns = vec![None; schema.fields().len()];
    if has_header {
        let names: Vec<String> = column_names(header);
        for exact in [true, false] {
            for (field, column) in schema.fields().iter().zip(&mut columns) {
                if column.is_some() {
                    continue;
                }
                let found = names.iter().zip(&is_used).position(|(name, used)| {
                    !used
                        && if exact { name == field.name() } else { name.to_lowercase() == field.name().to_lowercase() }
                });
                if let Some(at) = found {
                    *column = Some(at);
                    if let Some(used) = is_used.get_mut(at) {
                        *used = true;
                    }
                }
            }
        }
    } else {
        for (at, (column, used)) in columns.iter_mut().zip(&mut is_used).enumerate() {
            *column = Some(at);
            *used = true;
        }
        // The file may have fewer columns than the plan.
        columns.iter_mut().skip(header.len()).for_each(|column| *column = None);
    }
    let extras = is_used.iter().enumerate().filter(|(_, used)| !**used).map(|(at, _)| at).collect();
    Matched { columns, extras }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_empty_and_never_twice() {
        let cells = ["lat", " Lat ", "", "_line", "lat"].map(str::to_owned);
        assert_eq!(column_names(&cells), ["lat", "Lat_2", "column_3", "_line_2", "lat_3"]);
    }
}
