//! `vitrine bench`

use std::process::ExitCode;

use anyhow::{Context, Result};
use vitrine_train::bench::{Bench, BenchFigures};
use vitrine_train::recipe::Recipe;
use vitrine_train::threads::with_threads;

use super::arguments::{BenchArguments, Kernels};
use super::print;

/// Times steps and prints one line.
pub fn run(arguments: BenchArguments) -> Result<ExitCode> {
    let mut recipe = Recipe::load(arguments.recipe.source("d2l"), &arguments.recipe.overrides()?)?;
    if let Some(classes) = arguments.classes {
        recipe.model = recipe.model.with_classes(classes as usize);
    }
    let (work, warmup, steps) = (arguments.work, arguments.warmup, arguments.steps.get());
    let threads = recipe.training.run.threads;
    if let Some(how) = arguments.kernels {
        let timed = matches!(how, Kernels::Timed);
        let report =
            with_threads(threads, || Bench::of(&recipe, work)?.kernels(timed, warmup, steps))??;
        let text = match arguments.json {
            true => {
                serde_json::to_string(&report).context("cannot write the figures as JSON")? + "\n"
            }
            false => report.to_string(),
        };
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let figures = with_threads(threads, || Bench::of(&recipe, work)?.run(warmup, steps))??;
    let line = match arguments.json {
        true => serde_json::to_string(&figures).context("cannot write the figures as JSON")?,
        false => text(&figures),
    };
    print(&format!("{line}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn text(figures: &BenchFigures) -> String {
    let BenchFigures { program, what, precision, threads, batch_size, steps, .. } = figures;
    let BenchFigures { median_ms, min_ms, images_per_second, peak_rss_mb, .. } = figures;
    let peak = peak_rss_mb.map_or("null".to_owned(), |mebibytes| mebibytes.to_string());
    format!(
        "{program} {what}: precision {precision}, threads {threads}, batch_size {batch_size}, steps {steps}: \
         median_ms {median_ms}, min_ms {min_ms}, images_per_second {images_per_second}, peak_rss_mb {peak}"
    )
}
