//! JSON and NDJSON: records, nesting, rejects.

use lode_connect::decode::{Format, decode_record, infer};

use crate::decode_support::{Files, poison, read, read_as, read_text, read_with, types};

#[test]
fn nested_records_become_structs_and_lists() {
    let text = "{\"vin\":\"A\",\"soc\":{\"pct\":80.5,\"kwh\":3},\"dtc\":[\"P0\",null],\"ts\":\"2025-06-02T00:00:00Z\",\"mixed\":1,\"e\":[]}\n\
                \n\
                {\"soc\":{\"kwh\":4},\"vin\":\"B\\n\\u00e9\",\"dtc\":[],\"ts\":null,\"mixed\":{\"a\": [true]},\"on\":true}\r\n";
    let got = read_text("a.json", text, Format::Auto);
    let wanted = [
        "vin text",
        "soc struct<pct: double precision, kwh: bigint>",
        "dtc text[]",
        "ts timestamptz",
        "mixed json",
        "e json",
        "on boolean",
        "_rescued json",
        "_line bigint",
    ];
    assert_eq!(types(&got.batch.schema()), wanted);
    assert_eq!(got.plain("vin"), ["A", "B\né"]);
    assert_eq!(got.plain("soc"), ["{pct: 80.5, kwh: 3}", "{pct: , kwh: 4}"]);
    assert_eq!(got.plain("dtc"), ["[P0, ]", "[]"]);
    assert_eq!(got.plain("mixed"), ["1", "{\"a\": [true]}"]);
    assert_eq!(got.plain("_line"), ["1", "3"]);
}

#[test]
fn what_does_not_fit_is_rescued_by_its_path() {
    let files = Files::new();
    let first = files.put("a.ndjson", "{\"id\":1,\"s\":{\"x\":1},\"l\":[1]}\n");
    let second = files.put("b.ndjson", "{\"id\":\"1\",\"s\":{\"x\":1.5,\"y\":[2]},\"l\":[1,\"a\"],\"new\":null,\"n\":{\"k\":1}}\n{\"id\":2,\"id\":3}\n");
    let plan = infer(&[first], &Format::Ndjson, None, None).unwrap();
    let got = read(&second, &plan).unwrap();
    assert_eq!(got.plain("id"), ["NULL", "3"]);
    assert_eq!(got.plain("l"), ["NULL", "NULL"]);
    assert_eq!(got.plain("_rescued")[0], "{\"id\":\"1\",\"s.x\":1.5,\"s.y\":[2],\"l\":[1,\"a\"],\"n\":{\"k\":1}}");
    assert!(got.rejects.is_empty());
}

#[test]
fn declared_columns_reject_misfits() {
    let columns = [("id", "bigint"), ("price", "numeric(6,2)"), ("s", "struct<x: smallint>"), ("t", "text")];
    let text = "{\"id\":1,\"price\":\"12.50\",\"s\":{\"x\":1.0},\"t\":5,\"other\":[]}\n\
                {\"id\":1.5}\n{\"id\":2,\"price\":12.505}\n{\"id\":3,\"s\":{\"x\":99999}}\n{\"id\":4,\"t\":{}}\n{\"id\":9223372036854775808}\n";
    let got = read_as(text, Format::Ndjson, &columns);
    assert_eq!(got.plain("price"), ["12.50"]);
    assert_eq!(got.plain("t"), ["5"]);
    let names: Vec<_> = got.rejects.iter().map(|r| (r.rule, r.name.clone().unwrap(), r.line)).collect();
    let wanted = [("id", 2), ("price", 3), ("s.x", 4), ("t", 5), ("id", 6)].map(|(n, l)| ("contract", n.to_owned(), l));
    assert_eq!(names, wanted);
}

#[test]
fn a_bad_line_is_rejected_and_the_file_goes_on() {
    let text = b"{\"a\":1}\n{\"a\":2,}\nnot json\n[1]\n{\"a\":\"\xFF\"}\n{\"a\":\"\\ud800\"}\n{\"a\":3} x\n{\"a\":4";
    let got = read_text("a.ndjson", text, Format::Ndjson);
    assert_eq!(got.plain("a"), ["1"]);
    let wanted: [(u64, &[u8]); 7] = [
        (2, b"{\"a\":2,}"),
        (3, b"not json"),
        (4, b"[1]"),
        (5, b"{\"a\":\"\xFF\"}"),
        (6, b"{\"a\":\"\\ud800\"}"),
        (7, b"{\"a\":3} x"),
        (8, b"{\"a\":4"),
    ];
    let found: Vec<(u64, &[u8])> = got.rejects.iter().map(|reject| (reject.line, reject.raw.as_slice())).collect();
    assert_eq!(found, wanted);
    assert_eq!(got.rejects[0].reason, "a string was expected at byte 8");
    assert_eq!(got.rejects[2].reason, "the record is no JSON object at byte 1");
}

