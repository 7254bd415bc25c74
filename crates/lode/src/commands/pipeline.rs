//! `lode pipeline`: what moves each table, and going on after a block.

use lode_catalog::{PipelineKind, PipelineState, PipelineStatus};
use lode_core::{ErrorKind, Problem, nearest};

use crate::app::App;
use crate::args::PipelineCommand;
use crate::output::Output;
use crate::render::{Sheet, Type};

pub(crate) async fn run(command: &PipelineCommand, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        PipelineCommand::List { format } => {
            sheet(&app.catalog().await?.pipelines().await?).print(format.format, out)?;
        }
        PipelineCommand::Resume { pipeline } => resume(pipeline, app, out).await?,
    }
    Ok(0)
}

pub(super) fn sheet(pipelines: &[PipelineStatus]) -> Sheet {
    let mut sheet = Sheet::new(&[
        ("pipeline", Type::Text),
        ("kind", Type::Text),
        ("state", Type::Text),
        ("epoch", Type::Int),
        ("published_at", Type::Time),
        ("rows_in", Type::Int),
        ("rows_landed", Type::Int),
        ("rows_quarantined", Type::Int),
        ("error", Type::Text),
    ]);
    for status in pipelines {
        sheet.push([
            status.pipeline.name.as_str().into(),
            kind_word(status.pipeline.kind).into(),
            state_word(status.state).into(),
            status.published.0.into(),
            status.published_at.into(),
            status.counts.rows_in.into(),
            status.counts.rows_landed.into(),
            status.counts.rows_quarantined.into(),
            status.error.clone().into(),
        ]);
    }
    sheet
}

pub(super) const fn kind_word(kind: PipelineKind) -> &'static str {
    match kind {
        PipelineKind::Ingest => "ingest",
        PipelineKind::Model => "model",
        PipelineKind::Statement => "statement",
    }
}

pub(super) const fn state_word(state: PipelineState) -> &'static str {
    match state {
        PipelineState::Running => "running",
        PipelineState::Blocked => "blocked",
    }
}

async fn resume(wanted: &str, app: &App, out: &Output) -> Result<(), Problem> {
    let catalog = app.catalog().await?;
    let pipelines = catalog.pipelines().await?;
    let fits = |status: &&PipelineStatus| status.pipeline.name == wanted || status.pipeline.id.to_string() == wanted;
    let found: Vec<_> = pipelines.iter().filter(fits).collect();
    let status = match found.as_slice() {
        [status] => *status,
        [] => {
            let problem = Problem::new(ErrorKind::NotFound, format!("pipeline \"{wanted}\" does not exist"));
            let names = pipelines.iter().map(|status| status.pipeline.name.as_str());
            return Err(match nearest(wanted, names) {
                Some(near) => problem.fix(format!("did you mean \"{near}\"?")),
                None => problem.fix("`lode pipeline list` names them"),
            });
        }
        [first, ..] => {
            return Err(Problem::new(ErrorKind::Usage, format!("{} pipelines are named \"{wanted}\"", found.len()))
                .fix(format!("give an id, such as {} ({})", first.pipeline.id, kind_word(first.pipeline.kind))));
        }
    };
    if status.state != PipelineState::Blocked {
        out.say(format!("pipeline \"{wanted}\" is not blocked; there is nothing to resume"));
        return Ok(());
    }
    catalog.resume(&status.pipeline).await?;
    out.say(format!("pipeline \"{wanted}\" goes on"));
    Ok(())
}
