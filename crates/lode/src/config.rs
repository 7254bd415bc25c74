//! Which project, which data folder, which settings, and where each of them comes from.

use std::path::{Path, PathBuf};

use lode_connect::{Ingest, IngestConfig, resolve_ingests};
use lode_core::config::{self, Environment, Spanned, expand_env};
use lode_core::{ErrorKind, Place, Problem, TableName};
use lode_lake::{Store, StoreLocation, StoreOptions};
use serde::Deserialize;

pub(crate) const CONFIG_FILE: &str = "lode.yml";
pub(crate) const PROJECT_FILE: &str = "dbt_project.yml";
/// Variables that this version reads.
const VARIABLES: [&str; 3] = ["LODE_DATA_DIR", "LODE_SCHEMA", "LODE_LOG"];

/// `lode.yml`. Each crate owns the form of its own section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    lake: Option<LakeSection>,
    #[serde(default)]
    ingest: Vec<IngestConfig>,
    serve: Option<ServeSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LakeSection {
    path: Option<Spanned<String>>,
    options: Option<Spanned<StoreOptions>>,
    maintenance: Option<Spanned<String>>,
}

/// Where the lake lies, and how to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lake {
    pub(crate) location: StoreLocation,
    options: StoreOptions,
}

impl Lake {
    /// Errors: those of `Store::open`.
    pub(crate) async fn open(&self, env: &Environment) -> Result<Store, Problem> {
        Ok(Store::open(&self.location, &self.options, env).await?)
    }
}

/// Addresses of the doors. None of them is served in this version; `lode up` says so for each that is set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeSection {
    pg: Option<Spanned<String>>,
    http: Option<Spanned<String>>,
    kafka: Option<Spanned<String>>,
    mqtt: Option<Spanned<String>>,
    flight: Option<Spanned<String>>,
}

/// What the caller of a command brings along.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) cwd: PathBuf,
    pub(crate) env: Environment,
    /// `--project-dir`.
    pub(crate) project_dir: Option<PathBuf>,
}

impl Surroundings {
    pub(crate) fn of_process(project_dir: Option<PathBuf>) -> Result<Self, Problem> {
        let cwd = std::env::current_dir().map_err(|error| {
            Problem::new(ErrorKind::Usage, "the current folder cannot be read").cause(error).fix("go to another folder")
        })?;
        Ok(Self { cwd, env: Environment::of_process(), project_dir })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).filter(|value| !value.is_empty())
    }
}

/// One setting for `lode config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) value: String,
    /// `default`, `lode.yml:3:9`, `LODE_DATA_DIR`, `--project-dir`.
    pub(crate) origin: String,
}

/// All settings of one project: flag over `LODE_*` over file over default.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) project_dir: PathBuf,
    /// There is a `dbt_project.yml`.
    pub(crate) has_models: bool,
    pub(crate) data_dir: PathBuf,
    pub(crate) lake: Lake,
    /// `lode up` compacts and vacuums its tables.
    pub(crate) maintains: bool,
    pub(crate) default_schema: String,
    pub(crate) ingests: Vec<Ingest>,
    /// Doors with an address in `lode.yml` that this version does not serve.
    pub(crate) unserved_doors: Vec<&'static str>,
    pub(crate) list: Vec<Setting>,
    /// lode.yml as it was read; `None` without one.
    pub(crate) config_text: Option<String>,
}

impl Settings {
    /// Finds and reads the project. Errors: `Usage` for a missing folder, `Config` with place and remedy.
    pub(crate) fn load(around: &Surroundings) -> Result<Self, Problem> {
        let mut list = Vec::new();
        let project_dir = find_project(around, &mut list)?;
        let path = project_dir.join(CONFIG_FILE);
        let config_text = if path.is_file() { Some(config::read_text(&path, CONFIG_FILE)?) } else { None };
        Self::resolve(around, project_dir, list, config_text)
    }

