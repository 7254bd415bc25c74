//! The promises, as commands that anybody can run.

mod torture;

use lode_core::Problem;

use crate::app::App;
use crate::args::ProveCommand;
use crate::output::Output;

pub(crate) fn run(command: &ProveCommand, app: &App, out: &mut Output) -> Result<u8, Problem> {
    match command {
        ProveCommand::Torture(args) => torture::run(args, app, out),
    }
}
