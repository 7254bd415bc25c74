//! The folder of the demo: made new, gone on with, or left alone because somebody else's work is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lode_core::{ErrorKind, Place, Problem};
use serde::{Deserialize, Serialize};

use super::generate::{self, Options};
use super::template::FILES;

/// Says that a folder is a demo, and how it was made.
const MARK: &str = ".demo.json";
const LANDING: &str = "landing";
/// Where the landing files grow; renamed when they are complete.
const LANDING_PART: &str = ".landing.part";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    cars: u32,
    days: u32,
    seed: u64,
    /// BLAKE3 of each project file as the demo wrote it.
    files: BTreeMap<String, String>,
}

/// What to do with project files that were edited since the demo wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edits {
    Refuse,
    Keep,
    Overwrite,
}

/// What was made, or found.
#[derive(Debug)]
pub(super) struct Made {
    /// The folder held a demo already.
    pub(super) is_known: bool,
    /// Counts of the fleet's files; `None` when they were there already.
    pub(super) truth: Option<generate::Truth>,
    pub(super) landing_files: u64,
    pub(super) landing_bytes: u64,
}

/// Makes the project and its landing files in `folder`, or goes on with what is there.
/// Errors: `Conflict` for a folder with other work in it, for edited files unless `edits` allows them, and for a demo that
/// was made with other options; those of `generate`.
pub(super) fn prepare(folder: &Path, options: &Options, edits: Edits) -> Result<Made, Problem> {
    let mark_path = folder.join(MARK);
    let old = read_mark(&mark_path)?;
    match &old {
        None => refuse_other_work(folder)?,
        Some(old) => refuse_other_options(folder, old, options)?,
    }
    let edited = edited_files(folder, old.as_ref())?;
    if edits == Edits::Refuse && !edited.is_empty() {
        let mut problem = Problem::new(
            ErrorKind::Conflict,
            format!("{} of the demo {} edited since it was made", count(edited.len(), "file"), are(edited.len())),
        );
        for path in edited.iter().take(5) {
            problem = problem.at(Place::of(folder.join(path).display().to_string()));
        }
        return Err(problem.fix(
            "to use the edits, run `lode build` in that folder, or give `--keep`; `--force` puts the demo's own files back",
        ));
    }

    std::fs::create_dir_all(folder).map_err(|error| write_problem(folder, &error))?;
    let mark = Mark {
        cars: options.cars,
        days: options.days,
        seed: options.seed,
        files: FILES.iter().map(|(path, text)| ((*path).to_owned(), hash(text.as_bytes()))).collect(),
    };
    // First of all, so that a run that was cut off can be gone on with.
    let text = serde_json::to_string_pretty(&mark).map_err(|error| Problem::internal("no JSON").cause(error))?;
    write(&mark_path, &text)?;
    for (path, text) in FILES {
        if edits == Edits::Keep && edited.iter().any(|edited| edited == path) {
            continue;
        }
        write(&folder.join(path), text)?;
    }

    let landing = folder.join(LANDING);
    let truth = if landing.is_dir() { None } else { Some(make_landing(folder, &landing, options)?) };
    let (landing_files, landing_bytes) = measure(&landing);
    Ok(Made { is_known: old.is_some(), truth, landing_files, landing_bytes })
}

fn make_landing(folder: &Path, landing: &Path, options: &Options) -> Result<generate::Truth, Problem> {
    let part = folder.join(LANDING_PART);
    let fail = |error: std::io::Error| write_problem(&part, &error);
    if part.exists() {
        std::fs::remove_dir_all(&part).map_err(fail)?;
    }
    std::fs::create_dir_all(&part).map_err(fail)?;
    let truth = generate::generate(&part, options)?;
    std::fs::rename(&part, landing).map_err(fail)?;
    Ok(truth)
}

fn read_mark(path: &Path) -> Result<Option<Mark>, Problem> {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Problem::new(ErrorKind::Unavailable, format!("could not read \"{shown}\""))
                .cause(error)
                .at(Place::of(shown))
                .fix("give this user the right to read it, or choose another folder: `lode demo DIR`"));
        }
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Problem::new(ErrorKind::Conflict, "the mark of the demo cannot be read")
            .cause(error)
            .at(Place::of(shown))
            .fix("choose another folder: `lode demo DIR`")
    })
}

fn refuse_other_work(folder: &Path) -> Result<(), Problem> {
    let shown = folder.display().to_string();
    if folder.exists() && !folder.is_dir() {
        return Err(Problem::new(ErrorKind::Conflict, format!("\"{shown}\" is a file"))
            .at(Place::of(shown))
            .fix("choose a new folder: `lode demo DIR`"));
    }
    let is_taken = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_taken {
        return Err(Problem::new(
            ErrorKind::Conflict,
            format!("the folder \"{shown}\" is not empty and holds no demo"),
        )
        .at(Place::of(shown))
        .fix("choose a new folder: `lode demo DIR`"));
    }
    Ok(())
}

