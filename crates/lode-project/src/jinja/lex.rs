//! A pass over Jinja text before minijinja: finds tags and blocks, and rewrites what minijinja cannot read.
//!
//! Every rewrite stays on its line, so line numbers hold; [`Rewritten::original`] maps byte offsets back.

use std::ops::Range;

/// One stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) kind: SegmentKind,
    /// The whole stretch, with delimiters.
    pub(crate) range: Range<usize>,
    /// Between the delimiters and trim marks.
    pub(crate) inner: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    Text,
    Comment,
    Expression,
    Statement,
    /// From `{% raw %}` to `{% endraw %}`.
    Raw,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LexFault {
    pub(crate) message: String,
    pub(crate) offset: usize,
}

/// Cuts a file into text, comments and tags.
pub(crate) fn segments(text: &str) -> Result<Vec<Segment>, LexFault> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = next_open(text, at) {
        if start > at {
            found.push(Segment { kind: SegmentKind::Text, range: at..start, inner: at..start });
        }
        let segment = match text.as_bytes().get(start + 1) {
            Some(b'#') => comment(text, start)?,
            Some(b'{') => tag(text, start, SegmentKind::Expression)?,
            _ => tag(text, start, SegmentKind::Statement)?,
        };
        let segment = if first_word(text, &segment) == "raw" { raw(text, &segment)? } else { segment };
        at = segment.range.end;
        found.push(segment);
    }
    if at < text.len() {
        found.push(Segment { kind: SegmentKind::Text, range: at..text.len(), inner: at..text.len() });
    }
    Ok(found)
}

fn next_open(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

fn comment(text: &str, start: usize) -> Result<Segment, LexFault> {
    let rest = text.get(start + 2..).unwrap_or_default();
    let length =
        rest.find("#}").ok_or(LexFault { message: "this comment is not closed with `#}`".into(), offset: start })?;
    let inner = start + 2..start + 2 + length;
    Ok(Segment { kind: SegmentKind::Comment, range: start..inner.end + 2, inner })
}

fn raw(text: &str, open: &Segment) -> Result<Segment, LexFault> {
    let mut at = open.range.end;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find("{%")).map(|found| at + found) {
        let inner = text.get(start + 2..).unwrap_or_default().trim_start_matches(['-', '+']).trim_start();
        if inner.starts_with("endraw")
            && let Some(end) = text.get(start..).and_then(|rest| rest.find("%}"))
        {
            let end = start + end + 2;
            return Ok(Segment { kind: SegmentKind::Raw, range: open.range.start..end, inner: open.range.end..start });
        }
        at = start + 2;
    }
    Err(LexFault { message: "`{% raw %}` is not closed with `{% endraw %}`".into(), offset: open.range.start })
}

fn tag(text: &str, start: usize, kind: SegmentKind) -> Result<Segment, LexFault> {
    let bytes = text.as_bytes();
    let mut at = start + 2;
    let mut depth = 0_i32;
    let close: &[u8] = if kind == SegmentKind::Expression { b"}}" } else { b"%}" };
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"') => {
                let end = string_end(bytes, at, quote);
                at = end.ok_or(LexFault { message: "this text is not closed".into(), offset: at })?;
                continue;
            }
            _ if bytes[at..].starts_with(close) && (depth == 0 || kind == SegmentKind::Statement) => {
                let mut inner = start + 2..at;
                if matches!(bytes.get(inner.start), Some(b'-' | b'+')) && inner.start < inner.end {
                    inner.start += 1;
                }
                if inner.end > inner.start && matches!(bytes.get(inner.end - 1), Some(b'-' | b'+')) {
                    inner.end -= 1;
                }
                return Ok(Segment { kind, range: start..at + 2, inner });
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    let close = if kind == SegmentKind::Expression { "}}" } else { "%}" };
    Err(LexFault { message: format!("this tag is not closed with `{close}`"), offset: start })
}

/// One past the closing quote.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