#[test]
fn arrays_and_objects_over_many_lines() {
    let array = "[\n {\"a\": 1,\n  \"b\": \"]}\"},\n {\"a\": 2, \"b\": null}\n]\n";
    let got = read_text("a.json", array, Format::Auto);
    assert_eq!(got.plain("a"), ["1", "2"]);
    assert_eq!(got.plain("_line"), ["2", "4"]);
    let objects = "{\n \"a\": 1\n}\n{\n \"a\": 2\n}{\"a\": 3}";
    assert_eq!(read_text("b.json", objects, Format::Auto).plain("a"), ["1", "2", "3"]);
}

#[test]
fn an_array_may_end_right_behind_a_number_or_a_word() {
    for last in ["3", "3 ", "null", "\"x\"", "-1.5e3\n"] {
        let got = read_text("a.json", format!("[{{\"id\":1}},{last}]"), Format::Json);
        assert_eq!(got.plain("id"), ["1"]);
        let raw: Vec<_> = got.rejects.iter().map(|reject| String::from_utf8_lossy(&reject.raw)).collect();
        assert_eq!(raw, [last.trim()]);
    }
}

#[test]
fn a_record_without_a_declared_field_is_rejected_with_the_fields_it_has() {
    let columns = [("id", "bigint"), ("v", "text")];
    let text = "{\"id\":1,\"extra\":{\"id\":2}}\n{\"identifier\":3,\"w\":[1]}\n{}\n{\"v\":null}\n{\"\\u0069d\":4}\n{\"w\":1} x\n";
    let got = read_as(text, Format::Ndjson, &columns);
    assert_eq!(got.plain("id"), ["1", "NULL", "NULL", "4"]);
    let found: Vec<_> = got.rejects.iter().map(|r| (r.rule, r.line, r.reason.as_str())).collect();
    let strangers = ("contract", 2, "no declared column among its fields: identifier, w");
    assert_eq!(found, [strangers, ("decode", 6, "text behind the end of the value at byte 9")]);
    assert_eq!(got.rejects[0].raw, b"{\"identifier\":3,\"w\":[1]}");
    // Those of a record in quarantine are not lost.
    assert_eq!(got.outcome.undeclared.shown(), "extra");
    // As a file of values: the records can be read, so the file is not the wrong one.
    assert_eq!(read_as("[{\"identifier\":3}]", Format::Json, &columns).rejects.len(), 1);
    // Inferred columns keep what they do not know.
    assert!(read_text("a.ndjson", "{\"a\":1}\n{\"b\":1}\n", Format::Ndjson).rejects.is_empty());
}

#[test]
fn an_array_that_is_cut_behind_a_record_keeps_what_came_before() {
    let got = read_text("a.json", "[{\"a\":1},{\"a\":2},", Format::Json);
    assert_eq!(got.plain("a"), ["1", "2"]);
    assert_eq!(got.rejects.len(), 1);
    assert!(got.rejects[0].reason.contains("the array has no end"));
}

#[test]
fn a_record_without_end_does_not_swallow_the_rest_of_an_array() {
    let files = Files::new();
    let good = files.put("a.json", "{\"a\":1}");
    let plan = infer(&[good], &Format::Json, None, None).unwrap();
    for (text, line) in [
        ("[{\"a\":", 1),
        ("[{\"a\":1},\n{\"a\":2},\n{\"a\":3,\"b\":[", 3),
        ("[{\"a\":1},\n\n{\"a\":2,\"b\":{\n},\n{\"a\":3},\n{\"a\":4}]\n", 3),
        ("{\"a\":1}\n{\"a\":\"2}\n{}\n", 2),
    ] {
        let shown = poison(read(&files.put("b.json", text), &plan));
        assert!(shown.contains(&format!("the record at line {line} of")), "{shown}");
    }
    let got = read(&files.put("b.json", "[{\"a\":1],{\"a\":2}]"), &plan).unwrap();
    assert_eq!((got.outcome.rows, got.rejects[0].raw.as_slice()), (1, b"{\"a\":1]".as_slice()));
    assert!(poison(read(&files.put("c.json", "hello"), &plan)).contains("no JSON record"));
    let got = read(&files.put("d.json", "[{\"a\":1}] tail"), &plan).unwrap();
    assert_eq!((got.outcome.rows, got.rejects[0].raw.as_slice()), (1, b"tail".as_slice()));
}

