//! Changes of lode.yml while `lode up` runs: taken over as a whole, or told once and left alone.

use std::path::PathBuf;
use std::time::Duration;

use lode_connect::Ingest;
use lode_core::{ErrorKind, Place, Problem, task};
use tokio::sync::watch::Sender;
use tokio_util::sync::CancellationToken;

use crate::config::{CONFIG_FILE, Settings, Surroundings};
use crate::output::Output;

/// The file is looked at so often, by its content: time stamps are too coarse, and lie.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was there when somebody looked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Text(String),
    Missing,
    Unreadable(String),
}

/// The file, and the settings of it that are in force.
pub(super) struct ProjectFile {
    around: Surroundings,
    path: PathBuf,
    in_force: Settings,
    /// What was decided on last, taken over or refused.
    decided: Look,
    /// Seen once. It counts when it is there a second time: an editor may be in the middle of writing, and half a file
    /// may be a valid one without its contract.
    seen: Option<Look>,
    is_broken: bool,
}

#[derive(Debug)]
enum Change {
    Taken { settings: Box<Settings>, was_broken: bool },
    Broken(Problem),
}

impl ProjectFile {
    pub(super) fn new(around: &Surroundings, in_force: &Settings) -> Self {
        let mut around = around.clone();
        // Without the file, its folder is still the project.
        around.project_dir = Some(in_force.project_dir.clone());
        let path = in_force.project_dir.join(CONFIG_FILE);
        let decided = match &in_force.config_text {
            Some(text) => Look::Text(text.clone()),
            None => Look::Missing,
        };
        Self { around, path, in_force: in_force.clone(), decided, seen: None, is_broken: false }
    }

    fn look(&mut self) -> Option<Change> {
        let (now, unreadable) = match lode_core::config::read_text(&self.path, CONFIG_FILE) {
            Ok(text) => (Look::Text(text), None),
            Err(problem) if problem.kind() == ErrorKind::NotFound => (Look::Missing, None),
            Err(problem) => (Look::Unreadable(problem.to_string()), Some(problem)),
        };
        if now == self.decided {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return None;
        }
        self.seen = None;
        self.decided = now;
        Some(match unreadable.map_or_else(|| self.load(), Err) {
            Ok(settings) => {
                self.in_force = settings.clone();
                let was_broken = std::mem::take(&mut self.is_broken);
                Change::Taken { settings: Box::new(settings), was_broken }
            }
            Err(problem) => {
                self.is_broken = true;
                Change::Broken(problem)
            }
        })
    }

    fn load(&self) -> Result<Settings, Problem> {
        let text = match &self.decided {
            Look::Text(text) => Some(text.clone()),
            Look::Missing if self.in_force.config_text.is_some() => {
                return Err(Problem::new(ErrorKind::NotFound, format!("{CONFIG_FILE} is gone"))
                    .at(Place::of(self.path.display().to_string()))
                    .fix("put it back, or stop `lode up`"));
            }
            Look::Missing | Look::Unreadable(_) => None,
        };
        // The text that was seen twice: what the file holds by now was seen by nobody.
        let settings = Settings::of_text(&self.around, text)?;
        if settings.lake != self.in_force.lake {
            return Err(Problem::new(
                ErrorKind::Config,
                "the lake of this project changed since `lode up` was started",
            )
            .at(Place::of(settings.lake.location.to_string()))
            .fix("start `lode up` again"));
        }
        Ok(settings)
    }
}

