//! The pages say what the binary does: commands, keys, and the blocks that a reader copies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Ended, Folder};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Fenced blocks of one language, in order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) => open = Some((word.trim() == language, String::new())),
            (Some(_), Some(_)) => {
                found.extend(open.take().filter(|(is_wanted, _)| *is_wanted).map(|(_, block)| block));
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// The help of a command and of those below it, without the options that all commands have.
fn reference(folder: &Folder, path: &[&str], out: &mut String) {
    let help = folder.lode(&[path, &["--help"]].concat()).done();
    let mut kept = Vec::new();
    let mut is_global = false;
    for line in help.lines() {
        if line == "Global options:" {
            is_global = !path.is_empty();
        } else if is_global && !line.starts_with(' ') && !line.is_empty() {
            is_global = false;
        }
        if !is_global {
            kept.push(line.trim_end());
        }
    }
    let text = kept.join("\n").replace("\n\n\n", "\n\n");
    let title = if path.is_empty() { "lode".to_owned() } else { format!("lode {}", path.join(" ")) };
    let depth = "#".repeat(2 + path.len().saturating_sub(1));
    out.push_str(&format!("\n{depth} {title}\n\n```text\n{}\n```\n", text.trim_end()));
    let commands = kept.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A longer description goes on, further in.
    let commands = commands.filter(|line| !line.starts_with("   "));
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        reference(folder, &[path, &[name]].concat(), out);
    }
}

#[test]
fn the_page_of_commands_is_what_the_binary_says() {
    let mut text = String::from(
        "# Commands\n\nMade from `lode --help` by the tests; `LODE_BLESS=1 cargo nextest run --workspace -E 'test(the_page_of_commands)'` \
         writes it anew.\nThe global options stand at `lode` and hold for every command.\n",
    );
    reference(&Folder::empty(), &[], &mut text);
    let path = root().join("docs/reference/commands.md");
    if std::env::var_os("LODE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = known.lines().zip(text.lines()).find(|(known, new)| known != new);
    assert!(
        known == text,
        "docs/reference/commands.md is not what the binary says; first difference: {difference:?}\n\
         write it anew: LODE_BLESS=1 cargo nextest run --workspace -E 'test(the_page_of_commands)'"
    );
}

/// The keys that the binary knows at a place of lode.yml: an unknown one is answered with all of them.
fn keys_at(config: &str) -> BTreeSet<String> {
    let ended = Folder::with(&[("lode.yml", config)]).lode(&["config", "show"]);
    let Some((_, keys)) = ended.err.split_once("known keys here: ") else {
        unreachable!("{config} does not list its keys: {}", ended.err)
    };
    keys.trim().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_config_is_named_on_its_page() {
    let ingest = "ingest:\n  - name: a\n    table: bronze.a\n    files: {path: x}\n";
    let text = page("docs/reference/config.md");
    let mut seen = BTreeSet::new();
    for place in [
        "qqqqqqqqqqqq: 1\n".to_owned(),
        "lake: {qqqqqqqqqqqq: 1}\n".to_owned(),
        "serve: {qqqqqqqqqqqq: 1}\n".to_owned(),
        format!("{ingest}    qqqqqqqqqqqq: 1\n"),
        ingest.replace("path: x", "path: x, qqqqqqqqqqqq: 1"),
        format!("{ingest}    contract: {{qqqqqqqqqqqq: 1}}\n"),
        format!("{ingest}    contract: {{expectations: [{{name: a, expect: b, qqqqqqqqqqqq: 1}}]}}\n"),
        format!("{ingest}    format: {{csv: {{qqqqqqqqqqqq: 1}}}}\n"),
    ] {
        seen.extend(keys_at(&place));
    }
    assert!(seen.len() > 40, "{seen:?}");
    let is_named = |key: &&String| {
        text.match_indices(key.as_str()).any(|(at, _)| {
            let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !is_word(text[..at].chars().next_back()) && !is_word(text[at + key.len()..].chars().next())
        })
    };
    let missing: Vec<_> = seen.iter().filter(|key| !is_named(key)).collect();
    assert!(missing.is_empty(), "docs/reference/config.md does not name {missing:?}");
}

#[test]
fn every_example_of_the_config_is_read() {
    for path in ["docs/reference/config.md", "docs/start.md", "README.md"] {
        let mut config = String::new();
        let found = blocks(&page(path), "yaml");
        assert!(!found.is_empty(), "{path} has no example");
        for block in found {
            // A block that begins inside goes on where the one before ended.
            config = if block.starts_with(' ') { config + &block } else { block };
            let ended = Folder::with(&[("lode.yml", &config)]).lode(&["config", "show"]);
            assert_eq!(ended.code, Some(0), "{path}:\n{config}\n{}", ended.err);
        }
    }
}

/// Blocks that build Lode itself, by their first command.
const OF_THE_REPOSITORY: [&str; 1] = ["./lode demo"];

/// Runs the blocks of a page one after the other in one folder, as a reader would in one shell.
fn run(path: &str) -> Ended {
    let all = blocks(&page(path), "sh");
    let own: Vec<_> =
        all.iter().filter(|block| !OF_THE_REPOSITORY.iter().any(|first| block.starts_with(first))).collect();
    assert!(!own.is_empty() && own.len() < all.len(), "{path}");
    let mut script = String::from("set -euo pipefail\ntrap '[ -z \"${up:-}\" ] || { kill $up; wait $up; }' EXIT\n");
    for line in own.iter().flat_map(|block| block.lines()) {
        script.push_str(&format!("echo {}\n", quoted(&format!("+ {line}"))));
        if line.split('#').next().unwrap_or_default().trim() == "lode up" {
            // It goes on in the background, ready for the commands that follow.
            script.push_str("lode up 2>&1 & up=$!\n");
            script.push_str("until [ -S .lode/run/lode.sock ]; do kill -0 $up; done\n");
        } else {
            script.push_str(&format!("{line}\n"));
        }
    }
    let folder = Folder::empty();
    let binaries = Path::new(env!("CARGO_BIN_EXE_lode")).parent().unwrap().to_owned();
    let paths = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::iter::once(binaries).chain(std::env::split_paths(&paths))).unwrap();
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LODE_") {
            command.env_remove(name);
        }
    }
    let output = command.args(["-c", &script]).current_dir(folder.path()).env("PATH", path).output().unwrap();
    folder.ended(output)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn the_first_result_of_the_readme_is_there() {
    let ended = run("README.md");
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("2026-01-05") && ended.out.contains("24.90"), "{}", ended.out);
}

#[test]
fn the_commands_of_the_start_page_run() {
    let ended = run("docs/start.md");
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    for part in ["bronze.orders", "amount_is_positive", "revenue"] {
        assert!(ended.out.contains(part), "{part} is missing:\n{}{}", ended.out, ended.err);
    }
}