    /// The project with `config_text` as its lode.yml, whatever the file holds by now. Errors: as `load`.
    pub(crate) fn of_text(around: &Surroundings, config_text: Option<String>) -> Result<Self, Problem> {
        let mut list = Vec::new();
        let project_dir = find_project(around, &mut list)?;
        Self::resolve(around, project_dir, list, config_text)
    }

    fn resolve(
        around: &Surroundings,
        project_dir: PathBuf,
        mut list: Vec<Setting>,
        config_text: Option<String>,
    ) -> Result<Self, Problem> {
        let text = config_text.clone().unwrap_or_default();
        let file: ConfigFile = config::parse(&text, CONFIG_FILE)?;
        let data_dir = data_dir(around, &project_dir, &mut list);
        let lake = lake(file.lake.as_ref(), &text, around, (&project_dir, &data_dir), &mut list)?;
        let maintains = maintains(file.lake.as_ref(), &text, &mut list)?;
        let default_schema = default_schema(around, &mut list)?;
        let ingests = resolve_ingests(&file.ingest, &text, CONFIG_FILE, &around.env)?;
        for (ingest, written) in ingests.iter().zip(&file.ingest) {
            let origin = config::place(&written.name, &text, CONFIG_FILE).to_string();
            let mut set = |key: &str, value: String| {
                let key = format!("ingest.{}.{key}", ingest.name);
                list.push(Setting { key, value, origin: origin.clone() });
            };
            set("files.path", ingest.files.path.clone());
            set("table", ingest.table.to_string());
        }
        let serve = file.serve.unwrap_or_default();
        let doors = [
            ("pg", serve.pg),
            ("http", serve.http),
            ("kafka", serve.kafka),
            ("mqtt", serve.mqtt),
            ("flight", serve.flight),
        ];
        let mut unserved_doors = Vec::new();
        for (name, address) in doors {
            if let Some(address) = address {
                let origin = config::place(&address, &text, CONFIG_FILE).to_string();
                list.push(Setting { key: format!("serve.{name}"), value: address.value, origin });
                unserved_doors.push(name);
            }
        }
        let has_models = project_dir.join(PROJECT_FILE).is_file();
        Ok(Self {
            project_dir,
            has_models,
            data_dir,
            lake,
            maintains,
            default_schema,
            ingests,
            unserved_doors,
            list,
            config_text,
        })
    }

    /// `LODE_*` variables that nothing reads: most likely a typing mistake.
    pub(crate) fn unknown_variables(around: &Surroundings) -> Vec<String> {
        // Doors come with their addresses; tests set the rest.
        let later = ["LODE_FAIL_POINT", "LODE_FAULT", "LODE_USER", "LODE_PASSWORD", "LODE_TOKEN"];
        let is_known = |name: &str| {
            VARIABLES.contains(&name)
                || later.contains(&name)
                || name.ends_with("_ADDR")
                || name.starts_with("LODE_TEST_")
        };
        around.env.names().filter(|name| name.starts_with("LODE_") && !is_known(name)).map(str::to_owned).collect()
    }
}

fn find_project(around: &Surroundings, list: &mut Vec<Setting>) -> Result<PathBuf, Problem> {
    let (dir, origin) = match &around.project_dir {
        Some(dir) => {
            let dir = around.cwd.join(dir);
            if !dir.is_dir() {
                return Err(Problem::new(
                    ErrorKind::Usage,
                    format!("project folder \"{}\" does not exist", dir.display()),
                )
                .at(Place::of("--project-dir"))
                .fix("give an existing folder, or make one with `lode init DIR`"));
            }
            (dir, "--project-dir".to_owned())
        }
        None => {
            let is_project = |dir: &&Path| dir.join(CONFIG_FILE).is_file() || dir.join(PROJECT_FILE).is_file();
            match around.cwd.ancestors().find(is_project) {
                Some(dir) if dir == around.cwd => (dir.to_path_buf(), "the current folder".to_owned()),
                Some(dir) => (dir.to_path_buf(), "a parent of the current folder".to_owned()),
                None => (around.cwd.clone(), "the current folder (no lode.yml or dbt_project.yml above)".to_owned()),
            }
        }
    };
    let dir = canonical(&dir);
    list.push(Setting { key: "project_dir".into(), value: dir.display().to_string(), origin });
    Ok(dir)
}

