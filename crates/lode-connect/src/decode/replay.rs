//! One record alone, for replay from the quarantine.

use arrow::array::RecordBatch;

use super::blocks::Block;
use super::csv::{CsvFile, dialect, split};
use super::encoding::{Encoding, Transcoder};
use super::json::file::Layout;
use super::open_text::{self, Kind};
use super::run::BlockDecoder;
use super::{DecodePlan, Dialect, Format, Reject};

pub(super) fn decode_record(raw: &[u8], plan: &DecodePlan, dialect: Option<&Dialect>) -> Result<RecordBatch, Reject> {
    let refuse = |reason: String| Reject { rule: "decode", name: None, reason, line: 1, offset: 0, raw: raw.to_vec() };
    let encoding = dialect
        .map(|dialect| dialect.encoding.as_str())
        .and_then(Encoding::of_label)
        .or_else(|| open_text::declared_encoding(&plan.format))
        .unwrap_or(Encoding::Utf8);
    let mut text = Vec::with_capacity(raw.len());
    Transcoder::new(encoding).push(raw, true, &mut text);
    // A row of a Parquet file is kept as a JSON object.
    let is_json = dialect.is_none()
        && (plan.format == Format::Parquet || matches!(open_text::kind(&plan.format, &text), Kind::Json { .. }));
    let block = |text| Block { text, from: 0, line: 1, offset: 0, is_last: true, spoilt: None };
    let decoded = if is_json {
        open_text::json_file(plan, Layout::Values, false, encoding).decode(block(text))
    } else {
        let dialect = match dialect {
            Some(dialect) => dialect.clone(),
            None => guess(&text, plan, encoding),
        };
        // The one record of the block would be taken for the last line of a file.
        let whole = Block { is_last: false, ..block(text) };
        CsvFile::new(plan, &dialect, encoding).decode(whole)
    };
    match decoded {
        Err(problem) => Err(refuse(problem.to_string())),
        Ok(mut decoded) => match decoded.rejects.pop() {
            Some(reject) => Err(Reject { line: 1, offset: 0, raw: raw.to_vec(), ..reject }),
            None if decoded.batch.num_rows() == 1 => Ok(decoded.batch),
            None => Err(refuse(format!("{} records found, one expected", decoded.batch.num_rows()))),
        },
    }
}

/// The declared dialect, else the delimiter that gives as many fields as the plan has columns, or most.
fn guess(text: &[u8], plan: &DecodePlan, encoding: Encoding) -> Dialect {
    let options = match &plan.format {
        Format::Csv(options) => options.clone(),
        _ => super::CsvOptions::default(),
    };
    let names: Vec<String> = plan.schema.fields().iter().map(|field| field.name().clone()).collect();
    let ascii = |option: Option<char>| option.filter(char::is_ascii).map(|c| c as u8);
    let with = |delimiter: u8| Dialect {
        delimiter,
        quote: if options.quoting == Some(false) { None } else { Some(ascii(options.quote).unwrap_or(b'"')) },
        escape: ascii(options.escape),
        comment: ascii(options.comment),
        skip_rows: 0,
        has_header: false,
        decimal: ascii(options.decimal).unwrap_or(b'.'),
        encoding: encoding.name().to_owned(),
        header: dialect::column_names(&names),
    };
    let fields = |dialect: &Dialect| {
        let (mut records, mut fields) = (Vec::new(), Vec::new());
        split::Splitter::new(text, 0, dialect.grammar()).next(1, &mut records, &mut fields);
        fields.len()
    };
    let candidates = ascii(options.delimiter).map_or(b",;\t|".to_vec(), |delimiter| vec![delimiter]);
    let mut all: Vec<Dialect> = candidates.into_iter().map(with).collect();
    let at = all.iter().position(|dialect| fields(dialect) == names.len()).unwrap_or(0);
    all.swap_remove(at)
}
