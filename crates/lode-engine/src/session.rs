//! One planning state a statement, cloned from a state that is built once.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use object_store::ObjectStore;

use lode_core::{SqlSession, task};

use crate::tables::Pins;
use crate::{functions, statement};

/// Database name of every lake, as in `lode.gold.trips`.
pub(crate) const DATABASE: &str = "lode";

/// Limits of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Bytes that running statements may hold before they spill; `None` is half of the machine's memory.
    pub memory_bytes: Option<usize>,
    /// Folder for spilled rows; made when first needed.
    pub temp_dir: PathBuf,
    /// Degree of parallelism of one statement.
    pub partitions: usize,
    /// A data file smaller than this is written anew when it loses rows, rather than get a deletion vector.
    pub rewritten_below_bytes: u64,
}

impl EngineOptions {
    /// Half of the memory, every core, spills under `<data>/tmp`.
    pub fn new(data_dir: &std::path::Path) -> Self {
        Self {
            memory_bytes: None,
            temp_dir: data_dir.join("tmp"),
            partitions: task::cpu_count(),
            rewritten_below_bytes: 1 << 20,
        }
    }
}

/// The state that every statement starts from.
pub(crate) struct Sessions {
    base: SessionState,
}

impl Sessions {
    pub(crate) fn new(options: &EngineOptions, objects: Arc<dyn ObjectStore>) -> Result<Self, DataFusionError> {
        std::fs::create_dir_all(&options.temp_dir)?;
        let memory_bytes = options.memory_bytes.unwrap_or_else(|| machine_memory_bytes() / 2);
        let pool = TrackConsumersPool::new(FairSpillPool::new(memory_bytes), std::num::NonZeroUsize::MIN);
        let disk =
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![options.temp_dir.clone()]));
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build_arc()?;
        runtime.register_object_store(lake_url().as_ref(), objects);
        let builder =
            SessionStateBuilder::new().with_config(config(options)).with_runtime_env(runtime).with_default_features();
        Ok(Self { base: functions::build(builder)? })
    }

    /// A state for one statement: where names are found and what `now()` answers.
    pub(crate) fn state(&self, session: &SqlSession, pins: &Pins) -> SessionState {
        let mut state = self.base.clone();
        state.config_mut().options_mut().catalog.default_schema.clone_from(&session.default_schema);
        state.register_catalog_list(pins.names());
        statement::register_table_functions(&mut state, pins, &session.default_schema);
        let options = Arc::clone(state.config_options());
        let properties = state.execution_props_mut();
        properties.mark_start_execution(options);
        properties.query_execution_start_time = Some(session.now);
        state
    }

    pub(crate) fn base(&self) -> &SessionState {
        &self.base
    }
}

/// The lake's store as DataFusion finds it; paths below it are those of `lode_lake::Store`.
pub(crate) fn lake_url() -> ObjectStoreUrl {
    #[expect(clippy::expect_used, reason = "a constant that parses")]
    ObjectStoreUrl::parse("lode://lake").expect("constant url")
}

fn config(options: &EngineOptions) -> SessionConfig {
    let mut settings = ConfigOptions::new();
    settings.catalog.create_default_catalog_and_schema = false;
    settings.catalog.default_catalog = DATABASE.to_owned();
    settings.catalog.information_schema = false;
    settings.sql_parser.dialect = Dialect::PostgreSQL;
    settings.sql_parser.parse_float_as_decimal = true;
    settings.sql_parser.collect_spans = true;
    settings.execution.time_zone = Some("UTC".to_owned());
    settings.execution.target_partitions = options.partitions.max(1);
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;
    settings.execution.parquet.schema_force_view_types = true;
    settings.explain.show_sizes = false;
    SessionConfig::from(settings)
}

/// Total memory of the machine, or 4 GiB where that cannot be learnt. Source: proc(5), `/proc/meminfo`.
fn machine_memory_bytes() -> usize {
    let total_kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    total_kib.map_or(4 << 30, |kib| kib << 10)
}