fn refuse_other_options(folder: &Path, old: &Mark, options: &Options) -> Result<(), Problem> {
    if (old.cars, old.days, old.seed) == (options.cars, options.days, options.seed) {
        return Ok(());
    }
    let Mark { cars, days, seed, .. } = old;
    Err(Problem::new(
        ErrorKind::Conflict,
        format!("the demo there was made with `--cars {cars} --days {days} --seed {seed}`: other files would land beside its own"),
    )
    .at(Place::of(folder.display().to_string()))
    .fix("give the same options, choose another folder, or remove this one"))
}

/// Project files that are neither what the binary holds nor what the demo wrote.
fn edited_files(folder: &Path, old: Option<&Mark>) -> Result<Vec<&'static str>, Problem> {
    let mut edited = Vec::new();
    for (path, text) in FILES {
        let on_disk = match std::fs::read(folder.join(path)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(write_problem(&folder.join(path), &error)),
        };
        let written = old.and_then(|mark| mark.files.get(*path));
        if on_disk != text.as_bytes() && written != Some(&hash(&on_disk)) {
            edited.push(*path);
        }
    }
    Ok(edited)
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn write(path: &Path, text: &str) -> Result<(), Problem> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| write_problem(folder, &error))?;
    }
    // The same text is not written again: editors and watchers would take it for a change.
    if std::fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    std::fs::write(path, text).map_err(|error| write_problem(path, &error))
}

pub(super) fn write_problem(path: &Path, error: &std::io::Error) -> Problem {
    let (kind, fix) = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "choose a folder that this user can write: `lode demo DIR`")
        }
        std::io::ErrorKind::StorageFull => (ErrorKind::Full, "make room, or ask for fewer `--cars` or `--days`"),
        _ => (ErrorKind::Unavailable, "check the folder, or choose another one: `lode demo DIR`"),
    };
    let shown = path.display().to_string();
    Problem::new(kind, format!("could not write \"{shown}\"")).cause(error).at(Place::of(shown)).fix(fix)
}

/// Number and size of all files below a folder.
fn measure(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => (files, bytes) = (files + 1, bytes + metadata.len()),
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("one {thing}") } else { format!("{number} {thing}s") }
}

fn are(number: usize) -> &'static str {
    if number == 1 { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Options {
        Options { cars: 3, days: 1, ..Options::default() }
    }

    #[test]
    fn a_second_run_finds_everything_and_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("demo");
        let first = prepare(&folder, &small(), Edits::Refuse).unwrap();
        assert!(!first.is_known && first.truth.is_some() && first.landing_files > 8);
        let changed = |path: &str| std::fs::metadata(folder.join(path)).unwrap().modified().unwrap();
        let before = (changed("lode.yml"), changed("landing/fleet.csv"));
        let second = prepare(&folder, &small(), Edits::Refuse).unwrap();
        assert!(second.is_known && second.truth.is_none());
        assert_eq!(before, (changed("lode.yml"), changed("landing/fleet.csv")));
        assert_eq!((first.landing_files, first.landing_bytes), (second.landing_files, second.landing_bytes));
    }

    #[test]
    fn edits_are_refused_kept_or_put_back_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder, &small(), Edits::Refuse).unwrap();
        let model = folder.join("models/gold/trips.sql");
        std::fs::write(&model, "select 1 as mine").unwrap();
        let problem = prepare(folder, &small(), Edits::Refuse).unwrap_err();
        assert_eq!(problem.what(), "one file of the demo was edited since it was made");
        assert_eq!(problem.places().first().unwrap().origin, model.display().to_string());
        assert!(problem.remedy().unwrap().contains("--keep"));
        prepare(folder, &small(), Edits::Keep).unwrap();
        assert_eq!(std::fs::read_to_string(&model).unwrap(), "select 1 as mine");
        // Kept once is not forgotten: it is still the user's file.
        assert!(prepare(folder, &small(), Edits::Refuse).is_err());
        prepare(folder, &small(), Edits::Overwrite).unwrap();
        assert!(std::fs::read_to_string(&model).unwrap().contains("trip_gap_minutes"));
    }

    #[test]
    fn other_work_and_other_options_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
        let problem = prepare(folder.path(), &small(), Edits::Overwrite).unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::Conflict);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let demo = folder.path().join("demo");
        prepare(&demo, &small(), Edits::Refuse).unwrap();
        let problem = prepare(&demo, &Options { cars: 4, ..small() }, Edits::Overwrite).unwrap_err();
        assert!(problem.what().contains("--cars 3 --days 1 --seed"), "{}", problem.what());
    }

    #[test]
    fn a_run_that_was_cut_off_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder, &small(), Edits::Refuse).unwrap();
        std::fs::remove_file(folder.join("models/gold/trips.sql")).unwrap();
        std::fs::rename(folder.join(LANDING), folder.join(LANDING_PART)).unwrap();
        let made = prepare(folder, &small(), Edits::Refuse).unwrap();
        assert!(made.truth.is_some());
        assert!(folder.join("models/gold/trips.sql").is_file());
        assert!(!folder.join(LANDING_PART).exists());
    }
}
