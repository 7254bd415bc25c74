//! `lode config show`: the settings in force, and where each comes from.

use lode_core::Problem;

use crate::args::ConfigCommand;
use crate::config::Settings;
use crate::output::Output;
use crate::render::{Sheet, Type};

pub(crate) fn run(command: &ConfigCommand, settings: &Settings, out: &Output) -> Result<u8, Problem> {
    let ConfigCommand::Show { origin, format } = command;
    let mut sheet = if *origin {
        Sheet::new(&[("key", Type::Text), ("value", Type::Text), ("origin", Type::Text)])
    } else {
        Sheet::new(&[("key", Type::Text), ("value", Type::Text)])
    };
    for setting in &settings.list {
        let (key, value) = (setting.key.as_str().into(), setting.value.as_str().into());
        if *origin {
            sheet.push([key, value, setting.origin.as_str().into()]);
        } else {
            sheet.push([key, value]);
        }
    }
    sheet.print(format.format, out)?;
    Ok(0)
}
