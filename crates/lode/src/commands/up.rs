//! `lode up`: holds the data folder, watches the sources, and runs the commands of others.

use lode_core::Problem;

use crate::app::App;
use crate::args::UpArgs;
use crate::control::server;
use crate::output::Output;

pub(crate) async fn run(args: &UpArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let house = app.open(args.adopt).await?;
    crate::IS_SERVING.store(true, std::sync::atomic::Ordering::Relaxed);
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
    let context = super::ingest::context(app).await?;
    // It hears the same interrupt, and finishes or forgets the step at hand.
    let watching = lode_connect::watch(&context, app.interrupt.clone());
    tokio::join!(watching, async {
        app.interrupt.cancelled().await;
        out.say("ending: the step at hand is finished or forgotten");
    });
    server.stop();
    Ok(0)
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
