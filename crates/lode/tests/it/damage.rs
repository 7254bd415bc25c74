//! Damaged files and lost rights: each error says what, where and how to fix it, and nothing is lost.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use super::support::{Ended, Folder};

/// The user without rights, where the tests run as root.
const NOBODY: u32 = 65534;

/// Files below a folder, in order of their paths.
fn files(folder: &Folder, below: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&folder.path().join(below), &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}

fn landed() -> Folder {
    let folder = Folder::template();
    folder.lode(&["ingest"]).done();
    folder
}

fn orders(folder: &Folder) -> Ended {
    folder.lode(&["sql", "-c", "select count(*) as n, max(amount) as most from bronze.orders", "--format", "csv"])
}

/// The error of a command that must have failed, with its what, where and fix.
#[track_caller]
fn refused(ended: &Ended, what: &[&str]) {
    assert!(ended.code.is_some_and(|code| (1..=3).contains(&code)), "{:?} {}{}", ended.code, ended.out, ended.err);
    for part in [&["error: ", "where: ", "fix:   "], what].concat() {
        assert!(ended.err.contains(part), "no {part:?} in:\n{}", ended.err);
    }
    assert!(!ended.err.contains("panicked") && !ended.err.contains("a bug in Lode"), "{}", ended.err);
}

#[test]
fn damaged_parquet() {
    let folder = landed();
    let sound = orders(&folder).done();
    let file = files(&folder, ".lode/lake/bronze/orders", ".parquet").remove(0);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = fs::read(&file).unwrap();
    // Cut short, its end overwritten, gone.
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    refused(&orders(&folder), &[&name]);
    let footer = bytes.len() - 8;
    let garbled: Vec<u8> =
        bytes.iter().enumerate().map(|(at, byte)| if at + 60 > footer && at < footer { 0xff } else { *byte }).collect();
    fs::write(&file, garbled).unwrap();
    refused(&orders(&folder), &[&name]);
    fs::remove_file(&file).unwrap();
    refused(&orders(&folder), &[&name]);
    fs::write(&file, bytes).unwrap();
    assert_eq!(orders(&folder).done(), sound);
}

#[test]
fn a_damaged_parquet_file_to_land() {
    let folder = Folder::with(&[(
        "lode.yml",
        "ingest:\n  - {name: t, files: {path: in, pattern: \"*.parquet\"}, format: parquet, table: bronze.t}\n",
    )]);
    folder.lode(&["sql", "-c", "create table p as select v as n from generate_series(1, 9) as s(v)"]).done();
    let bytes = fs::read(&files(&folder, ".lode/lake/public/p", ".parquet")[0]).unwrap();
    folder.write("in/sound.parquet", &bytes);
    folder.write("in/cut.parquet", &bytes[..bytes.len() - 20]);
    refused(&folder.lode(&["ingest"]), &["in/cut.parquet"]);
    let rows = folder.lode(&["sql", "-c", "select count(*) as n from bronze.t", "--format", "csv"]);
    assert_eq!(rows.done(), "n\n9\n");
}

#[test]
fn a_damaged_delta_log() {
    let folder = landed();
    let sound = orders(&folder).done();
    let log = files(&folder, ".lode/lake/bronze/orders/_delta_log", ".json");
    let last = log.last().unwrap();
    let bytes = fs::read(last).unwrap();
    for damage in [&bytes[..bytes.len() / 2], b"{}}\n", b"\0\0\0\0"] {
        fs::write(last, damage).unwrap();
        refused(&orders(&folder), &[&last.file_name().unwrap().to_string_lossy()]);
    }
    // Not a word of it is believed, nor is anything written behind it.
    folder.write("landing/orders/more.csv", "order_id,customer,ordered_at,amount\n77,x,2026-01-01T00:00:00Z,1.00\n");
    let ended = folder.lode(&["ingest"]);
    refused(&ended, &[&last.file_name().unwrap().to_string_lossy()]);
    fs::write(last, bytes).unwrap();
    assert_eq!(orders(&folder).done(), sound);
}

