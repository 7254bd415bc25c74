//! One invocation, and the open house behind it: data lock, catalog, engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use lode_catalog::{Catalog, DataLock, OpenOptions};
use lode_core::{ErrorKind, Place, Problem, SqlSession, SystemClock, Warehouse};
use lode_engine::{Engine, EngineOptions};
use lode_lake::Store;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::config::{PROJECT_FILE, Settings, Surroundings};

/// What a command is given: its surroundings, the settings of its project and, once it asks for it, the open house.
pub(crate) struct App {
    pub(crate) around: Surroundings,
    pub(crate) settings: Settings,
    pub(crate) global: Global,
    /// Cancelled by ctrl-C, or when the client of a socket went away.
    pub(crate) interrupt: CancellationToken,
    /// Text that the caller piped in, when the command runs for another process.
    pub(crate) piped_in: Option<String>,
    /// Taken by `house` when it opens.
    lock: parking_lot::Mutex<Option<DataLock>>,
    house: OnceCell<Arc<House>>,
}

/// What stays open while this process holds the data folder. Dropping it gives the folder back.
pub(crate) struct House {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) engine: Engine,
    /// The same engine, as the other crates see it.
    pub(crate) warehouse: Arc<dyn Warehouse>,
    /// A run that began before and has no end died with its process.
    pub(crate) opened_at: DateTime<Utc>,
    _lock: DataLock,
}

impl App {
    pub(crate) fn new(around: Surroundings, settings: Settings, global: Global, interrupt: CancellationToken) -> Self {
        Self {
            around,
            settings,
            global,
            interrupt,
            piped_in: None,
            lock: parking_lot::Mutex::new(None),
            house: OnceCell::new(),
        }
    }

    /// The lock that was taken for this command before it started.
    pub(crate) fn with_lock(self, lock: DataLock) -> Self {
        *self.lock.lock() = Some(lock);
        self
    }

    /// For a client of the control socket: the house of `lode up`.
    pub(crate) fn in_house(mut self, house: Arc<House>, piped_in: Option<String>) -> Self {
        self.house = OnceCell::new_with(Some(house));
        self.piped_in = piped_in;
        self
    }

    /// The same caller in another project, with nothing opened yet.
    pub(crate) fn at(&self, project_dir: &Path) -> Result<Self, Problem> {
        let mut around = self.around.clone();
        around.project_dir = Some(project_dir.to_path_buf());
        let settings = Settings::load(&around)?;
        Ok(Self::new(around, settings, self.global.clone(), self.interrupt.clone()))
    }

    /// Opens the house on first use. Errors: those of `Catalog::open`; `Unavailable` while another process holds the
    /// data folder.
    pub(crate) async fn house(&self) -> Result<&Arc<House>, Problem> {
        self.open(false).await
    }

    /// As `house`; with `adopt`, takes over a lake that another metadata DB owns.
    pub(crate) async fn open(&self, adopt: bool) -> Result<&Arc<House>, Problem> {
        self.house
            .get_or_try_init(|| async {
                let lock = self.lock.lock().take();
                let lock = match lock {
                    Some(lock) => lock,
                    None => self.acquire_lock()?,
                };
                let store = self.store().await?;
                let options = OpenOptions { adopt, clock: Arc::new(SystemClock) };
                let catalog = Catalog::open(store, &self.settings.data_dir, options).await?;
                let engine = Engine::new(Arc::clone(&catalog), EngineOptions::new(&self.settings.data_dir))?;
                let warehouse = Arc::new(engine.clone());
                Ok(Arc::new(House { opened_at: catalog.now(), catalog, engine, warehouse, _lock: lock }))
            })
            .await
    }

    pub(crate) async fn store(&self) -> Result<Store, Problem> {
        self.settings.lake.open(&self.around.env).await
    }

    pub(crate) fn acquire_lock(&self) -> Result<DataLock, Problem> {
        prepare_data_dir(&self.settings)?;
        Ok(DataLock::acquire(&self.settings.data_dir)?)
    }

    pub(crate) async fn catalog(&self) -> Result<&Arc<Catalog>, Problem> {
        Ok(&self.house().await?.catalog)
    }

    pub(crate) async fn warehouse(&self) -> Result<&Arc<dyn Warehouse>, Problem> {
        Ok(&self.house().await?.warehouse)
    }

    /// A session for one statement of the user.
    pub(crate) async fn session(&self) -> Result<SqlSession, Problem> {
        let mut session = SqlSession::new(self.catalog().await?.now());
        session.default_schema.clone_from(&self.settings.default_schema);
        Ok(session)
    }

    /// Errors: `Config` when the folder has no `dbt_project.yml`.
    pub(crate) fn require_models(&self) -> Result<&Path, Problem> {
        if self.settings.has_models {
            return Ok(&self.settings.project_dir);
        }
        Err(Problem::new(ErrorKind::Config, format!("no {PROJECT_FILE} here or in a folder above"))
            .at(Place::of(self.settings.project_dir.display().to_string()))
            .fix("go to a project, give one with `--project-dir`, or make one with `lode init DIR`"))
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        socket_path(&self.settings)
    }
}

pub(crate) fn run_dir(settings: &Settings) -> PathBuf {
    settings.data_dir.join("run")
}

pub(crate) fn socket_path(settings: &Settings) -> PathBuf {
    run_dir(settings).join("lode.sock")
}

/// Makes the data folder, closed to other users, and keeps it out of version control.
pub(crate) fn prepare_data_dir(settings: &Settings) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = &settings.data_dir;
    let fail = |error: std::io::Error| {
        let (kind, fix) = match error.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Denied, "give this user the right to write there, or set LODE_DATA_DIR to another folder")
            }
            std::io::ErrorKind::StorageFull => (ErrorKind::Full, "free some space on that disk"),
            _ => (ErrorKind::Unavailable, "set LODE_DATA_DIR to a folder that can be made"),
        };
        Problem::new(kind, format!("the data folder \"{}\" cannot be made", dir.display()))
            .cause(error)
            .at(Place::of(dir.display().to_string()))
            .fix(fix)
    };
    let is_new = !dir.exists();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("run")).map_err(fail)?;
    if is_new {
        std::fs::write(dir.join(".gitignore"), "*\n").map_err(fail)?;
    }
    Ok(())
}
