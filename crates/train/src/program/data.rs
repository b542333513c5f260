//! `vitrine data`

use std::process::ExitCode;

use anyhow::{Context, Result};
use vitrine_data::Locator;

use super::arguments::DataArguments;
use super::{print, tell};

/// Prints the folder of a data set after all its files were checked.
pub fn run(arguments: DataArguments) -> Result<ExitCode> {
    let spec = arguments.dataset.spec();
    let mut locator = Locator::from_env(arguments.place.data).on_notice(tell);
    let folder = match arguments.check {
        true => {
            locator.fetch.clear();
            locator.locate(spec).context("--check fetches nothing")?
        }
        false => locator.locate(spec)?,
    };
    tell(&format!(
        "{}: {} training and {} test images, all files as published",
        spec.title, spec.train.samples, spec.test.samples
    ));
    print(&format!("{}\n", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
