//! `vitrine bench`

use anyhow::Result;
use vitrine_train::bench::{Bench, BenchFigures};
use vitrine_train::recipe::Recipe;
use vitrine_train::threads::with_threads;

use super::arguments::{BenchArguments, Kernels};
use super::{print, print_json};

/// Times steps and prints one line.
pub fn run(arguments: BenchArguments) -> Result<()> {
    let mut recipe = Recipe::load(arguments.recipe.source("d2l"), &arguments.recipe.overrides()?)?;
    if let Some(classes) = arguments.classes {
        recipe.model = recipe.model.with_classes(classes as usize);
    }
    let (work, warmup, steps) = (arguments.work, arguments.warmup, arguments.steps.get());
    let (threads, json) = (recipe.training.run.threads, arguments.json);
    if let Some(how) = arguments.kernels {
        let timed = matches!(how, Kernels::Timed);
        let report =
            with_threads(threads, || Bench::of(&recipe, work)?.kernels(timed, warmup, steps))??;
        if json { print_json(&report) } else { print(&report.to_string()) }
    } else {
        let figures = with_threads(threads, || Bench::of(&recipe, work)?.run(warmup, steps))??;
        if json { print_json(&figures) } else { print(&text(&figures)) }
    }
}

fn text(figures: &BenchFigures) -> String {
    let BenchFigures { program, what, precision, threads, batch_size, steps, .. } = figures;
    let BenchFigures { median_ms, min_ms, images_per_second, peak_rss_mb, .. } = figures;
    let peak = peak_rss_mb.map_or("null".to_owned(), |mebibytes| mebibytes.to_string());
    format!(
        "{program} {what}: precision {precision}, threads {threads}, batch_size {batch_size}, steps {steps}: \
         median_ms {median_ms}, min_ms {min_ms}, images_per_second {images_per_second}, peak_rss_mb {peak}\n"
    )
}