#[test]
fn many_blocks_over_many_workers_equal_one_worker() {
    let mut lines = String::new();
    for id in 0..90_000 {
        lines.push_str(&format!("{{\"id\":{id},\"name\":\"car \\u00e9 number {id} with a long name\",\"soc\":{{\"pct\":{}.5}},\"dtc\":[\"P{id}\"],\"note\":\"plain text that is long\"}}\n", id % 100));
    }
    assert!(lines.len() > 9 << 20);
    let array = format!("[{}]", lines.trim_end().replace('\n', ",\n"));
    let files = Files::new();
    let (ndjson, json) = (files.put("a.ndjson", &lines), files.put("a.json", &array));
    let mut plan = infer(std::slice::from_ref(&ndjson), &Format::Auto, None, None).unwrap();
    plan.keep_raw = true;
    let one = read_with(&ndjson, &plan, 1).unwrap();
    let three = read_with(&ndjson, &plan, 3).unwrap();
    assert_eq!(one.batch, three.batch);
    assert_eq!(one.batch, read_with(&json, &plan, 2).unwrap().batch);
    for (line, raw, offset) in three.raw.iter().step_by(997) {
        assert_eq!(&lines.as_bytes()[*offset as usize..*offset as usize + raw.len()], raw.as_slice());
        assert!(String::from_utf8_lossy(raw).starts_with(&format!("{{\"id\":{},", line - 1)));
    }
}

#[test]
fn a_json_record_can_be_read_again() {
    let files = Files::new();
    let path = files.put("a.ndjson", "{\"a\":1}\n");
    let plan = infer(&[path], &Format::Ndjson, None, None).unwrap();
    assert_eq!(decode_record(b" {\"a\": 2} ", &plan, None).unwrap().num_rows(), 1);
    assert!(decode_record(b"{\"a\": 2", &plan, None).is_err());
    assert!(decode_record(b"{\"a\": 2}{\"a\": 3}", &plan, None).is_err());
}

#[test]
fn a_list_with_an_unknown_member_in_it_is_rescued_whole() {
    let files = Files::new();
    let first = files.put("a.ndjson", "{\"l\":[{\"a\":1,\"m\":[{\"x\":1}]}]}\n");
    let lines = [
        "{\"l\":[{\"a\":1,\"b\":null},{\"a\":2}]}",
        "{\"l\":[{\"a\":1},{\"a\":2,\"b\":3}]}",
        "{\"l\":[{\"a\":1,\"m\":[{\"x\":1,\"y\":[]}]}]}",
    ];
    let second = files.put("b.ndjson", lines.join("\n"));
    let plan = infer(&[first], &Format::Ndjson, None, None).unwrap();
    let got = read(&second, &plan).unwrap();
    assert_eq!(got.plain("l"), ["[{a: 1, m: }, {a: 2, m: }]", "NULL", "NULL"]);
    assert_eq!(got.plain("_rescued"), ["NULL", lines[1], lines[2]]);
    // Declared columns say what is wanted.
    let declared = read_as(lines[1], Format::Ndjson, &[("l", "struct<a: bigint>[]")]);
    assert_eq!(declared.plain("l"), ["[{a: 1}, {a: 2}]"]);
}

#[test]
fn deep_lists_become_json() {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let got = read_text("a.ndjson", format!("{{\"l\":{deep},\"s\":[[1]]}}\n"), Format::Ndjson);
    let types = types(&got.batch.schema());
    assert_eq!(types[0].matches("[]").count(), 15, "{}", types[0]);
    assert!(types[0].starts_with("l json"), "{}", types[0]);
    assert_eq!(types[1], "s bigint[][]");
    assert!(got.plain("l")[0].contains("1"));
}
