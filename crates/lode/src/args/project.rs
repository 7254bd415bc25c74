//! Arguments of the commands that work on the project: dbt's words.

use clap::Args;

use super::FormatArg;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Selection {
    /// Nodes: names, folders, +ancestors, descendants+, tag:x, path:x; a space is "or", a comma "and"
    #[arg(long, short, visible_short_alias = 'm', visible_alias = "models", num_args = 1.., value_name = "NODES")]
    pub(crate) select: Vec<String>,
    /// Nodes to leave out
    #[arg(long, num_args = 1.., value_name = "NODES")]
    pub(crate) exclude: Vec<String>,
    /// Project variables, as YAML: "{day: 2024-01-01}"
    #[arg(long, value_name = "YAML")]
    pub(crate) vars: Option<String>,
    /// Name of the target that `target.name` answers
    #[arg(long, short, value_name = "NAME")]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Rebuild incremental models from nothing
    #[arg(long, short)]
    pub(crate) full_refresh: bool,
    /// Nodes at a time [default: the machine's cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Stop at the first failure
    #[arg(long, short = 'x')]
    pub(crate) fail_fast: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Tests at a time [default: the machine's cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Stop at the first failure
    #[arg(long, short = 'x')]
    pub(crate) fail_fast: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SeedArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Load all seeds again, changed or not
    #[arg(long, short)]
    pub(crate) full_refresh: bool,
    /// Seeds at a time [default: the machine's cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// A statement with Jinja, in place of a model
    #[arg(long, value_name = "SQL", conflicts_with = "select")]
    pub(crate) inline: Option<String>,
    /// Rows to show
    #[arg(long, default_value_t = 5)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) format: FormatArg,
}
