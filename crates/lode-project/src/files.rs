//! Which files a project has, by what they are.

use std::fs;
use std::path::{Path, PathBuf};

use lode_core::Place;

use crate::config::project_file::{self, ProjectFile, notice};
use crate::config::yaml::{self, Origin};
use crate::error::ProjectError;
use crate::project::Notice;

#[derive(Debug, Default)]
pub(crate) struct FileList {
    pub(crate) models: Vec<Origin>,
    /// Of seeds only the path is read: their text may be large.
    pub(crate) seeds: Vec<Origin>,
    /// Singular tests.
    pub(crate) tests: Vec<Origin>,
    /// With their package.
    pub(crate) macros: Vec<(String, Origin)>,
    pub(crate) docs: Vec<Origin>,
    pub(crate) schemas: Vec<Origin>,
    pub(crate) notices: Vec<Notice>,
}

/// Lists the files of the project in `dir`, sorted by path.
pub(crate) fn list(dir: &Path, file: &ProjectFile) -> Result<FileList, ProjectError> {
    let mut found = FileList::default();
    for path in walk(dir, &file.model_paths)? {
        match extension(&path) {
            "sql" => found.models.push(read(dir, &path)?),
            "yml" | "yaml" => found.schemas.push(read(dir, &path)?),
            "md" => found.docs.push(read(dir, &path)?),
            "py" => {
                return Err(ProjectError::Unsupported {
                    what: format!("Python model \"{}\"", relative(dir, &path)),
                    instead: "write it as a SELECT: no Python runs here".into(),
                    place: Place::of(relative(dir, &path)),
                });
            }
            _ => {}
        }
    }
    for path in walk(dir, &file.seed_paths)? {
        match extension(&path) {
            "csv" => found.seeds.push(Origin::new(relative(dir, &path), "")),
            "yml" | "yaml" => found.schemas.push(read(dir, &path)?),
            _ => {}
        }
    }
    for path in walk(dir, &file.test_paths)? {
        let is_generic = relative(dir, &path).split('/').nth(1) == Some("generic");
        match extension(&path) {
            "sql" if is_generic => found.macros.push((file.name.clone(), read(dir, &path)?)),
            "sql" => found.tests.push(read(dir, &path)?),
            "yml" | "yaml" => found.schemas.push(read(dir, &path)?),
            _ => {}
        }
    }
    for path in walk(dir, &file.macro_paths)? {
        match extension(&path) {
            "sql" => found.macros.push((file.name.clone(), read(dir, &path)?)),
            "yml" | "yaml" => found.schemas.push(read(dir, &path)?),
            _ => {}
        }
    }
    for path in walk(dir, &file.snapshot_paths)? {
        if extension(&path) == "sql" {
            found.macros.push((file.name.clone(), read(dir, &path)?));
        }
    }
    for path in walk(dir, &file.docs_paths)? {
        if extension(&path) == "md" && !found.docs.iter().any(|known| *known.path == relative(dir, &path)) {
            found.docs.push(read(dir, &path)?);
        }
    }
    packages(dir, &mut found)?;
    installed(dir)?;
    Ok(found)
}

/// Refuses packages that are asked for and not there, as dbt does: macros of theirs would be missing.
fn installed(dir: &Path) -> Result<(), ProjectError> {
    let there = fs::read_dir(dir.join("dbt_packages"))
        .map_or(0, |entries| entries.flatten().filter(|entry| entry.path().join("dbt_project.yml").is_file()).count());
    for name in ["packages.yml", "dependencies.yml"] {
        let path = dir.join(name);
        if !path.is_file() {
            continue;
        }
        let origin = read(dir, &path)?;
        let yaml = yaml::parse(&origin)?;
        let Some(packages) = yaml.get("packages") else { continue };
        let wanted = packages.want_list("`packages`", &origin)?.len();
        if wanted > there {
            return Err(ProjectError::Unsupported {
                what: format!("installing packages ({wanted} asked for, {there} in dbt_packages)"),
                instead: "put them into dbt_packages, as `dbt deps` does, or take them out of the file".into(),
                place: packages.place(&origin),
            });
        }
    }
    Ok(())
}

/// Macros of installed packages.
fn packages(dir: &Path, found: &mut FileList) -> Result<(), ProjectError> {
    let Ok(entries) = fs::read_dir(dir.join("dbt_packages")) else { return Ok(()) };
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    for folder in folders {
        let path = folder.join("dbt_project.yml");
        if !path.is_file() {
            continue;
        }
        let package = project_file::read(read(dir, &path)?)?;
        for path in walk(&folder, &package.macro_paths)? {
            if extension(&path) == "sql" {
                found.macros.push((package.name.clone(), read(dir, &path)?));
            }
        }
        for path in walk(&folder, &package.test_paths)? {
            if extension(&path) == "sql" && relative(&folder, &path).split('/').nth(1) == Some("generic") {
                found.macros.push((package.name.clone(), read(dir, &path)?));
            }
        }
        let has_models = walk(&folder, &package.model_paths)?.iter().any(|path| extension(path) == "sql");
        if has_models {
            let message = format!("macros of package \"{}\" are used; its models are not built yet", package.name);
            found.notices.push(notice(message, &Place::of(relative(dir, &path))));
        }
    }
    Ok(())
}

pub(crate) fn read(dir: &Path, path: &Path) -> Result<Origin, ProjectError> {
    let shown = relative(dir, path);
    let text = fs::read_to_string(path).map_err(|source| ProjectError::Read { path: shown.clone(), source })?;
    Ok(Origin::new(shown, text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)))
}

pub(crate) fn relative(dir: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(dir).unwrap_or(path);
    inner.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// All files below the folders, hidden ones left out, sorted. A folder that does not exist holds nothing.
fn walk(dir: &Path, folders: &[String]) -> Result<Vec<PathBuf>, ProjectError> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| dir.join(folder)).collect();
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ProjectError::Read { path: relative(dir, &folder), source }),
        };
        for entry in entries {
            let entry = entry.map_err(|source| ProjectError::Read { path: relative(dir, &folder), source })?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
