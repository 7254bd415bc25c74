//! The project that is tortured, and the truth about every row that was given to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lode_core::Problem;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::commands::init::write;

/// A source of the project: its name is its folder and its bronze table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Orders,
    Events,
}

impl Source {
    pub(super) const ALL: [Self; 2] = [Self::Orders, Self::Events];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Events => "events",
        }
    }
}

/// What must be true of a gold table: its query over bronze.
pub(super) struct Gold {
    pub(super) table: &'static str,
    /// SELECT over bronze; `{table}` never occurs in it.
    pub(super) query: &'static str,
}

pub(super) const GOLD: [Gold; 3] = [
    Gold {
        table: "gold.revenue",
        query: "select customer, count(*) as orders, sum(amount) as revenue from bronze.orders group by customer",
    },
    Gold { table: "silver.orders", query: "select order_id, customer, amount from bronze.orders" },
    Gold {
        table: "gold.event_kinds",
        query: "select kind, count(*) as events, max(value) as highest from bronze.events group by kind",
    },
];

pub(super) struct World {
    dir: PathBuf,
    seed: u64,
    next_file: u64,
    next_order: u64,
    /// (source, file) to the lines that hold records.
    given: BTreeMap<(Source, String), Vec<i64>>,
    contract: Contract,
}

/// The two contracts that a torture switches between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contract {
    Loose,
    Strict,
}

impl World {
    pub(super) fn new(dir: &Path, seed: u64) -> Result<Self, Problem> {
        let world = Self {
            dir: dir.join("project"),
            seed,
            next_file: 0,
            next_order: 0,
            given: BTreeMap::new(),
            contract: Contract::Loose,
        };
        for (path, content) in [
            (
                "dbt_project.yml",
                "name: torture\nversion: \"1.0\"\nconfig-version: 2\nmodels:\n  torture:\n    silver: {+schema: silver}\n    gold: {+schema: gold}\n",
            ),
            ("macros/generate_schema_name.sql", include_str!("../../commands/init/template/generate_schema_name.sql")),
            (
                "models/sources.yml",
                "version: 2\nsources:\n  - name: bronze\n    tables:\n      - name: orders\n      - name: events\n",
            ),
            (
                "models/silver/orders.sql",
                "{{ config(materialized='incremental', unique_key='order_id') }}\nselect order_id, customer, amount from {{ source('bronze', 'orders') }}\n",
            ),
            (
                "models/gold/revenue.sql",
                "{{ config(materialized='table') }}\nselect customer, count(*) as orders, sum(amount) as revenue from {{ ref('orders') }} group by customer\n",
            ),
            (
                "models/gold/event_kinds.sql",
                "{{ config(materialized='table') }}\nselect kind, count(*) as events, max(value) as highest from {{ source('bronze', 'events') }} group by kind\n",
            ),
        ] {
            write(&world.dir.join(path), content)?;
        }
        world.write_config()?;
        Ok(world)
    }

    fn write_config(&self) -> Result<(), Problem> {
        let limit = match self.contract {
            Contract::Loose => "amount > 0",
            Contract::Strict => "amount > 20",
        };
        let text = format!(
            "ingest:\n  - name: orders\n    files: {{path: landing/orders, pattern: \"*.csv\"}}\n    format: csv\n    table: bronze.orders\n    \
             columns: {{order_id: bigint not null, customer: text, amount: \"numeric(10,2)\"}}\n    contract:\n      expectations:\n        \
             - {{name: amount, expect: {limit}, on_violation: quarantine}}\n  - name: events\n    files: {{path: landing/events, pattern: \"*.ndjson\"}}\n    \
             format: ndjson\n    table: bronze.events\n    columns: {{id: bigint, kind: text, value: bigint}}\n"
        );
        write(&self.dir.join("lode.yml"), &text)
    }

    /// From now on other rows go to quarantine.
    pub(super) fn change_contract(&mut self) -> Result<(), Problem> {
        self.contract = match self.contract {
            Contract::Loose => Contract::Strict,
            Contract::Strict => Contract::Loose,
        };
        self.write_config()
    }

    /// Puts one to three new files in the landing folders.
    pub(super) fn give_files(&mut self, dice: &mut ChaCha8Rng) -> Result<(), Problem> {
        for _ in 0..dice.random_range(1..=3) {
            let source = if dice.random_bool(0.7) || self.next_file == 0 { Source::Orders } else { Source::Events };
            self.give(source, dice)?;
        }
        if self.given.keys().all(|(source, _)| *source != Source::Events) {
            self.give(Source::Events, dice)?;
        }
        Ok(())
    }

    fn give(&mut self, source: Source, dice: &mut ChaCha8Rng) -> Result<(), Problem> {
        let rows = dice.random_range(1..=120);
        let (name, text, first_line) = match source {
            Source::Orders => (format!("{:06}.csv", self.next_file), self.orders(rows, dice), 2),
            Source::Events => (format!("{:06}.ndjson", self.next_file), self.events(rows, dice), 1),
        };
        self.next_file += 1;
        // Under another name first: a watcher must never see half of it.
        let path = self.dir.join("landing").join(source.name()).join(&name);
        let part = path.with_extension("part");
        write(&part, &text)?;
        std::fs::rename(&part, &path).map_err(|error| {
            Problem::new(lode_core::ErrorKind::Unavailable, "a file could not be renamed").cause(error)
        })?;
        let lines = (first_line..first_line + i64::from(rows)).collect();
        self.given.insert((source, name), lines);
        Ok(())
    }

    /// Some rows are dirty: too few fields, a word for a number, a refused amount.
    fn orders(&mut self, rows: u32, dice: &mut ChaCha8Rng) -> String {
        let mut text = String::from("order_id,customer,amount\n");
        for _ in 0..rows {
            self.next_order += 1;
            let id = self.next_order;
            let customer = dice.random_range(0..9);
            let cents = dice.random_range(1..9999);
            let line = match dice.random_range(0..20) {
                0 => format!("{id}\n"),
                1 => format!("number,c{customer},{cents}\n"),
                2 => format!("{id},c{customer},-{cents}\n"),
                _ => format!("{id},c{customer},{}.{:02}\n", cents / 100, cents % 100),
            };
            text.push_str(&line);
        }
        text
    }

    fn events(&mut self, rows: u32, dice: &mut ChaCha8Rng) -> String {
        let mut text = String::new();
        for number in 0..rows {
            let kind = ["start", "stop", "charge"][dice.random_range(0..3)];
            let value = dice.random_range(0..1000);
            // The seed keeps two runs from giving the same content, which would be a known file.
            let id = self.seed * 1_000_000 + self.next_file * 1_000 + u64::from(number);
            let line = match dice.random_range(0..20) {
                0 => format!("{{\"id\":{id},\"kind\":\n"),
                1 => format!("{{\"id\":\"x\",\"kind\":\"{kind}\",\"value\":{value}}}\n"),
                _ => format!("{{\"id\":{id},\"kind\":\"{kind}\",\"value\":{value}}}\n"),
            };
            text.push_str(&line);
        }
        text
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.dir.join(".lode")
    }

    /// All records that were given to a source, as (file, line).
    pub(super) fn given(&self, source: Source) -> impl Iterator<Item = (&str, i64)> {
        let own = self.given.iter().filter(move |((of, _), _)| *of == source);
        own.flat_map(|((_, file), lines)| lines.iter().map(move |line| (file.as_str(), *line)))
    }

    pub(super) fn rows_given(&self) -> u64 {
        self.given.values().map(|lines| lines.len() as u64).sum()
    }

    pub(super) fn files_given(&self) -> u64 {
        self.given.len() as u64
    }
}
