//! What must hold after each round.

use std::collections::{BTreeMap, BTreeSet};

use super::child::Children;
use super::world::{GOLD, Source, World};
use super::{Broken, End};

#[derive(Default)]
pub(super) struct Checker {
    /// Published version of each table, the highest that was seen.
    versions: BTreeMap<String, i64>,
    /// Rows that were seen in a table; a sealed row stays where it is.
    seen: BTreeMap<String, BTreeSet<(String, i64)>>,
    facts: u64,
}

impl Checker {
    /// Number of single checks so far.
    pub(super) fn facts(&self) -> u64 {
        self.facts
    }

    /// Nothing doubled, nothing from nowhere, nothing gone that was there; not all need to have landed yet.
    pub(super) fn after_the_blow(&mut self, world: &World, children: &mut Children) -> Result<(), End> {
        self.landed(world, children, false)
    }

    /// Everything that was given is there once, gold is its query over bronze, and every table can be read.
    pub(super) fn all(&mut self, world: &World, children: &mut Children) -> Result<(), End> {
        self.landed(world, children, true)?;
        for gold in &GOLD {
            let columns = gold.query.split_once(" from ").map_or("", |(head, _)| head);
            let arity = columns.split(',').count();
            let order = (1..=arity).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
            let table = select(children, &format!("select * from {} order by {order}", gold.table))?;
            let query = select(children, &format!("select * from ({}) as q order by {order}", gold.query))?;
            if table != query {
                return Err(Broken(format!(
                    "{} is not its query over bronze: {} rows, and {} of the query; first difference: {}",
                    gold.table,
                    table.len().saturating_sub(1),
                    query.len().saturating_sub(1),
                    difference(&table, &query)
                ))
                .into());
            }
            self.facts += query.len() as u64;
        }
        children.must_succeed(&["doctor"])?;
        children.must_succeed(&["status"])?;
        Ok(())
    }

    fn landed(&mut self, world: &World, children: &mut Children, is_all: bool) -> Result<(), End> {
        let tables = self.published(children)?;
        for source in Source::ALL {
            let bronze = format!("bronze.{}", source.name());
            let quarantine = format!("{bronze}__quarantine");
            let mut found = BTreeMap::<(String, i64), u32>::new();
            for table in [bronze, quarantine] {
                let rows = if tables.contains(&table) { origins(children, &table)? } else { Vec::new() };
                let here: BTreeSet<_> = rows.iter().cloned().collect();
                let seen = self.seen.entry(table.clone()).or_default();
                if let Some((file, line)) = seen.difference(&here).next() {
                    return Err(Broken(format!("{table} has lost the row of {file} line {line}")).into());
                }
                *seen = here;
                for row in rows {
                    *found.entry(row).or_default() += 1;
                }
            }
            let given = world.given(source).map(|(file, line)| (file.to_owned(), line)).collect();
            account(source.name(), &given, &found, is_all)?;
            self.facts += found.len() as u64;
        }
        Ok(())
    }

    /// Names of the tables; their published versions must not go back.
    fn published(&mut self, children: &mut Children) -> Result<BTreeSet<String>, End> {
        let text = children.must_succeed(&["status", "--format", "json"])?;
        let status: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Broken(format!("`lode status` is not JSON: {error}")))?;
        let mut names = BTreeSet::new();
        for table in status.get("tables").and_then(|tables| tables.as_array()).into_iter().flatten() {
            let Some(name) = table.get("name").and_then(|name| name.as_str()) else { continue };
            let version = table.get("version").and_then(serde_json::Value::as_i64).unwrap_or(-1);
            let highest = self.versions.entry(name.to_owned()).or_insert(version);
            if version < *highest {
                return Err(
                    Broken(format!("the published version of {name} went back from {highest} to {version}")).into()
                );
            }
            *highest = version;
            self.facts += 1;
            names.insert(name.to_owned());
        }
        Ok(names)
    }
}

/// Holds what was found, with its number of times, against what was given.
fn account(
    source: &str,
    given: &BTreeSet<(String, i64)>,
    found: &BTreeMap<(String, i64), u32>,
    is_all: bool,
) -> Result<(), Broken> {
    for (row @ (file, line), times) in found {
        if *times > 1 {
            return Err(Broken(format!("{source}: {file} line {line} is there {times} times")));
        }
        if !given.contains(row) {
            return Err(Broken(format!("{source}: {file} line {line} was never given")));
        }
    }
    match given.iter().find(|row| is_all && !found.contains_key(*row)) {
        Some((file, line)) => Err(Broken(format!("{source}: {file} line {line} is lost"))),
        None => Ok(()),
    }
}

/// (file, line) of each row.
fn origins(children: &mut Children, table: &str) -> Result<Vec<(String, i64)>, End> {
    let lines = select(children, &format!("select _line, _file from {table}"))?;
    let rows = lines.iter().skip(1).map(|line| {
        let (number, file) = line.split_once(',')?;
        // The name of the file alone: how a folder is written is not what is checked here.
        let file = file.trim_matches('"').rsplit('/').next()?;
        Some((file.to_owned(), number.parse().ok()?))
    });
    rows.collect::<Option<Vec<_>>>().ok_or_else(|| Broken(format!("{table} has a row without file and line")).into())
}

fn select(children: &mut Children, sql: &str) -> Result<Vec<String>, End> {
    let text = children.must_succeed(&["sql", "--format", "csv", "-c", sql])?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn difference(table: &[String], query: &[String]) -> String {
    let at = table.iter().zip(query).position(|(a, b)| a != b).unwrap_or_else(|| table.len().min(query.len()));
    let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
    format!("{} in the table, {} by the query", line(table), line(query))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[i64]) -> BTreeSet<(String, i64)> {
        lines.iter().map(|line| ("a.csv".to_owned(), *line)).collect()
    }

    fn said(given: &[i64], found: &[(i64, u32)], is_all: bool) -> String {
        let found = found.iter().map(|(line, times)| (("a.csv".to_owned(), *line), *times)).collect();
        account("orders", &rows(given), &found, is_all).err().map(|Broken(what)| what).unwrap_or_default()
    }

    #[test]
    fn lost_doubled_and_foreign_rows_are_found() {
        assert_eq!(said(&[2, 3], &[(2, 1), (3, 1)], true), "");
        assert_eq!(said(&[2, 3], &[(2, 1)], false), "");
        assert_eq!(said(&[2, 3], &[(2, 1)], true), "orders: a.csv line 3 is lost");
        assert_eq!(said(&[2, 3], &[(2, 2), (3, 1)], false), "orders: a.csv line 2 is there 2 times");
        assert_eq!(said(&[2], &[(2, 1), (9, 1)], false), "orders: a.csv line 9 was never given");
    }
}
