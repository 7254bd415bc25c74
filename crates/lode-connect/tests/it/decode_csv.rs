//! CSV: dialects, records, types, rejects.

use lode_connect::decode::{CsvOptions, Format, decode_record, infer};
use lode_core::sql_type;

use crate::decode_support::{Files, declared, poison, read, read_as, read_text, read_with, types};

#[test]
fn columns_and_types_are_inferred() {
    let text = "id,zip,big,price,on,day,at,utc,note\n\
                1,01234,9223372036854775808,1.50,true,2024-02-29,2024-02-29 10:00:00,2024-02-29T10:00:00Z,\n\
                -2,12345,1,NA,FALSE,-,2024-02-29T10:00:00.25,2024-02-29T12:00:00+02:00,NA\n";
    let got = read_text("a.csv", text, Format::Auto);
    let wanted = [
        "id bigint",
        "zip text",
        "big numeric(38,0)",
        "price double precision",
        "on boolean",
        "day date",
        "at timestamp",
        "utc timestamptz",
        "note text",
        "_rescued json",
        "_line bigint",
    ];
    assert_eq!(types(&got.batch.schema()), wanted);
    assert_eq!(got.plain("utc"), ["2024-02-29T10:00:00Z", "2024-02-29T10:00:00Z"]);
    assert_eq!(got.plain("price"), ["1.5", "NULL"]);
    assert_eq!(got.plain("note"), ["NULL", "NA"]);
    assert_eq!(got.plain("_line"), ["2", "3"]);
}

#[test]
fn a_misfit_of_an_inferred_column_is_rescued() {
    let files = Files::new();
    let first = files.put("a.csv", "id,n\n1,2\n3,4\n");
    let second = files.put("b.csv", "N,id,extra\n5,x\"y,new\n6.5,7,\n99999999999999999999,8,z\n");
    let plan = infer(&[first], &Format::Auto, None, None).unwrap();
    let got = read(&second, &plan).unwrap();
    assert_eq!(got.plain("id"), ["NULL", "7", "8"]);
    assert_eq!(got.plain("n"), ["5", "NULL", "NULL"]);
    let wanted = [
        "{\"id\":\"x\\\"y\",\"extra\":\"new\"}",
        "{\"n\":\"6.5\"}",
        "{\"n\":\"99999999999999999999\",\"extra\":\"z\"}",
    ];
    assert_eq!(got.plain("_rescued"), wanted);
    assert!(got.rejects.is_empty());
}

#[test]
fn a_misfit_of_a_declared_column_rejects_its_record() {
    let columns = [("id", "integer"), ("price", "numeric(5,2)"), ("name", "varchar(3)"), ("day", "date")];
    let text = "id,price,name,day\n1,12.30,abc,2024-01-01\n2147483648,1,a,\n2,1000.00,a,\n3,1.005,a,\n4,1,abcd,\n5,1,äöü,\n6,1,a,2023-02-29\n 7 , 1.5 ,a, 2024-01-02 \n";
    let got = read_as(text, Format::Csv(CsvOptions::default()), &columns);
    assert_eq!(got.plain("id"), ["1", "5", "7"]);
    assert_eq!(got.plain("price"), ["12.30", "1.00", "1.50"]);
    let rejects: Vec<_> = got.rejects.iter().map(|r| (r.rule, r.name.as_deref().unwrap(), r.line)).collect();
    let wanted = [
        ("contract", "id", 3),
        ("contract", "price", 4),
        ("contract", "price", 5),
        ("contract", "name", 6),
        ("contract", "day", 8),
    ];
    assert_eq!(rejects, wanted);
    assert_eq!(got.rejects[0].reason, "\"2147483648\" is no integer");
    assert_eq!(got.rejects[0].raw, b"2147483648,1,a,");
    assert_eq!(got.rejects[0].offset, text.find("2147483648").unwrap() as u64);
}

