//! `lode ingest`: land what is there now, once.

use lode_core::Problem;

use crate::app::App;
use crate::args::IngestArgs;
use crate::output::Output;

pub(crate) async fn run(args: &IngestArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let _ = (args, app, out);
    Err(Problem::internal("landing is not wired"))
}