fn data_dir(around: &Surroundings, project_dir: &Path, list: &mut Vec<Setting>) -> PathBuf {
    let (dir, origin) = match around.variable("LODE_DATA_DIR") {
        Some(dir) => (around.cwd.join(dir), "LODE_DATA_DIR"),
        None => (project_dir.join(".lode"), "default"),
    };
    let dir = canonical(&dir);
    list.push(Setting { key: "data_dir".into(), value: dir.display().to_string(), origin: origin.into() });
    dir
}

/// One name for one folder, whatever way led to it: the lock and the socket go by it. The last parts may be missing.
fn canonical(dir: &Path) -> PathBuf {
    for ancestor in dir.ancestors() {
        if let Ok(known) = ancestor.canonicalize() {
            return match dir.strip_prefix(ancestor) {
                Ok(rest) if rest.as_os_str().is_empty() => known,
                Ok(rest) => known.join(rest),
                Err(_) => dir.to_path_buf(),
            };
        }
    }
    dir.to_path_buf()
}

fn lake(
    section: Option<&LakeSection>,
    text: &str,
    around: &Surroundings,
    (project_dir, data_dir): (&Path, &Path),
    list: &mut Vec<Setting>,
) -> Result<Lake, Problem> {
    let options = section.and_then(|section| section.options.as_ref());
    let (location, origin, place) = match section.and_then(|section| section.path.as_ref()) {
        Some(written) => {
            let place = config::place(written, text, CONFIG_FILE);
            let path = expand_env(&written.value, &around.env).map_err(|problem| problem.at(place.clone()))?;
            let location = path.parse::<StoreLocation>().map_err(|error| Problem::from(error).at(place.clone()))?;
            let location = match location.local() {
                Some(folder) => StoreLocation::from(canonical(&project_dir.join(folder)).as_path()),
                None => location,
            };
            (location, place.to_string(), Some(place))
        }
        None => (StoreLocation::from(data_dir.join("lake").as_path()), "default".to_owned(), None),
    };
    list.push(Setting { key: "lake.path".into(), value: location.to_string(), origin });
    let Some(written) = options else { return Ok(Lake { location, options: StoreOptions::default() }) };
    let at = config::place(written, text, CONFIG_FILE);
    let options = written.value.expanded(&around.env).map_err(|problem| problem.at(at.clone()))?;
    options.check(&location).map_err(|error| Problem::from(error).at(place.unwrap_or_else(|| at.clone())))?;
    for key in options.names() {
        // Some are secrets, so no value is shown.
        list.push(Setting { key: format!("lake.options.{key}"), value: "(set)".into(), origin: at.to_string() });
    }
    Ok(Lake { location, options })
}

fn maintains(section: Option<&LakeSection>, text: &str, list: &mut Vec<Setting>) -> Result<bool, Problem> {
    let Some(written) = section.and_then(|section| section.maintenance.as_ref()) else {
        list.push(Setting { key: "lake.maintenance".into(), value: "auto".into(), origin: "default".into() });
        return Ok(true);
    };
    let place = config::place(written, text, CONFIG_FILE);
    list.push(Setting { key: "lake.maintenance".into(), value: written.value.clone(), origin: place.to_string() });
    match written.value.as_str() {
        "auto" => Ok(true),
        "off" => Ok(false),
        other => Err(Problem::new(ErrorKind::Config, format!("\"{other}\" is no kind of maintenance"))
            .at(place)
            .fix("write `maintenance: auto` or `maintenance: off`")),
    }
}