#[test]
fn ragged_records_and_a_second_header_are_rejected() {
    let got = read_text("a.csv", "a,b\n1,2\n1,2,3\n4\na,b\n\n5,6\n", Format::Auto);
    assert_eq!(got.plain("a"), ["1", "5"]);
    let reasons: Vec<&str> = got.rejects.iter().map(|reject| reject.reason.as_str()).collect();
    assert_eq!(reasons, ["3 fields found, 2 expected", "1 fields found, 2 expected", "the header line again"]);
    assert_eq!(got.plain("_line"), ["2", "7"]);
}

#[test]
fn local_times_in_a_gap_are_rejected() {
    let files = Files::new();
    let path =
        files.put("a.csv", "at\n2021-03-28 01:59:59\n2021-03-28 02:30:00\n2021-10-31 02:30:00\n2021-07-01T00:00:00Z\n");
    let columns = declared(&[("at", "timestamptz")]);
    let plan =
        infer(std::slice::from_ref(&path), &Format::Auto, Some(&columns), Some(chrono_tz::Europe::Berlin)).unwrap();
    let got = read(&path, &plan).unwrap();
    assert_eq!(got.plain("at"), ["2021-03-28T00:59:59Z", "2021-10-31T00:30:00Z", "2021-07-01T00:00:00Z"]);
    assert!(got.rejects[0].reason.contains("does not exist in Europe/Berlin"), "{}", got.rejects[0].reason);
}

#[test]
fn a_stray_quote_costs_its_line_only() {
    let got = read_text("a.csv", "a,b\n1,x\n2,\"never closed\n3,y\n4,z\n", Format::Auto);
    assert_eq!(got.plain("a"), ["1", "3", "4"]);
    assert_eq!(got.rejects.len(), 1);
    assert_eq!(got.rejects[0].raw, b"2,\"never closed");
    assert_eq!(got.rejects[0].line, 3);
}

#[test]
fn all_sql_types_are_read_when_declared() {
    let columns = [
        ("a", "smallint"),
        ("b", "real"),
        ("c", "bytea"),
        ("d", "time"),
        ("e", "interval"),
        ("f", "uuid"),
        ("g", "json"),
        ("h", "bigint[]"),
        ("i", "struct<x: double precision, y: text>"),
        ("j", "timestamp"),
        ("k", "double precision"),
    ];
    let text = "a;b;c;d;e;f;g;h;i;j;k\n\
        7;0.5;\\x00ff;10:20:30.5;1 day 02:00:00;6ba7b810-9dad-11d1-80b4-00c04fd430c8;{\"q\": [1]};[1,null,3];{\"y\":\"é\",\"x\":1};2024-01-01 00:00:00Z;NaN\n\
        7;0.5;\\x0;;;;;;;;\n7;;;25:00;;;;;;;\n7;;;;;no uuid;;;;;\n7;;;;;;{bad;;;;\n7;;;;;;;[1,\"x\"];;;\n";
    let got = read_as(text, Format::Csv(CsvOptions::default()), &columns);
    assert_eq!(got.outcome.rows, 1, "{:?} {:?}", got.rejects, got.outcome.notes);
    let row: Vec<String> = got.rows()[0].iter().map(|value| value.clone().unwrap()).collect();
    assert_eq!(row[2..4], ["00ff", "10:20:30.500"]);
    assert_eq!(row[6..9], ["{\"q\": [1]}", "[1, , 3]", "{x: 1.0, y: é}"]);
    assert_eq!(row[10], "NaN");
    let names: Vec<_> = got.rejects.iter().map(|reject| reject.name.clone().unwrap()).collect();
    assert_eq!(names, ["c", "d", "f", "g", "h"]);
}

