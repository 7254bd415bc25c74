//! Queries with their rows in `tests/sql/*.slt`: `statement` runs, `query` runs and compares the lines behind `----`.
//! `LODE_REWRITE=1` writes what came instead; the rows that stand there were PostgreSQL's.

use std::path::Path;

use crate::fixture::{Fixture, is_same};

async fn run(path: &Path) -> Vec<String> {
    let fixture = Fixture::new().await;
    let text = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    let mut rewritten = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let body: Vec<&str> = block.lines().filter(|line| !line.starts_with('#')).collect();
        let mut kept = block.to_owned();
        match body.split_first() {
            Some((&"statement", sql)) => drop(fixture.must(&sql.join("\n")).await),
            Some((&"query", rest)) => {
                let cut = rest.iter().position(|line| *line == "----").unwrap();
                let (sql, wanted) = (rest[..cut].join("\n"), &rest[cut + 1..]);
                let found = match fixture.sql(&sql).await {
                    Ok(rows) => rows,
                    Err(problem) => vec![format!("error: {problem}")],
                };
                let is_line_same = |(ours, theirs): (&String, &&str)| {
                    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.split('|').collect(), theirs.split('|').collect());
                    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs))
                };
                if found.len() != wanted.len() || !found.iter().zip(wanted).all(is_line_same) {
                    wrong.push(format!("{sql}\nwanted {wanted:#?}\nfound {found:#?}"));
                    let head = block.split("----").next().unwrap();
                    kept = format!("{head}----\n{}", found.join("\n"));
                }
            }
            Some((other, _)) => panic!("{}: unknown block \"{other}\"", path.display()),
            None => {}
        }
        rewritten.push(kept);
    }
    if std::env::var_os("LODE_REWRITE").is_some() {
        std::fs::write(path, format!("{}\n", rewritten.join("\n\n"))).unwrap();
    }
    wrong
}

#[tokio::test]
async fn queries_give_the_rows_that_postgres_gave() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let wrong = run(&path).await;
        assert!(wrong.is_empty(), "{}: {} differ\n{}", path.display(), wrong.len(), wrong.join("\n\n"));
    }
}