fn default_schema(around: &Surroundings, list: &mut Vec<Setting>) -> Result<String, Problem> {
    let (schema, origin) = match around.variable("LODE_SCHEMA") {
        Some(schema) => (schema, "LODE_SCHEMA"),
        None => (TableName::DEFAULT_SCHEMA, "default"),
    };
    format!("{schema}.x").parse::<TableName>().map_err(|_| {
        Problem::new(ErrorKind::Config, format!("\"{schema}\" is not a schema name"))
            .at(Place::of("LODE_SCHEMA"))
            .fix("use letters, digits and `_`, not starting with `_`")
    })?;
    list.push(Setting { key: "schema".into(), value: schema.to_owned(), origin: origin.into() });
    Ok(schema.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(config: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(CONFIG_FILE), config).unwrap();
            Self(dir)
        }

        fn around(&self) -> Surroundings {
            Surroundings { cwd: self.0.path().to_path_buf(), ..Surroundings::default() }
        }
    }

    #[test]
    fn a_project_is_found_from_a_folder_below() {
        let folder = Folder::with("");
        let below = folder.0.path().join("models/gold");
        std::fs::create_dir_all(&below).unwrap();
        let settings = Settings::load(&Surroundings { cwd: below, ..Surroundings::default() }).unwrap();
        assert_eq!(settings.project_dir, folder.0.path().canonicalize().unwrap());
        assert_eq!(settings.lake.location.local(), Some(settings.project_dir.join(".lode/lake").as_path()));
    }

    #[test]
    fn a_variable_goes_over_the_default_and_says_so() {
        let folder = Folder::with("");
        let mut around = folder.around();
        around.env = [("LODE_DATA_DIR".to_owned(), "/tmp/elsewhere".to_owned())].into_iter().collect();
        let settings = Settings::load(&around).unwrap();
        assert_eq!(settings.lake.location.local(), Some(Path::new("/tmp/elsewhere/lake")));
        let entry = settings.list.iter().find(|setting| setting.key == "data_dir").unwrap();
        assert_eq!(entry.origin, "LODE_DATA_DIR");
    }

    #[test]
    fn a_lake_in_a_bucket_has_options_that_may_come_from_the_environment() {
        let folder = Folder::with(
            "lake:\n  path: s3://bucket/${env:SPACE}\n  options: {endpoint: \"${env:WHERE}\", allow_http: true}\n",
        );
        let mut around = folder.around();
        let variables = [("SPACE", "lake"), ("WHERE", "http://127.0.0.1:9000")];
        around.env = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let settings = Settings::load(&around).unwrap();
        assert_eq!(settings.lake.location.to_string(), "s3://bucket/lake");
        let expected = StoreOptions::default().with("endpoint", "http://127.0.0.1:9000").unwrap();
        assert_eq!(settings.lake.options, expected.with("allow_http", "true").unwrap());
        let shown = settings.list.iter().find(|setting| setting.key == "lake.options.endpoint").unwrap();
        assert_eq!((shown.value.as_str(), shown.origin.as_str()), ("(set)", "lode.yml:3:12"));
        let problem = Settings::load(&folder.around()).unwrap_err();
        assert!(problem.render().contains("SPACE"), "{}", problem.render());
    }

    #[test]
    fn a_location_that_is_none_is_shown_with_its_place() {
        let folder = Folder::with("lake:\n  path: s4://bucket/lake\n");
        let problem = Settings::load(&folder.around()).unwrap_err();
        insta::assert_snapshot!(problem.render(), @r#"
        error: could not open store "s4://bucket/lake": there is no storage with the scheme "s4://"
          where: s4://bucket/lake
                 lode.yml:2:9
           2 |   path: s4://bucket/lake
             |         ^
          fix:   did you mean "s3://"?
        "#);
    }

    #[test]
    fn a_mistyped_key_is_shown_with_its_place() {
        let folder = Folder::with("lake:\n  paht: x\n");
        let problem = Settings::load(&folder.around()).unwrap_err();
        insta::assert_snapshot!(problem.render(), @r#"
        error: unknown key "paht"
          where: lode.yml:2:3
           2 |   paht: x
             |   ^
          fix:   did you mean "path"?
        "#);
    }
}