#[test]
fn many_blocks_over_many_workers_equal_one_worker() {
    let mut text = String::from("id,quoted,value,at\n");
    for id in 0..150_000 {
        let quoted = match id % 7 {
            0 => "\"two\nlines, \"\"quoted\"\"\"".to_owned(),
            1 => "6\" pipe".to_owned(),
            2 => String::new(),
            _ => format!("text number {id} that is longer than twelve bytes"),
        };
        let bad = if id % 10_007 == 0 { ",ragged" } else { "" };
        text.push_str(&format!(
            "{id},{quoted},{}.{:02},2024-01-01T00:{:02}:{:02}Z{bad}\r\n",
            id % 1000,
            id % 100,
            id / 60 % 60,
            id % 60
        ));
    }
    assert!(text.len() > 9 << 20);
    let files = Files::new();
    let path = files.put("a.csv", &text);
    let mut plan = infer(std::slice::from_ref(&path), &Format::Auto, None, None).unwrap();
    plan.keep_raw = true;
    let one = read_with(&path, &plan, 1).unwrap();
    let three = read_with(&path, &plan, 3).unwrap();
    assert_eq!(one.batch, three.batch);
    assert_eq!(one.rejects, three.rejects);
    assert_eq!(one.outcome.rows, 150_000 - 15);
    assert_eq!(one.outcome.rejects, 15);
    assert_eq!(one.outcome.hash, blake3::hash(text.as_bytes()));
    // Lines, offsets and raw bytes are those of the file.
    let lines: Vec<&str> = text.split('\n').collect();
    for (line, raw, offset) in three.raw.iter().step_by(997) {
        let at = *offset as usize;
        assert_eq!(&text.as_bytes()[at..at + raw.len()], raw.as_slice());
        assert!(lines[*line as usize - 1].as_bytes().starts_with(&raw[..raw.len().min(6)]));
    }
    for reject in &three.rejects {
        let at = reject.offset as usize;
        assert_eq!(&text.as_bytes()[at..at + reject.raw.len()], reject.raw.as_slice());
    }
}

#[test]
fn a_record_can_be_read_again_alone() {
    let files = Files::new();
    let path = files.put("a.csv", "id;name;price\n1;a;1,5\n2;b\n3;c;2,5\n");
    let plan = infer(std::slice::from_ref(&path), &Format::Auto, None, None).unwrap();
    let got = read(&path, &plan).unwrap();
    let dialect = got.outcome.dialect.as_ref().unwrap();
    let row = decode_record(b"2;\"b;\";9,5", &plan, Some(dialect)).unwrap();
    assert_eq!(crate::decode_support::texts(row.column(1)), [Some("b;".to_owned())]);
    assert_eq!(crate::decode_support::texts(row.column(2)), [Some("9.5".to_owned())]);
    assert_eq!(
        decode_record(&got.rejects[0].raw, &plan, Some(dialect)).unwrap_err().reason,
        "2 fields found, 3 expected"
    );
    let copied: lode_connect::decode::Dialect = serde_json::from_str(&serde_json::to_string(dialect).unwrap()).unwrap();
    assert_eq!(&copied, dialect);
    assert!(decode_record(b"7;x;3", &plan, None).is_ok());
}

#[test]
fn options_override_the_sniffer() {
    let options = CsvOptions {
        delimiter: Some(':'),
        quote: Some('\''),
        header: Some(false),
        skip_rows: Some(1),
        comment: Some('%'),
        null_values: Some(vec!["none at all".into()]),
        date_formats: vec!["%d.%m.%Y".into()],
        ..CsvOptions::default()
    };
    let columns = [("a", "integer"), ("b", "text"), ("c", "date")];
    let got = read_as(
        "junk:::\n1:'x:y':24.12.2024\n% no record\nnone at all:NA:2024-12-25\nNA:z:\n",
        Format::Csv(options),
        &columns,
    );
    assert_eq!(got.plain("b"), ["x:y", "NA"]);
    assert_eq!(got.plain("c"), ["2024-12-24", "2024-12-25"]);
    assert_eq!(got.rejects[0].reason, "\"NA\" is no integer");
    let bad = CsvOptions { encoding: Some("utf-99".into()), ..CsvOptions::default() };
    assert!(infer(&[], &Format::Csv(bad), Some(&declared(&columns)), None).unwrap_err().what().contains("utf-99"));
}

