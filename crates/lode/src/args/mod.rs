//! The command line.

mod project;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use project::{BuildArgs, CompileArgs, LsArgs, SeedArgs, Selection, ShowArgs, TestArgs};

use crate::render::Format;

#[derive(Debug, Parser)]
#[command(
    name = "lode",
    version,
    about = "A whole medallion lakehouse in one binary: files in, gold tables out, exactly once",
    after_help = "Start here:\n  lode demo                     a working lakehouse with gold numbers, offline\n  lode init shop && cd shop     an own project\n  lode ingest && lode build     land the files, build the models\n  lode sql -c \"select 1\"        ask",
    max_term_width = 100,
    disable_help_subcommand = true,
    propagate_version = false,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Folder of the project [default: this folder or the nearest parent with lode.yml or dbt_project.yml]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) project_dir: Option<PathBuf>,
    /// Say nothing but data and errors
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// No colours
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) no_color: bool,
    /// Progress as text, or as one JSON object a line
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Global options")]
    pub(crate) log_format: LogFormat,
    /// How long to wait while another command holds the data folder
    #[arg(long, global = true, value_name = "TIME", default_value = "10m", value_parser = span, help_heading = "Global options")]
    pub(crate) lock_timeout: std::time::Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `10s`, `5m`.
pub(crate) fn span(text: &str) -> Result<std::time::Duration, String> {
    text.parse::<lode_core::config::Span>()
        .map(|span| span.0)
        .map_err(|problem| format!("{}; {}", problem.what(), problem.remedy().unwrap_or_default()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a small project: one CSV, one model
    #[command(after_help = "Example:\n  lode init shop && cd shop && lode ingest && lode build")]
    Init(InitArgs),
    /// The EV demo: a fleet's files to gold numbers in one command, offline
    #[command(after_help = "Example:\n  lode demo")]
    Demo(DemoArgs),
    /// Serve the project: watch its sources and answer other commands
    #[command(
        after_help = "Example:\n  lode up\n\nCtrl-C ends it: the step at hand is finished or dropped, nothing is lost."
    )]
    Up(UpArgs),
    /// Land what is there now, once, and say what became of each row
    #[command(after_help = "Examples:\n  lode ingest\n  lode ingest telemetry stations")]
    Ingest(IngestArgs),
    /// Seeds, models and tests in graph order
    #[command(after_help = "Examples:\n  lode build\n  lode build --select +gold.trips --full-refresh")]
    Build(BuildArgs),
    /// Models in graph order
    #[command(after_help = "Example:\n  lode run --select silver.telemetry+")]
    Run(BuildArgs),
    /// Tests of what is built
    #[command(after_help = "Example:\n  lode test --select gold.trips")]
    Test(TestArgs),
    /// Load the CSV files of the project's seeds
    #[command(after_help = "Example:\n  lode seed --full-refresh")]
    Seed(SeedArgs),
    /// Render the models into target/compiled, without running them
    #[command(after_help = "Example:\n  lode compile --select gold.trips")]
    Compile(CompileArgs),
    /// List the nodes that a selection names
    #[command(after_help = "Examples:\n  lode ls\n  lode ls --select tag:daily --format json")]
    Ls(LsArgs),
    /// The first rows of a model, without building it
    #[command(
        after_help = "Examples:\n  lode show --select gold.trips --limit 20\n  lode show --inline \"select * from {{ ref('trips') }}\""
    )]
    Show(ShowArgs),
    /// One SQL statement
    #[command(
        after_help = "Examples:\n  lode sql -c \"select count(*) from gold.trips\"\n  lode sql -c \"select * from gold.trips\" --format csv > trips.csv\n  echo \"select 1\" | lode sql"
    )]
    Sql(SqlArgs),
    /// Look into a table: history, files, schema
    #[command(subcommand, after_help = "Example:\n  lode table history gold.trips")]
    Table(TableCommand),
    /// Pipelines: what moves each table, and going on after a block
    #[command(subcommand, after_help = "Example:\n  lode pipeline list")]
    Pipeline(PipelineCommand),
    /// Rows that were refused: list, show, replay
    #[command(subcommand, after_help = "Example:\n  lode quarantine list")]
    Quarantine(QuarantineCommand),
    /// Sources, pipelines, tables and runs, with the sums that must hold
    #[command(after_help = "Example:\n  lode status --format json")]
    Status(StatusArgs),
    /// Find what is wrong; exit 1 on a finding
    #[command(
        after_help = "Examples:\n  lode doctor\n  lode doctor --rebuild      make the metadata DB again from the lake"
    )]
    Doctor(DoctorArgs),
    /// The settings in force
    #[command(subcommand, after_help = "Example:\n  lode config show --origin")]
    Config(ConfigCommand),
    /// The promises, as commands that anybody can run
    #[command(subcommand, after_help = "Example:\n  lode prove torture --time 60s")]
    Prove(ProveCommand),
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FormatArg {
    /// How data is printed
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    /// Folder to make; must be new or empty
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Folder of the demo's project; made if it is missing
    #[arg(default_value = "lode-demo")]
    pub(crate) dir: PathBuf,
    /// Seed of the generator: the same seed gives the same rows
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Size of the fleet
    #[arg(long, value_name = "CARS")]
    pub(crate) cars: Option<u32>,
    /// Days of driving
    #[arg(long, value_name = "DAYS")]
    pub(crate) days: Option<u32>,
    /// Keep project files that were edited
    #[arg(long)]
    pub(crate) keep: bool,
    /// Write the project files again, edited or not
    #[arg(long, conflicts_with = "keep")]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Keep the sources as they are at the start: changes of lode.yml wait for the next `lode up`
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Take over a lake that another metadata DB owns
    #[arg(long)]
    pub(crate) adopt: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct IngestArgs {
    /// Sources by name [default: all]
    pub(crate) names: Vec<String>,
    /// Try files again that could not be read before
    #[arg(long)]
    pub(crate) retry_poison: bool,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SqlArgs {
    /// The statement
    #[arg(short, long, value_name = "SQL")]
    pub(crate) command: Option<String>,
    /// A file with the statement
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TableCommand {
    /// Commits of a table, newest first
    History {
        /// schema.table
        table: String,
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Data files of a table, as published
    Files {
        /// schema.table
        table: String,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Columns of a table or view
    Schema {
        /// schema.table
        table: String,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Write small files, and files with many dead rows, anew as fewer ones
    Compact {
        /// schema.table [default: all tables]
        table: Option<String>,
    },
    /// Delete files that no version within the retention needs
    Vacuum {
        /// schema.table [default: all tables]
        table: Option<String>,
        /// Keep what versions of this time back need [default: the table's own, or 7d]
        #[arg(long, value_name = "TIME", value_parser = span)]
        retain: Option<std::time::Duration>,
        /// Only list what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the rows of an older version the newest ones
    Restore {
        /// schema.table
        table: String,
        /// As `lode table history` lists it
        version: i64,
    },
    /// Read every page of every file and compare it with the log; exit 1 on a finding
    Verify {
        /// schema.table [default: all tables]
        table: Option<String>,
    },
    /// Name a Delta table that another tool wrote into the lake folder
    Register {
        /// schema.table
        table: String,
        /// Folder in the lake [default: schema/table]
        #[arg(long)]
        location: Option<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PipelineCommand {
    /// All pipelines with their state and position
    List {
        #[command(flatten)]
        format: FormatArg,
    },
    /// Go on with a blocked pipeline after its cause was removed
    Resume {
        /// Name or id of the pipeline
        pipeline: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Rows in quarantine by table, rule and name, with one example
    List {
        #[command(flatten)]
        format: FormatArg,
    },
    /// The rows themselves, with the record as it was received
    Show {
        /// schema.table whose rejects are shown
        table: String,
        /// Only rows of this rule: decode, contract, expectation, late, error
        #[arg(long)]
        rule: Option<String>,
        /// Only rows of this expectation or column
        #[arg(long)]
        name: Option<String>,
        /// Only rows of this file, as the column _file has it
        #[arg(long)]
        file: Option<String>,
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        format: FormatArg,
    },
    /// Try the rejected rows again under the contract as it is now; those that pass move into the table
    Replay {
        /// schema.table whose rejects are tried
        table: String,
        /// Only rows of this rule
        #[arg(long)]
        rule: Option<String>,
        /// Only rows of this expectation or column
        #[arg(long)]
        name: Option<String>,
        /// Only rows of this file, as the column _file has it
        #[arg(long)]
        file: Option<String>,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Make the metadata DB again from the lake; the old one is kept beside it
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Take over a lake that another metadata DB owns
    #[arg(long)]
    pub(crate) adopt: bool,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every setting with its value
    Show {
        /// Say where each value comes from
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        format: FormatArg,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProveCommand {
    /// Kill, tear and break again and again: no row may be lost or doubled
    #[command(after_help = "Examples:\n  lode prove torture --time 60s\n  lode prove torture --rounds 100 --seed 42")]
    Torture(TortureArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TortureArgs {
    /// Number of random rounds, after the one at each fail point
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// Seed of the random choices; printed, so that a run can be repeated
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Go on with random rounds until this time has passed
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(crate) time: Option<std::time::Duration>,
    /// A few rounds of each kind
    #[arg(long)]
    pub(crate) short: bool,
    /// Keep the folder of the run
    #[arg(long)]
    pub(crate) keep: bool,
}
