//! What a run shows while it goes on: a live display on a terminal, dbt's lines when piped, or one JSON object a line.

mod json;
mod live;
mod plain;
mod words;

use std::sync::Arc;

use lode_jobs::{Observer, RunEvent};

pub(crate) use live::restore_terminal;
pub(crate) use words::{count, plural, seconds};

use crate::args::LogFormat;
use crate::output::Output;

/// Shows the events of one run. `finish` ends the display; dropping it does too.
pub(crate) struct Progress {
    kind: Kind,
}

enum Kind {
    Quiet(plain::Plain),
    Plain(plain::Plain),
    Live(live::Live),
    Json(json::JsonLines),
}

impl Progress {
    pub(crate) fn start(out: &Output, format: LogFormat) -> Arc<Self> {
        let kind = if format == LogFormat::Json {
            Kind::Json(json::JsonLines::new(out))
        } else if out.is_quiet() {
            Kind::Quiet(plain::Plain::new(out))
        } else if out.terminal().err_is_terminal {
            Kind::Live(live::Live::start(out))
        } else {
            Kind::Plain(plain::Plain::new(out))
        };
        Arc::new(Self { kind })
    }

    /// Takes the display down; what has finished stays on the screen.
    pub(crate) fn finish(&self) {
        if let Kind::Live(live) = &self.kind {
            live.finish();
        }
    }
}

impl Observer for Progress {
    fn on_event(&self, event: &RunEvent) {
        match &self.kind {
            Kind::Quiet(plain) => plain.only_failures(event),
            Kind::Plain(plain) => plain.on_event(event),
            Kind::Live(live) => live.on_event(event),
            Kind::Json(json) => json.on_event(event),
        }
    }
}