#[test]
fn encodings_and_archives() {
    let text = "id,name\n1,Salé\n2,café\n3,plain\n";
    let latin: Vec<u8> = text.chars().map(|c| c as u32 as u8).collect();
    let got = read_text("a.csv", &latin, Format::Auto);
    assert_eq!(got.plain("name"), ["Salé", "café", "plain"]);
    assert_eq!(got.outcome.dialect.unwrap().encoding, "windows-1252");

    let mut utf16 = vec![0xFF, 0xFE];
    utf16.extend("id,name\n1,Salé\n2,x,y\n".encode_utf16().flat_map(u16::to_le_bytes));
    let got = read_text("a.csv", &utf16, Format::Auto);
    assert_eq!(got.plain("name"), ["Salé"]);
    assert_eq!(got.rejects[0].raw, "2,x,y".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    assert_eq!(got.rejects[0].offset, 2 + 2 * "id,name\n1,Salé\n".encode_utf16().count() as u64);

    let files = Files::new();
    let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let path = files.put("named.csv", &packed);
    let plan = infer(std::slice::from_ref(&path), &Format::Auto, None, None).unwrap();
    let got = read(&path, &plan).unwrap();
    assert_eq!(got.plain("name"), ["Salé", "café", "plain"]);
    assert_eq!(got.outcome.hash, blake3::hash(&packed));
    let cut = files.put("cut.csv", &packed[..packed.len() - 5]);
    assert!(poison(read(&cut, &plan)).contains("cut or damaged"));
    let avro = files.put("a.avro", b"Obj\x01\x02\x03");
    assert!(poison(read(&avro, &plan)).contains("Avro"));
    assert!(matches!(read(std::path::Path::new("/no/such/file"), &plan), Err(lode_connect::decode::FileError::Io(_))));
}

#[test]
fn bytes_that_are_no_text_reject_their_record() {
    let mut bytes = b"id,name\n".to_vec();
    for id in 0..100 {
        bytes.extend(format!("{id},caf\u{e9}\n").as_bytes());
    }
    bytes.extend(b"100,caf\xE9\n101,ok\n");
    let got = read_text("a.csv", &bytes, Format::Auto);
    assert_eq!(got.outcome.rows, 101);
    assert_eq!(got.rejects[0].raw, b"100,caf\xE9");
    assert!(got.rejects[0].reason.contains("not UTF-8"));
}

#[test]
fn doubles_are_canonical_and_exact_types_are_exact() {
    let got = read_as(
        "d,n\n-0.0,123456789012345678901234567890.12345678\n1e400,1\n,1e3\n",
        Format::Csv(CsvOptions::default()),
        &[("d", "double precision"), ("n", "numeric(38,8)")],
    );
    assert_eq!(got.plain("d"), ["0.0", "NULL"], "{:?} {:?}", got.rejects, got.outcome.notes);
    assert_eq!(got.plain("n"), ["123456789012345678901234567890.12345678", "1000.00000000"]);
    assert_eq!(got.rejects.len(), 1);
    assert_eq!(sql_type::name_of(got.batch.schema().field(1)), "numeric(38,8)");
}

#[test]
fn a_record_without_end_costs_itself_only() {
    let long = "x".repeat(66 << 20);
    let got = read_as(
        format!("id,name\n1,a\n2,{long}\n3,c\n"),
        Format::Csv(CsvOptions::default()),
        &[("id", "bigint"), ("name", "text")],
    );
    assert_eq!(got.plain("id"), ["1", "3"]);
    assert_eq!(got.plain("_line"), ["2", "4"]);
    assert_eq!(got.rejects.len(), 1);
    assert_eq!(got.rejects[0].reason, "the record is longer than 64 MiB; the first MiB is kept");
    assert_eq!((got.rejects[0].line, got.rejects[0].offset, got.rejects[0].raw.len()), (3, 12, 1 << 20));
}

#[test]
fn entries_of_a_zip_are_files_of_their_own() {
    let files = Files::new();
    let path = files.put("a.zip", "");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (name, text) in [("a.csv", "id,n\n1,x\n"), ("sub/b.csv", "n;id\ny;2\nz\n")] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let plan = infer(std::slice::from_ref(&path), &Format::Auto, None, None).unwrap();
    let got = read(&path, &plan).unwrap();
    assert_eq!((got.outcome.rows, got.outcome.rejects), (2, 1));
    assert_eq!(got.outcome.hash, blake3::hash(&std::fs::read(&path).unwrap()));
    let bytes = std::fs::read(&path).unwrap();
    let cut = files.put("cut.zip", &bytes[..bytes.len() / 2]);
    assert!(poison(read(&cut, &plan)).contains("cut or damaged"));
}

#[test]
fn a_code_with_leading_zeros_is_no_inferred_number() {
    let files = Files::new();
    let first = files.put("a.csv", "zip,share,big\n1067,1.5,12345678901234567890\n2,0.5,0\n");
    let second = files.put("b.csv", "zip,share,big\n01067,007.5,00\n -08,-0.25, +01\n0,0,0\n");
    let plan = infer(&[first], &Format::Auto, None, None).unwrap();
    assert_eq!(types(&plan.schema), ["zip bigint", "share double precision", "big numeric(38,0)"]);
    let got = read(&second, &plan).unwrap();
    assert_eq!(got.plain("zip"), ["NULL", "NULL", "0"]);
    assert_eq!(got.plain("share"), ["NULL", "-0.25", "0.0"]);
    assert_eq!(got.plain("big"), ["NULL", "NULL", "0"]);
    let rescued =
        ["{\"zip\":\"01067\",\"share\":\"007.5\",\"big\":\"00\"}", "{\"zip\":\" -08\",\"big\":\" +01\"}", "NULL"];
    assert_eq!(got.plain("_rescued"), rescued);
    let declared = read_as("zip\n01067\n", Format::Csv(CsvOptions::default()), &[("zip", "integer")]);
    assert_eq!(declared.plain("zip"), ["1067"]);
}

#[test]
fn many_stray_quotes_are_poison_and_some_are_rejects() {
    let files = Files::new();
    let options = CsvOptions { delimiter: Some(','), quote: Some('"'), skip_rows: Some(0), ..CsvOptions::default() };
    let plan = infer(&[], &Format::Csv(options), Some(&declared(&[("a", "text"), ("b", "text")])), None).unwrap();
    // Read from the line before, each line closes a quote and opens one.
    let some = files.put("some.csv", format!("a,b\n{}{}", "1,2\n".repeat(20), "x\"y,\"z\n".repeat(50)));
    let got = read(&some, &plan).unwrap();
    assert_eq!((got.outcome.rows, got.outcome.rejects), (20, 50), "{:?}", got.outcome.notes);
    let many = files.put("many.csv", format!("a,b\n{}{}", "1,2\n".repeat(20), "x\"y,\"z\n".repeat(20_000)));
    let shown = poison(read(&many, &plan));
    assert!(shown.contains("do not match") && shown.contains("`quoting: false`"), "{shown}");
}

#[test]
fn a_last_line_that_is_bad_in_two_ways_is_rejected_once() {
    let files = Files::new();
    let first = files.put("a.csv", "at,n\n2021-07-01T00:00:00Z,1\n2021-07-02T00:00:00Z,2\n");
    let second = files.put("b.csv", "at,n\n2021-07-01T00:00:00Z,1\n2021-03-28 02:30:00,total\n");
    let plan = infer(&[first], &Format::Auto, None, Some(chrono_tz::Europe::Berlin)).unwrap();
    assert_eq!(types(&plan.schema), ["at timestamptz", "n bigint"]);
    let got = read(&second, &plan).unwrap();
    assert_eq!((got.outcome.rows, got.outcome.rejects), (1, 1));
}

#[test]
fn a_stray_quote_does_not_make_one_row_of_several() {
    let files = Files::new();
    let text = "id,note\n1,plain\n2,\"x, y\n3,z\n4,\"w\"\n5,\"two\nlines\"\n6,\"q\"r\n";
    let got = read(&files.put("a.csv", text), &infer(&[files.put("b.csv", text)], &Format::Auto, None, None).unwrap());
    let got = got.unwrap();
    assert_eq!((got.outcome.rows, got.outcome.rejects), (3, 1));
    let reject = &got.rejects[0];
    assert!(reject.reason.contains("the record may be several"), "{}", reject.reason);
    assert_eq!(reject.raw, b"2,\"x, y\n3,z\n4,\"w\"");
}
