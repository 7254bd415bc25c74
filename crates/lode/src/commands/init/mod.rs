//! `lode init`: a small project that gives a gold row at once.

use std::path::Path;

use lode_core::{ErrorKind, Place, Problem};

use crate::args::InitArgs;
use crate::config::Surroundings;
use crate::output::Output;

/// Path below the project, and content; `{project}` is its name.
const FILES: [(&str, &str); 8] = [
    (".gitignore", ".lode/\ntarget/\n"),
    ("lode.yml", include_str!("template/lode.yml")),
    ("dbt_project.yml", include_str!("template/dbt_project.yml")),
    ("macros/generate_schema_name.sql", include_str!("template/generate_schema_name.sql")),
    ("models/sources.yml", include_str!("template/sources.yml")),
    ("models/gold/revenue_by_day.sql", include_str!("template/revenue_by_day.sql")),
    ("models/gold/gold.yml", include_str!("template/gold.yml")),
    ("landing/orders/2026-01-05.csv", include_str!("template/orders.csv")),
];

pub(crate) fn run(args: &InitArgs, around: &Surroundings, out: &Output) -> Result<u8, Problem> {
    let dir = around.cwd.join(&args.dir);
    let shown = args.dir.display();
    let is_taken = match std::fs::read_dir(&dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => dir.exists(),
    };
    if is_taken {
        return Err(Problem::new(ErrorKind::AlreadyExists, format!("\"{shown}\" is there already and not empty"))
            .at(Place::of(dir.display().to_string()))
            .fix("give a new folder"));
    }
    let project = project_name(&dir);
    for (path, content) in FILES {
        write(&dir.join(path), &content.replace("{project}", &project))?;
    }
    out.say(format!("made project \"{project}\" in {shown}: one CSV file, one gold model"));
    out.say(format!(
        "next:\n  cd {shown}\n  lode ingest && lode build\n  lode sql -c \"select * from gold.revenue_by_day\""
    ));
    Ok(0)
}

pub(crate) fn write(path: &Path, content: &str) -> Result<(), Problem> {
    let make = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, content)
    };
    make().map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::StorageFull => ErrorKind::Full,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Unavailable,
        };
        Problem::new(kind, format!("could not write \"{}\"", path.display()))
            .cause(error)
            .fix("check that this user may write there and that the disk has space")
    })
}

/// The folder's name as dbt wants a project's name: letters, digits and `_`, not starting with a digit.
fn project_name(dir: &Path) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let name = name.trim_matches('_');
    match name.chars().next() {
        None => "shop".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("p_{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_becomes_a_project_name() {
        assert_eq!(project_name(Path::new("/x/My-Shop 2")), "my_shop_2");
        assert_eq!(project_name(Path::new("/x/2026")), "p_2026");
        assert_eq!(project_name(Path::new("/")), "shop");
    }
}
