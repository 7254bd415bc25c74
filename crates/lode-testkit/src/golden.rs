//! Golden files: what a test gave when somebody last read it and found it right.

use std::path::Path;

/// Compares `actual` with the file `path` (relative to the crate's folder). `LODE_BLESS=1` writes the file instead; read the
/// diff then.
/// Panics with the first line that differs.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn golden(path: impl AsRef<Path>, actual: &str) {
    let path = path.as_ref();
    let actual = format!("{}\n", actual.trim_end());
    if std::env::var_os("LODE_BLESS").is_some_and(|value| value == "1") {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        }
        std::fs::write(path, actual).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        return;
    }
    let wanted = std::fs::read_to_string(path).unwrap_or_else(|error| {
        panic!("cannot read {}: {error}; LODE_BLESS=1 writes it:\n{actual}", path.display());
    });
    if let Some(difference) = first_difference(&wanted, &actual) {
        panic!("{} differs (LODE_BLESS=1 rewrites it), {difference}\n--- actual ---\n{actual}", path.display());
    }
}

fn first_difference(wanted: &str, actual: &str) -> Option<String> {
    let (mut wanted, mut actual) = (wanted.lines(), actual.lines());
    for line in 1.. {
        match (wanted.next(), actual.next()) {
            (None, None) => return None,
            (was, is) if was == is => {}
            (was, is) => {
                return Some(format!(
                    "line {line}:\n  was: {}\n  is:  {}",
                    was.unwrap_or("(end)"),
                    is.unwrap_or("(end)")
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_shown() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n").unwrap(), "line 2:\n  was: b\n  is:  c");
        assert_eq!(first_difference("a\n", "a\nc\n").unwrap(), "line 2:\n  was: (end)\n  is:  c");
    }

    #[test]
    fn a_golden_file_is_compared() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.txt");
        std::fs::write(&file, "one\n").unwrap();
        golden(&file, "one");
        let differs = std::panic::catch_unwind(|| golden(&file, "two")).unwrap_err();
        assert!(differs.downcast_ref::<String>().unwrap().contains("was: one"));
    }
}
