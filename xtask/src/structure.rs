//! The rules of the code's shape that no lint knows: who may use whom, one Arrow, file sizes, a true map.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crate -> the crates of ours that it may name. Arrows only point down this table.
const MAY_USE: &[(&str, &[&str])] = &[
    ("lode-core", &[]),
    ("lode-lake", &["lode-core"]),
    ("lode-catalog", &["lode-core", "lode-lake"]),
    ("lode-jobs", &["lode-core", "lode-catalog"]),
    ("lode-engine", &["lode-core", "lode-lake", "lode-catalog"]),
    ("lode-project", &["lode-core", "lode-catalog", "lode-jobs"]),
    ("lode-connect", &["lode-core", "lode-lake", "lode-catalog", "lode-jobs"]),
    ("lode", &["lode-core", "lode-lake", "lode-catalog", "lode-jobs", "lode-engine", "lode-project", "lode-connect"]),
    ("lode-testkit", &["lode-core", "lode-lake", "lode-catalog"]),
    ("xtask", &[]),
];

/// Crates below the test kit test without it.
const WITHOUT_TESTKIT: &[&str] = &["lode-core", "lode-lake", "lode-catalog"];

/// Libraries whose types cross our crates, so that two versions would be two unrelated types.
const ONE_VERSION: &[&str] =
    &["arrow", "arrow-array", "arrow-schema", "parquet", "datafusion", "object_store", "sqlx-core"];

/// Library -> the only crates of ours that may name it.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("datafusion", &["lode-engine"]),
    ("delta_kernel", &["lode-lake"]),
    ("sqlx", &["lode-catalog"]),
    ("minijinja", &["lode-project"]),
];

const FILE_LINES_MAX: usize = 1_500;
const CRATE_LINES_MAX: usize = 20_000;
const CORE_LINES_MAX: usize = 4_000;
const ARCHITECTURE_LINES_MAX: usize = 250;

pub(crate) fn check(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    arrows(root, &mut findings)?;
    versions(root, &mut findings)?;
    sizes(root, &mut findings)?;
    map(root, &mut findings)?;
    if findings.is_empty() {
        return Ok(());
    }
    bail!("the structure is not as it should be:\n  {}", findings.join("\n  "));
}

fn arrows(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(may_use) = allowed.get(name) else {
            findings.push(format!("crate {name} is not in the table of xtask/src/structure.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"].as_str() == Some("dev");
            if used == "lode-testkit" && is_dev && !WITHOUT_TESTKIT.contains(&name) {
                continue;
            }
            if used.starts_with("lode") && !may_use.contains(&used) {
                findings.push(format!("{name} may not use {used}: arrows only point down"));
            }
            if let Some((_, only)) = ONLY_IN.iter().find(|(library, _)| *library == used)
                && !only.contains(&name)
                && !is_dev
            {
                findings.push(format!("{name} may not name {used}: only {} may", only.join(", ")));
            }
        }
    }
    Ok(())
}

fn versions(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(text) = line.strip_prefix("name = ") {
            name = text.trim_matches('"');
        } else if let Some(text) = line.strip_prefix("version = ") {
            versions.entry(name).or_default().insert(text.trim_matches('"'));
        }
    }
    for library in ONE_VERSION {
        if let Some(found) = versions.get(library).filter(|found| found.len() > 1) {
            findings.push(format!("{library} stands {} times in Cargo.lock: {found:?}", found.len()));
        }
    }
    Ok(())
}

fn sizes(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let mut crate_lines = 0;
        for file in rust_files(&folder.join("src"))? {
            let text = fs::read_to_string(&file)?;
            let is_test = file.ends_with("tests.rs");
            let lines = if is_test { 0 } else { lines_without_tests(&text) };
            crate_lines += lines;
            if lines > FILE_LINES_MAX {
                findings.push(format!("{} has {lines} lines, more than {FILE_LINES_MAX}", shown(root, &file)));
            }
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let limit = if name == "lode-core" { CORE_LINES_MAX } else { CRATE_LINES_MAX };
        if crate_lines > limit {
            findings.push(format!("crate {name} has {crate_lines} lines, more than {limit}: split it"));
        }
    }
    Ok(())
}

/// Lines before the test module at the end of a file.
fn lines_without_tests(text: &str) -> usize {
    text.lines().position(|line| line.trim() == "#[cfg(test)]").unwrap_or_else(|| text.lines().count())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn map(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    for (name, _) in MAY_USE {
        if !text.contains(&format!("`{name}`")) {
            findings.push(format!("ARCHITECTURE.md does not name `{name}`"));
        }
    }
    if text.lines().count() > ARCHITECTURE_LINES_MAX {
        findings.push(format!("ARCHITECTURE.md is longer than {ARCHITECTURE_LINES_MAX} lines"));
    }
    Ok(())
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_do_not_count() {
        assert_eq!(lines_without_tests("fn a() {}\n\n#[cfg(test)]\nmod tests {}\n"), 2);
    }

    #[test]
    fn the_table_itself_only_points_down() {
        let order: Vec<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
        for (at, (name, used)) in MAY_USE.iter().enumerate() {
            for other in *used {
                assert!(order.iter().position(|o| o == other).is_some_and(|o| o < at), "{name} -> {other}");
            }
        }
    }
}