#[test]
fn a_damaged_seal_stops_a_rebuild() {
    let folder = landed();
    let sound = orders(&folder).done();
    let seal = files(&folder, ".lode/lake/_lode/pipelines", ".json").pop().unwrap();
    let bytes = fs::read(&seal).unwrap();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let _ = fs::remove_file(folder.path().join(".lode").join(name));
    }
    fs::write(&seal, &bytes[..bytes.len() / 2]).unwrap();
    refused(&folder.lode(&["doctor", "--rebuild"]), &[&seal.file_name().unwrap().to_string_lossy()]);
    fs::write(&seal, bytes).unwrap();
    folder.lode(&["doctor", "--rebuild"]).done();
    assert_eq!(orders(&folder).done(), sound);
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Runs the binary as a user to whom rights apply: root has all of them.
struct Nobody {
    folder: Folder,
    binary: PathBuf,
}

impl Nobody {
    fn new(folder: Folder) -> Self {
        let binary = folder.path().join("lode-binary");
        let built = env!("CARGO_BIN_EXE_lode");
        if fs::hard_link(built, &binary).is_err() {
            fs::copy(built, &binary).unwrap();
        }
        let nobody = Self { folder, binary };
        nobody.own(&nobody.folder.path());
        nobody
    }

    /// Gives everything below a path to the user.
    fn own(&self, path: &Path) {
        if !is_root() || path == self.binary {
            return;
        }
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.own(&entry.unwrap().path());
            }
        }
    }

    fn lode(&self, args: &[&str]) -> Ended {
        let pattern = self.folder.command(args);
        let mut command = std::process::Command::new(&self.binary);
        command.args(args).current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
        for (name, value) in pattern.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        self.folder.ended(command.output().unwrap())
    }

    fn set_mode(&self, below: &str, mode: u32) {
        fs::set_permissions(self.folder.path().join(below), Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn a_file_that_the_user_may_not_read() {
    let nobody = Nobody::new(Folder::template());
    nobody
        .folder
        .write("landing/orders/secret.csv", "order_id,customer,ordered_at,amount\n77,x,2026-01-01T00:00:00Z,1.00\n");
    nobody.own(&nobody.folder.path());
    nobody.set_mode("landing/orders/secret.csv", 0o000);
    let ended = nobody.lode(&["ingest"]);
    refused(&ended, &["secret.csv", "ermission denied"]);
    let count = || nobody.lode(&["sql", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).done();
    assert_eq!(count(), "n\n4\n");
    nobody.set_mode("landing/orders/secret.csv", 0o600);
    nobody.lode(&["ingest", "--retry-poison"]).done();
    assert_eq!(count(), "n\n5\n");
    // A whole folder.
    nobody.set_mode("landing/orders", 0o000);
    refused(&nobody.lode(&["ingest"]), &["landing/orders", "ermission denied"]);
    nobody.set_mode("landing/orders", 0o700);
}

#[test]
fn a_table_that_the_user_may_not_write() {
    let nobody = Nobody::new(Folder::template());
    nobody.lode(&["ingest"]).done();
    nobody
        .folder
        .write("landing/orders/more.csv", "order_id,customer,ordered_at,amount\n77,x,2026-01-01T00:00:00Z,1.00\n");
    nobody.own(&nobody.folder.path());
    let count = || nobody.lode(&["sql", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).done();
    for table in [".lode/lake/bronze/orders", ".lode/lake/bronze/orders/_delta_log"] {
        nobody.set_mode(table, 0o500);
        refused(&nobody.lode(&["ingest"]), &["bronze/orders", "ermission denied"]);
        nobody.set_mode(table, 0o700);
    }
    nobody.lode(&["ingest"]).done();
    assert_eq!(count(), "n\n5\n");
    nobody.set_mode(".lode/lake/bronze/orders/_delta_log", 0o000);
    let ended = nobody.lode(&["sql", "-c", "select count(*) as n from bronze.orders"]);
    refused(&ended, &["ermission denied"]);
    nobody.set_mode(".lode/lake/bronze/orders/_delta_log", 0o700);
}