/// Looks until `stop`, tells what changed, and hands on the sources that hold from now on.
pub(super) async fn follow(mut file: ProjectFile, sources: Sender<Vec<Ingest>>, out: Output, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let looked = task::blocking("look at lode.yml", move || {
            let change = file.look();
            (file, change)
        });
        let change = match looked.await {
            Ok((back, change)) => {
                file = back;
                change
            }
            Err(problem) => {
                out.problem(&problem);
                return;
            }
        };
        match change {
            None => {}
            Some(Change::Broken(problem)) => {
                out.must_say(format!(
                    "{CONFIG_FILE} changed and is not taken over: what was in force before stays in force"
                ));
                out.problem(&problem);
            }
            Some(Change::Taken { settings, was_broken }) => {
                let word = if was_broken { "is in order again" } else { "changed" };
                out.say(format!("{CONFIG_FILE} {word}: {}", super::watched(&settings.ingests)));
                super::tell_unserved(&settings, &out);
                sources.send_replace(settings.ingests);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ingest:\n  - {name: a, files: {path: in}, table: bronze.a}\n";

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(text: &str) -> (Self, ProjectFile) {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.write(text);
            let around = Surroundings { cwd: folder.0.path().to_path_buf(), ..Surroundings::default() };
            let settings = Settings::load(&around).unwrap();
            (folder, ProjectFile::new(&around, &settings))
        }

        fn write(&self, text: &str) {
            std::fs::write(self.0.path().join(CONFIG_FILE), text).unwrap();
        }
    }

    fn names(change: Option<Change>) -> (Vec<String>, bool) {
        match change {
            Some(Change::Taken { settings, was_broken }) => {
                (settings.ingests.into_iter().map(|ingest| ingest.name).collect(), was_broken)
            }
            other => (vec![format!("{other:?}")], false),
        }
    }

    #[test]
    fn half_a_file_is_not_taken_over() {
        let (folder, mut file) = Folder::with(ONE);
        assert!(file.look().is_none());
        folder.write("");
        assert!(file.look().is_none());
        folder.write(&format!("{ONE}  - {{name: b, files: {{path: in}}, table: bronze.b}}\n"));
        assert!(file.look().is_none());
        assert_eq!(names(file.look()), (vec!["a".to_owned(), "b".to_owned()], false));
        assert!(file.look().is_none());
    }

    #[test]
    fn what_is_taken_over_is_the_text_that_was_seen_twice() {
        let (folder, mut file) = Folder::with(ONE);
        let two = format!("{ONE}  - {{name: b, files: {{path: in}}, table: bronze.b}}\n");
        file.decided = Look::Text(two.clone());
        // Between the second look and this, an editor began to write.
        folder.write("");
        let settings = file.load().unwrap();
        assert_eq!((settings.ingests.len(), settings.config_text), (2, Some(two)));
        // What is no text is not taken for an empty one.
        std::fs::write(folder.0.path().join(CONFIG_FILE), [0xff]).unwrap();
        assert!(file.look().is_none());
        let told = file.look();
        assert!(
            matches!(&told, Some(Change::Broken(problem)) if problem.remedy() == Some("save the file as UTF-8")),
            "{told:?}"
        );
    }

    #[test]
    fn a_broken_file_is_told_once_and_so_is_its_repair() {
        let (folder, mut file) = Folder::with(ONE);
        folder.write(&ONE.replace("table", "tabel"));
        assert!(file.look().is_none());
        let Some(Change::Broken(problem)) = file.look() else { panic!("it is taken over") };
        assert_eq!(problem.what(), "unknown key \"tabel\"");
        assert!(file.look().is_none());
        folder.write(ONE);
        assert!(file.look().is_none());
        assert_eq!(names(file.look()), (vec!["a".to_owned()], true));
    }

    #[test]
    fn a_lost_file_and_another_lake_are_refused() {
        let (folder, mut file) = Folder::with(ONE);
        std::fs::remove_file(folder.0.path().join(CONFIG_FILE)).unwrap();
        assert!(file.look().is_none());
        assert!(matches!(file.look(), Some(Change::Broken(problem)) if problem.what() == "lode.yml is gone"));
        folder.write(&format!("lake: {{path: elsewhere}}\n{ONE}"));
        assert!(file.look().is_none());
        assert!(matches!(file.look(), Some(Change::Broken(problem)) if problem.what().contains("the lake")));
    }
}
