//! CSV as Python's `csv` module reads it: the dialect of seeds.

/// One field, and the line on which its row starts, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) fields: Vec<String>,
    pub(crate) line: u64,
}

/// All rows; an empty line is a row without fields. Quotes mean something only at the start of a field.
pub(crate) fn rows(text: &str, delimiter: char) -> Vec<Row> {
    let mut found = Vec::new();
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut line, mut row_line) = (1, 1);
    let (mut in_quotes, mut is_fresh, mut has_content) = (false, true, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' || (c == '\r' && chars.peek() != Some(&'\n')) {
            line += 1;
        }
        if in_quotes {
            match c {
                '"' if chars.peek() == Some(&'"') => {
                    chars.next();
                    field.push('"');
                }
                '"' => in_quotes = false,
                c => field.push(c),
            }
            continue;
        }
        match c {
            '"' if is_fresh => {
                (in_quotes, is_fresh, has_content) = (true, false, true);
            }
            c if c == delimiter => {
                fields.push(std::mem::take(&mut field));
                (is_fresh, has_content) = (true, true);
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' => {
                if has_content {
                    fields.push(std::mem::take(&mut field));
                }
                found.push(Row { fields: std::mem::take(&mut fields), line: row_line });
                (is_fresh, has_content, row_line) = (true, false, line);
            }
            c => {
                field.push(c);
                (is_fresh, has_content) = (false, true);
            }
        }
    }
    if has_content {
        fields.push(field);
        found.push(Row { fields, line: row_line });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Vec<String>> {
        rows(text, ',').into_iter().map(|row| row.fields).collect()
    }

    #[test]
    fn quotes_newlines_and_empty_lines() {
        assert_eq!(
            fields("a,b\r\n\"x\ny\",\"q\"\"z\"\n\n1,\n"),
            [vec!["a", "b"], vec!["x\ny", "q\"z"], vec![], vec!["1", ""]]
        );
        assert_eq!(fields("a\"b,c"), [vec!["a\"b", "c"]]);
        assert_eq!(fields("a\n\"\"\n"), [vec!["a"], vec![""]]);
    }

    #[test]
    fn lines_count_through_quotes() {
        let lines: Vec<u64> = rows("a\n\"x\ny\"\nb\n", ',').into_iter().map(|row| row.line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }
}
