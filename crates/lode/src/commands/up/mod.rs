//! `lode up`: holds the data folder, watches the sources and lode.yml, and runs the commands of others.

mod reload;

use std::time::Duration;

use lode_connect::Ingest;
use lode_core::Problem;

use crate::app::App;
use crate::args::UpArgs;
use crate::config::Settings;
use crate::control::server;
use crate::output::Output;

pub(crate) async fn run(args: &UpArgs, app: &App, out: &mut Output) -> Result<u8, Problem> {
    let house = app.open(args.adopt).await?;
    crate::IS_SERVING.store(true, std::sync::atomic::Ordering::Relaxed);
    let server = server::start(&app.settings, house, tokio::runtime::Handle::current())?;
    tell_unserved(&app.settings, out);
    out.say(format!(
        "ready in {} ms: {}; commands in this project run here",
        crate::started().elapsed().as_millis(),
        watched(&app.settings.ingests)
    ));
    let context = super::ingest::context(app).await?;
    // It hears the same interrupt, and finishes or forgets the step at hand.
    let (sources, list) = tokio::sync::watch::channel(app.settings.ingests.clone());
    let watching = lode_connect::watch_list(&context, list, app.interrupt.clone());
    let following = {
        let file = reload::ProjectFile::new(&app.around, &app.settings);
        let (out, stop, is_wanted) = (out.clone(), app.interrupt.clone(), !args.no_watch);
        async move {
            if is_wanted {
                reload::follow(file, sources, out, stop).await;
            }
        }
    };
    let copying = lode_catalog::keep_copies(&house.catalog, COPY_EVERY, app.interrupt.clone());
    let tending = async {
        if app.settings.maintains {
            house.engine.look_after(app.interrupt.clone()).await;
        }
    };
    tokio::join!(watching, following, copying, tending, async {
        app.interrupt.cancelled().await;
        out.say("ending: the step at hand is finished or forgotten");
    });
    server.stop();
    lode_catalog::copy_meta(&house.catalog).await;
    Ok(0)
}

/// The metadata DB is copied into the lake so often.
const COPY_EVERY: Duration = Duration::from_secs(3600);

fn tell_unserved(settings: &Settings, out: &Output) {
    for door in &settings.unserved_doors {
        out.say(format!("warning: `serve: {door}` is set, but that door is not in this version"));
    }
}

fn watched(ingests: &[Ingest]) -> String {
    match ingests {
        [] => "no sources to watch".to_owned(),
        [one] => format!("watching {}", one.name),
        more => format!("watching {} sources: {}", more.len(), names(more.iter().map(|ingest| ingest.name.as_str()))),
    }
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
