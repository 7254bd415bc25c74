//! Aligned columns for people: widths are measured on the first rows, later rows are printed as they come.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lode_core::Problem;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::value::{Cell, Cells};
use crate::output::{Output, Paint};

/// Rows, and bytes of text, that are measured before the first line is printed.
const MEASURED_ROWS: usize = 10_000;
const MEASURED_BYTES: usize = 8 << 20;
/// On a terminal no column is made narrower than this.
const NARROWEST: usize = 6;

pub(super) struct Table<'a> {
    out: &'a Output,
    paint: Paint,
    columns: Vec<Column>,
    /// Cells of the rows that wait for the widths, row by row; `None` is NULL.
    waiting: Vec<Option<String>>,
    waiting_bytes: usize,
    has_header: bool,
    rows: u64,
}

struct Column {
    name: String,
    is_number: bool,
    width: usize,
    /// Of the widest cell, without the name.
    cells_width: usize,
    /// Left out, as the terminal is too narrow.
    is_hidden: bool,
}

impl<'a> Table<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a Output) -> Self {
        let columns = schema.fields().iter().map(|field| {
            let name = printable(field.name());
            let is_number = Cell::is_number(field.data_type());
            Column { width: name.width(), cells_width: 0, name, is_number, is_hidden: false }
        });
        Self {
            out,
            paint: out.out_paint(),
            columns: columns.collect(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            has_header: false,
            rows: 0,
        }
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let cells = Cells::new(batch)?;
        for row in 0..cells.rows() {
            let texts = cells.columns().iter().map(|cell| {
                if cell.is_null(row) {
                    return None;
                }
                let mut text = String::new();
                cell.text(row, &mut text);
                Some(printable(&text))
            });
            let texts: Vec<Option<String>> = texts.collect();
            self.rows += 1;
            if self.has_header {
                self.row(&texts)?;
                continue;
            }
            for (column, text) in self.columns.iter_mut().zip(&texts) {
                column.cells_width = column.cells_width.max(text.as_deref().unwrap_or(NULL).width());
                column.width = column.width.max(column.cells_width);
                self.waiting_bytes += text.as_ref().map_or(0, String::len);
            }
            self.waiting.extend(texts);
            if self.rows as usize >= MEASURED_ROWS || self.waiting_bytes > MEASURED_BYTES {
                // Rows to come may hold longer numbers: their columns stay as wide as they are.
                self.columns.iter_mut().for_each(|column| column.cells_width = column.width);
                self.release()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<u64, Problem> {
        self.release()?;
        let rows = if self.rows == 1 { "1 row".to_owned() } else { format!("{} rows", self.rows) };
        let hidden = self.columns.iter().filter(|column| column.is_hidden).count();
        let footer = match hidden {
            0 => format!("({rows})"),
            _ => format!(
                "({rows}; {hidden} of {} columns do not fit and are left out: widen the window or use --format json)",
                self.columns.len()
            ),
        };
        self.out.line(self.paint.dim(footer))?;
        self.out.flush()?;
        Ok(self.rows)
    }

    /// Fixes the widths and prints what waits.
    fn release(&mut self) -> Result<(), Problem> {
        if std::mem::replace(&mut self.has_header, true) {
            return Ok(());
        }
        if self.out.terminal().out_is_terminal {
            fit(&mut self.columns, usize::from(self.out.size().0));
        }
        let shown = || self.columns.iter().filter(|column| !column.is_hidden);
        let names: Vec<String> = shown().map(|column| self.paint.bold(column.pad(&column.name))).collect();
        let rules: Vec<String> = shown().map(|column| "─".repeat(column.width + 2)).collect();
        self.out.line(format!(" {}", names.join(" │ ")).trim_end())?;
        self.out.line(self.paint.dim(rules.join("┼")))?;
        let waiting = std::mem::take(&mut self.waiting);
        for texts in waiting.chunks(self.columns.len().max(1)) {
            self.row(texts)?;
        }
        Ok(())
    }

    fn row(&self, texts: &[Option<String>]) -> Result<(), Problem> {
        let mut line = String::new();
        let shown = self.columns.iter().zip(texts).filter(|(column, _)| !column.is_hidden);
        for (at, (column, text)) in shown.enumerate() {
            line.push_str(if at == 0 { " " } else { " │ " });
            match text {
                Some(text) => line.push_str(&column.pad(text)),
                None => line.push_str(&self.paint.dim(column.pad(NULL))),
            }
        }
        self.out.line(line.trim_end())
    }
}

const NULL: &str = "NULL";

impl Column {
    /// Numbers are never cut: a part of a number is another number. Only the name above them is.
    fn narrowest(&self) -> usize {
        if self.is_number { self.cells_width.max(NARROWEST) } else { NARROWEST }
    }

    /// The text in this column's width: cut with `…` where it is wider and the terminal asked for it.
    fn pad(&self, text: &str) -> String {
        let text = cut(text, self.width);
        let spaces = " ".repeat(self.width.saturating_sub(text.width()));
        if self.is_number { format!("{spaces}{text}") } else { format!("{text}{spaces}") }
    }
}

/// The longest head of `text` that fits `width` columns, with `…` when something was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut head = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        head.push(c);
    }
    head.push('…');
    head
}

