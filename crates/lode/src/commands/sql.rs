//! `lode sql`: one statement.

use lode_core::{ErrorKind, Place, Problem, config};

use crate::app::App;
use crate::args::SqlArgs;
use crate::output::Output;
use crate::render;

pub(crate) async fn run(args: &SqlArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let (statement, origin) = statement(args, app)?;
    let session = app.session().await?.origin(origin);
    let warehouse = app.warehouse().await?;
    let prepared = warehouse.prepare(&statement, &session).await?;
    let rows = warehouse.run(&prepared).await?;
    render::print(&prepared.schema, rows, args.format.format, out).await?;
    Ok(0)
}

fn statement(args: &SqlArgs, app: &App) -> Result<(String, String), Problem> {
    if let Some(sql) = &args.command {
        return Ok((sql.clone(), "<sql>".to_owned()));
    }
    if let Some(file) = &args.file {
        let shown_as = file.display().to_string();
        return Ok((config::read_text(&app.around.cwd.join(file), &shown_as)?, shown_as));
    }
    match &app.piped_in {
        Some(sql) if !sql.trim().is_empty() => Ok((sql.clone(), "<sql>".to_owned())),
        _ => Err(Problem::new(ErrorKind::Usage, "there is no statement")
            .at(Place::of("lode sql"))
            .fix("give one: lode sql -c \"select 1\", lode sql -f FILE, or pipe it in")),
    }
}