pub(crate) fn first_word<'a>(text: &'a str, segment: &Segment) -> &'a str {
    if segment.kind != SegmentKind::Statement {
        return "";
    }
    let inner = text.get(segment.inner.clone()).unwrap_or_default().trim_start();
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
    inner.get(..end).unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Word,
    Number,
    Text,
    Symbol,
}

#[derive(Debug, Clone)]
struct Token {
    kind: TokenKind,
    range: Range<usize>,
}

fn tokens(text: &str, range: Range<usize>) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let byte = bytes[at];
        let (kind, end) = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                at += 1;
                continue;
            }
            b'\'' | b'"' => (TokenKind::Text, string_end(bytes, at, byte).unwrap_or(range.end).min(range.end)),
            b'0'..=b'9' => (TokenKind::Number, run(bytes, at, range.end, |b| b.is_ascii_alphanumeric() || b == b'_')),
            _ if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                (TokenKind::Word, run(bytes, at, range.end, |b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80))
            }
            _ => {
                let two = bytes.get(at..at + 2).unwrap_or_default();
                let is_pair = matches!(two, b"==" | b"!=" | b"<=" | b">=" | b"//" | b"**") && at + 2 <= range.end;
                (TokenKind::Symbol, at + if is_pair { 2 } else { 1 })
            }
        };
        found.push(Token { kind, range: at..end });
        at = end;
    }
    found
}

fn run(bytes: &[u8], start: usize, limit: usize, fits: impl Fn(u8) -> bool) -> usize {
    (start..limit).find(|&at| !fits(bytes[at])).unwrap_or(limit)
}

/// Text for minijinja, and the way back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rewritten {
    pub(crate) text: String,
    /// (offset in `text`, offset in the file) at each point where the two begin to run in step.
    marks: Vec<(usize, usize)>,
}

impl Rewritten {
    /// Offset in the file of an offset in `text`.
    pub(crate) fn original(&self, offset: usize) -> usize {
        let at = self.marks.partition_point(|(here, _)| *here <= offset);
        match at.checked_sub(1).and_then(|at| self.marks.get(at)) {
            Some((here, there)) => {
                let next = self.marks.get(at).map_or(usize::MAX, |(_, there)| *there);
                (there + (offset - here)).min(next)
            }
            None => 0,
        }
    }

    fn copy(&mut self, text: &str, range: Range<usize>) {
        self.marks.push((self.text.len(), range.start));
        self.text.push_str(text.get(range).unwrap_or_default());
    }

    fn add(&mut self, inserted: &str, at: usize) {
        self.marks.push((self.text.len(), at));
        self.text.push_str(inserted);
    }
}

/// A change at a place: `remove` bytes give way to `insert`.
struct Edit {
    at: usize,
    remove: usize,
    insert: String,
}

/// Rewrites `range` of a file, skipping `holes` (blocks that live elsewhere), after `prologue` on the first line. Lines
/// before `range` and in holes stay as empty comments, so that line numbers hold.
pub(crate) fn rewrite(
    text: &str,
    range: Range<usize>,
    holes: &[Range<usize>],
    prologue: &str,
) -> Result<Rewritten, LexFault> {
    let mut out = Rewritten::default();
    let lines_before = text.get(..range.start).unwrap_or_default().matches('\n').count();
    if lines_before > 0 {
        out.add(&format!("{{#{}#}}", "\n".repeat(lines_before)), 0);
    }
    out.add(prologue, range.start);
    let mut at = range.start;
    for hole in holes.iter().filter(|hole| hole.start >= range.start && hole.end <= range.end) {
        rewrite_part(text, at..hole.start, &mut out)?;
        let lines = text.get(hole.clone()).unwrap_or_default().matches('\n').count();
        out.add(&format!("{{#{}#}}", "\n".repeat(lines)), hole.start);
        at = hole.end;
    }
    rewrite_part(text, at..range.end, &mut out)?;
    Ok(out)
}

