//! Splits a file into its blocks: macros, tests, and those that dbt knows and Lode does not run yet.

use std::ops::Range;

use super::lex::{LexFault, Segment, SegmentKind, first_word, segments};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) kind: BlockKind,
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    /// From the first tag to the last.
    pub(crate) range: Range<usize>,
    /// Between the two tags.
    pub(crate) body: Range<usize>,
    /// The first tag ends with `-%}`, so white space after it goes.
    pub(crate) trims_start: bool,
    /// The last tag starts with `{%-`.
    pub(crate) trims_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Macro,
    Test,
    Snapshot,
    Materialization,
    Docs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) default: Option<String>,
}

const KINDS: &[(&str, &str, BlockKind)] = &[
    ("macro", "endmacro", BlockKind::Macro),
    ("test", "endtest", BlockKind::Test),
    ("data_test", "enddata_test", BlockKind::Test),
    ("snapshot", "endsnapshot", BlockKind::Snapshot),
    ("materialization", "endmaterialization", BlockKind::Materialization),
    ("docs", "enddocs", BlockKind::Docs),
];

/// The blocks of a file, in order; they do not nest.
pub(crate) fn blocks(text: &str) -> Result<Vec<Block>, LexFault> {
    let mut found = Vec::new();
    let mut open: Option<(&'static str, BlockKind, Segment)> = None;
    for segment in segments(text)? {
        if segment.kind != SegmentKind::Statement {
            continue;
        }
        let word = first_word(text, &segment);
        match &open {
            Some((end, kind, first)) if word == *end || (*end == "enddata_test" && word == "endtest") => {
                found.push(block(text, *kind, first, &segment)?);
                open = None;
            }
            Some(_) => {}
            None => {
                let kind = KINDS.iter().find(|(start, ..)| *start == word);
                open = kind.map(|(_, end, kind)| (*end, *kind, segment.clone()));
            }
        }
    }
    match open {
        Some((end, _, first)) => Err(LexFault {
            message: format!("this block is not closed with `{{% {end} %}}`"),
            offset: first.range.start,
        }),
        None => Ok(found),
    }
}

fn block(text: &str, kind: BlockKind, first: &Segment, last: &Segment) -> Result<Block, LexFault> {
    let inner = text.get(first.inner.clone()).unwrap_or_default();
    let header = inner.trim_start();
    let header = header.get(first_word(text, first).len()..).unwrap_or_default().trim();
    let fault = |message: &str| LexFault { message: message.to_owned(), offset: first.range.start };
    let (name, parameters) = match kind {
        BlockKind::Macro | BlockKind::Test => {
            let (name, rest) = header.split_once('(').ok_or_else(|| fault("a macro needs `name(parameters)`"))?;
            let inside =
                rest.trim_end().strip_suffix(')').ok_or_else(|| fault("the parameters are not closed with `)`"))?;
            (name.trim(), parameters(inside))
        }
        BlockKind::Snapshot | BlockKind::Materialization | BlockKind::Docs => {
            (header.split([',', ' ', '\n']).next().unwrap_or_default(), Vec::new())
        }
    };
    if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(fault("this block needs a name"));
    }
    let tag = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
    Ok(Block {
        kind,
        name: name.to_owned(),
        parameters,
        range: first.range.start..last.range.end,
        body: first.range.end..last.range.start,
        trims_start: tag(&first.range).ends_with("-%}"),
        trims_end: tag(&last.range).starts_with("{%-"),
    })
}

/// `a, b: str, c=[1, 2], *args`: names and the text of defaults; types and stars go.
fn parameters(inside: &str) -> Vec<Parameter> {
    split_top(inside, ',')
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (left, default) = match split_top(part, '=').as_slice() {
                [left, first, ..] => (*left, part.get(part.len() - tail_length(part, first)..).map(str::trim)),
                _ => (part, None),
            };
            let name = split_top(left, ':').first().copied().unwrap_or_default();
            Parameter { name: name.trim().trim_start_matches('*').to_owned(), default: default.map(str::to_owned) }
        })
        .collect()
}

/// Bytes from the start of `piece`, which is a part of `whole`, to the end of `whole`.
fn tail_length(whole: &str, piece: &str) -> usize {
    let offset = (piece.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    whole.len().saturating_sub(offset)
}

/// Splits outside of brackets and quotes.
pub(crate) fn split_top(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) => {
                if c == open && !escaped {
                    quote = None;
                }
                escaped = c == '\\' && !escaped;
            }
            None => match c {
                '\'' | '"' => quote = Some(c),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ if c == separator && depth == 0 => {
                    parts.push(text.get(start..at).unwrap_or_default());
                    start = at + c.len_utf8();
                }
                _ => {}
            },
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_and_tests_are_split_with_their_parameters() {
        let text =
            "{% macro f(a, b: str, c=[1, 2], d='x,y') -%}\nbody\n{%- endmacro %}\n{% test t(model) %}x{% endtest %}";
        let found = blocks(text).unwrap();
        assert_eq!(found.len(), 2);
        let names: Vec<(&str, Option<&str>)> =
            found[0].parameters.iter().map(|p| (p.name.as_str(), p.default.as_deref())).collect();
        assert_eq!(names, [("a", None), ("b", None), ("c", Some("[1, 2]")), ("d", Some("'x,y'"))]);
        assert_eq!(&text[found[0].body.clone()], "\nbody\n");
        assert!(found[0].trims_start && found[0].trims_end);
        assert_eq!((found[1].kind, found[1].name.as_str()), (BlockKind::Test, "t"));
    }

    #[test]
    fn a_default_may_compare() {
        let found = blocks("{% macro f(a=(1 == 2)) %}{% endmacro %}").unwrap();
        assert_eq!(found[0].parameters[0].default.as_deref(), Some("(1 == 2)"));
    }

    #[test]
    fn what_a_comment_or_raw_holds_is_no_block() {
        assert!(blocks("{# {% macro x() %} #}{% raw %}{% macro y() %}{% endraw %}").unwrap().is_empty());
    }

    #[test]
    fn an_open_block_is_named() {
        assert!(blocks("{% macro x() %} a").unwrap_err().message.contains("endmacro"));
    }

    #[test]
    fn known_blocks_are_recognised() {
        let found = blocks(
            "{% snapshot s %}x{% endsnapshot %}{% materialization m, adapter='duckdb' %}{% endmaterialization %}",
        );
        let names: Vec<String> = found.unwrap().into_iter().map(|block| block.name).collect();
        assert_eq!(names, ["s", "m"]);
    }
}
