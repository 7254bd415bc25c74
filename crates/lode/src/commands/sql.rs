//! `lode sql`: statements, one after the other.

use lode_core::{ErrorKind, Place, Problem, config};
use lode_engine::StatementResult;

use crate::app::App;
use crate::args::SqlArgs;
use crate::output::Output;
use crate::render;

pub(crate) async fn run(args: &SqlArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let (statement, origin) = statement(args, app)?;
    let session = app.session().await?.origin(origin);
    let mut script = app.house().await?.engine.script(&statement, &session)?;
    // Planning is a large state; boxed, it does not weigh on every command.
    while let Some(result) = Box::pin(script.next()).await {
        match result? {
            StatementResult::Rows { schema, rows } => {
                render::print(&schema, rows, args.format.format, out).await?;
            }
            StatementResult::Done { tag, .. } => out.say(tag),
        }
    }
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