fn rewrite_part(text: &str, range: Range<usize>, out: &mut Rewritten) -> Result<(), LexFault> {
    let part = text.get(range.clone()).unwrap_or_default();
    let shifted = segments(part).map_err(|fault| LexFault { offset: fault.offset + range.start, ..fault })?;
    for segment in shifted {
        let whole = segment.range.start + range.start..segment.range.end + range.start;
        let inner = segment.inner.start + range.start..segment.inner.end + range.start;
        if !matches!(segment.kind, SegmentKind::Expression | SegmentKind::Statement) {
            out.copy(text, whole);
            continue;
        }
        let mut edits = edits(text, inner, segment.kind);
        edits.sort_by_key(|edit| edit.at);
        let mut at = whole.start;
        for edit in edits {
            out.copy(text, at..edit.at);
            out.add(&edit.insert, edit.at);
            at = edit.at + edit.remove;
        }
        out.copy(text, at..whole.end);
    }
    Ok(())
}

const KEYWORDS: &[&str] =
    &["in", "is", "if", "else", "elif", "and", "or", "not", "for", "set", "do", "call", "filter", "recursive"];

fn edits(text: &str, inner: Range<usize>, kind: SegmentKind) -> Vec<Edit> {
    let tokens = tokens(text, inner.clone());
    let word = |at: usize| tokens.get(at).and_then(|token| text.get(token.range.clone())).unwrap_or_default();
    let end = tokens.last().map_or(inner.end, |token| token.range.end);
    let mut edits = Vec::new();
    let insert = |at: usize, insert: &str| Edit { at, remove: 0, insert: insert.to_owned() };
    if kind == SegmentKind::Statement {
        match word(0) {
            "do" => {
                let start = tokens.first().map_or(inner.start, |token| token.range.start);
                edits.push(Edit { at: start, remove: 2, insert: "set __do = (".into() });
            }
            "set" => {
                if let Some(equals) = assignment(&tokens, word) {
                    edits.push(insert(tokens.get(equals).map_or(end, |token| token.range.end), " own(("));
                }
            }
            "if" | "elif" | "else" | "for" if word(tokens.len().saturating_sub(1)) == ":" => {
                edits.push(Edit { at: end - 1, remove: 1, insert: String::new() });
            }
            _ => {}
        }
    }
    literals(&tokens, word, &mut edits);
    percents(&tokens, word, &mut edits);
    if kind == SegmentKind::Statement {
        match word(0) {
            "do" => edits.push(insert(end, ")")),
            "set" if assignment(&tokens, word).is_some() => edits.push(insert(end, "))")),
            _ => {}
        }
    }
    edits
}

/// The token `=` of `{% set x = … %}`.
fn assignment<'a>(tokens: &[Token], word: impl Fn(usize) -> &'a str) -> Option<usize> {
    let mut depth = 0;
    (0..tokens.len()).find(|&at| {
        match word(at) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            "=" => return depth == 0,
            _ => {}
        }
        false
    })
}

/// Wraps list and map literals in `own(…)`, so that they can change.
fn literals<'a>(tokens: &[Token], word: impl Fn(usize) -> &'a str, edits: &mut Vec<Edit>) {
    let mut open: Vec<bool> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match word(at) {
            "(" => open.push(false),
            "[" | "{" => {
                let is_literal = at.checked_sub(1).is_none_or(|before| !ends_operand(&tokens[before], word(before)));
                if is_literal {
                    edits.push(Edit { at: token.range.start, remove: 0, insert: "own(".into() });
                }
                open.push(is_literal);
            }
            ")" | "]" | "}" if open.pop() == Some(true) => {
                edits.push(Edit { at: token.range.end, remove: 0, insert: ")".into() });
            }
            _ => {}
        }
    }
}

fn ends_operand(token: &Token, word: &str) -> bool {
    match token.kind {
        TokenKind::Text | TokenKind::Number => true,
        TokenKind::Word => !KEYWORDS.contains(&word),
        TokenKind::Symbol => matches!(word, ")" | "]" | "}"),
    }
}