/// Makes the widest columns narrower until the line fits, of numbers the names above them only; then hides columns from the
/// right.
fn fit(columns: &mut [Column], terminal_width: usize) {
    loop {
        let shown: Vec<usize> =
            (0..columns.len()).filter(|at| columns.get(*at).is_some_and(|c| !c.is_hidden)).collect();
        let line: usize = shown.iter().filter_map(|at| columns.get(*at)).map(|column| column.width + 3).sum();
        let excess = line.saturating_sub(terminal_width + 1);
        if excess == 0 || shown.len() < 2 {
            return;
        }
        let widest = shown
            .iter()
            .filter(|at| columns.get(**at).is_some_and(|c| c.width > c.narrowest()))
            .max_by_key(|at| columns.get(**at).map_or(0, |c| c.width));
        match (widest, shown.last()) {
            (Some(at), _) => {
                if let Some(column) = columns.get_mut(*at) {
                    // Down to the next in small steps, so that the width is shared out.
                    column.width -= excess.min((column.width - column.narrowest()).min(4));
                }
            }
            (None, Some(last)) => {
                if let Some(column) = columns.get_mut(*last) {
                    column.is_hidden = true;
                }
            }
            (None, None) => return,
        }
    }
}

/// Control characters made visible: data must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::{Format, print_all};
    use super::*;
    use crate::output::Terminal;
    use crate::output::tests::{PLAIN, to_sinks};

    fn shown(names: &[Option<&str>], terminal: Terminal) -> String {
        let schema = Arc::new(Schema::new(vec![
            Field::new("city", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
        ]));
        let numbers: Vec<Option<i64>> = (0..names.len()).map(|at| Some(at as i64 * 50)).collect();
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![Arc::new(StringArray::from(names.to_vec())), Arc::new(Int64Array::from(numbers))],
        )
        .unwrap();
        let (output, out, _) = to_sinks(terminal);
        print_all(&schema, &[batch], Format::Table, &output).unwrap();
        out.text()
    }

    #[test]
    fn columns_line_up_by_display_width() {
        insta::assert_snapshot!(shown(&[Some("東京"), None, Some("Zürich\n")], PLAIN), @r"
         city     │   n
        ──────────┼─────
         東京     │   0
         NULL     │  50
         Zürich\n │ 100
        (3 rows)
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_text_but_not_numbers() {
        let terminal = Terminal { out_is_terminal: true, width: 20, ..PLAIN };
        let text = shown(&[Some("a very long name of a place"), Some("b")], terminal);
        assert!(text.lines().take(4).all(|line| line.width() <= 20), "{text}");
        assert!(text.contains("a very long …") && text.contains("50"), "{text}");
    }

    #[test]
    fn names_over_numbers_are_cut_before_a_column_is_left_out() {
        let column = |name: &str, cell: &str, is_number| Column {
            name: name.to_owned(),
            is_number,
            width: name.width().max(cell.width()),
            cells_width: cell.width(),
            is_hidden: false,
        };
        let mut columns = vec![
            column("sum", "✓", false),
            column("source", "telemetry_of_the_fleet", false),
            column("table", "bronze.telemetry", false),
            column("files", "12", true),
            column("rows_in", "12345678", true),
            column("landed", "12345678", true),
            column("quarantined", "1234", true),
            column("dropped", "0", true),
            column("replayed", "0", true),
        ];
        fit(&mut columns, 80);
        assert!(columns.iter().all(|column| !column.is_hidden));
        let widths: Vec<usize> = columns.iter().map(|column| column.width).collect();
        assert_eq!((widths[0], widths[4], widths[5]), (3, 8, 8), "{widths:?}");
        assert!(widths.iter().sum::<usize>() + 3 * 8 <= 80, "{widths:?}");
    }

    #[test]
    fn data_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J"), "a\\u{1b}[2J");
    }
}