/// `"…" % x` becomes `"…" |pyformat(x)`.
fn percents<'a>(tokens: &[Token], word: impl Fn(usize) -> &'a str, edits: &mut Vec<Edit>) {
    for at in 1..tokens.len() {
        if word(at) != "%" || tokens[at - 1].kind != TokenKind::Text {
            continue;
        }
        if let Some(last) = operand_end(tokens, &word, at + 1) {
            edits.push(Edit { at: tokens[at].range.start, remove: 1, insert: "|pyformat(".into() });
            edits.push(Edit { at: tokens[last].range.end, remove: 0, insert: ")".into() });
        }
    }
}

/// Index of the last token of the operand that starts at `at`: a word or group with its attributes, calls and filters.
fn operand_end<'a>(tokens: &[Token], word: &impl Fn(usize) -> &'a str, mut at: usize) -> Option<usize> {
    if word(at) == "-" {
        at += 1;
    }
    tokens.get(at)?;
    let mut last = if matches!(word(at), "(" | "[" | "{") { closing(tokens, word, at)? } else { at };
    loop {
        match word(last + 1) {
            "." | "|" if last + 2 < tokens.len() => last += 2,
            "(" | "[" => last = closing(tokens, word, last + 1)?,
            _ => return Some(last),
        }
    }
}

fn closing<'a>(tokens: &[Token], word: &impl Fn(usize) -> &'a str, open: usize) -> Option<usize> {
    let mut depth = 0;
    (open..tokens.len()).find(|&at| {
        match word(at) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> String {
        rewrite(text, 0..text.len(), &[], "").unwrap().text
    }

    #[test]
    fn literals_and_assignments_are_owned() {
        assert_eq!(out("{% set x = [1, {'a': 2}] %}"), "{% set x = own(( own([1, own({'a': 2})]))) %}");
        assert_eq!(out("{{ x[0] }} {{ f(a)[1:2] }}"), "{{ x[0] }} {{ f(a)[1:2] }}");
        assert_eq!(out("{% for a in [1] -%}"), "{% for a in own([1]) -%}");
        assert_eq!(out("{% set x %}a{% endset %}"), "{% set x %}a{% endset %}");
        assert_eq!(out("{%- set ns.x = a == b -%}"), "{%- set ns.x = own(( a == b)) -%}");
    }

    #[test]
    fn do_and_percent_are_rewritten() {
        assert_eq!(out("{%- do x.append(1) if y -%}"), "{%- set __do = ( x.append(1) if y) -%}");
        assert_eq!(out("{{ '%s-%s' % (a, b|upper) ~ 'z' }}"), "{{ '%s-%s' |pyformat( (a, b|upper)) ~ 'z' }}");
        assert_eq!(out("{{ 5 % 2 }}{% if a: %}"), "{{ 5 % 2 }}{% if a %}");
    }

    #[test]
    fn raw_and_comments_and_texts_stay() {
        for text in ["{% raw %}{{ [1] }}{% endraw %}", "{# {% set x = [1] %} #}", "{{ '}} [1] %}' }}", "a { b } [1]"] {
            assert_eq!(out(text), text);
        }
    }

    #[test]
    fn a_dict_ends_where_its_braces_do() {
        assert_eq!(out("{{ {'a': {'b': 1}} }}"), "{{ own({'a': own({'b': 1})}) }}");
    }

    #[test]
    fn offsets_map_back() {
        let text = "a\n{% set x = [1] %}{{ bad }}";
        let rewritten = rewrite(text, 0..text.len(), &[], "").unwrap();
        let there = rewritten.text.find("bad").unwrap();
        assert_eq!(rewritten.original(there), text.find("bad").unwrap());
    }

    #[test]
    fn an_open_tag_is_a_fault_at_its_start() {
        assert_eq!(segments("a {{ b").unwrap_err().offset, 2);
        assert_eq!(segments("a {% if 'x %}").unwrap_err().offset, 8);
    }
}
