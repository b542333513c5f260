//! `vitrine eval`

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::Serialize;
use vitrine_data::{Locator, Split};
use vitrine_train::TrainError;
use vitrine_train::build;
use vitrine_train::evaluate::{Evaluation, evaluate};
use vitrine_train::threads::with_threads;

use super::arguments::EvalArguments;
use super::{model, print, tell};

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    dataset: &'a str,
    weights: String,
    #[serde(flatten)]
    figures: &'a Evaluation,
}

/// Prints a model's figures on the validation images.
pub fn run(arguments: EvalArguments) -> Result<ExitCode> {
    let (recipe, weights) = model::resolve(&arguments.model)?;
    // The weights come first: what is wrong with them is said before any data is fetched.
    let training = &recipe.training;
    let (model, parameters) = build::model_with_weights(&recipe, &weights)?;
    let locator = Locator::from_env(arguments.place.data).on_notice(tell);
    let dataset = build::dataset(&training.data, Split::Test, &locator)?;
    let loader = build::loader(training, &model.input(), dataset.clone(), false)?;

    let figures = with_threads(training.run.threads, || {
        // Draws nothing where the standard error is no terminal.
        let bar = ProgressBar::new(loader.batches_per_epoch() as u64);
        let figures = evaluate(model.as_ref(), &parameters, &loader, |done| {
            bar.set_position(done);
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        figures
    })??
    .context("nobody breaks it off")?;
    if !figures.loss.is_finite() {
        return Err(TrainError::NotFiniteOutput { what: "loss" }.into());
    }
    let weights = weights.display().to_string();
    let report = Report { dataset: dataset.name(), weights, figures: &figures };
    match arguments.json {
        true => {
            let object =
                serde_json::to_string(&report).context("cannot write the figures as JSON")?;
            print(&format!("{object}\n"))?;
        }
        false => print(&text(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report<'_>) -> String {
    let Evaluation { images, loss, top1, top5, classes, confusion } = report.figures;
    let mut text = format!(
        "{}, {images} validation images, weights {}\n\n\
         loss   {loss:.4}\ntop-1  {top1:.4}\ntop-5  {top5:.4}\n\n",
        report.dataset, report.weights
    );
    let lengths = classes.iter().map(|class| class.name.chars().count());
    let names = lengths.max().unwrap_or(0).max("class".len());
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.4}"));
    // Writing to a string does not fail.
    let _ = writeln!(text, "     {:<names$}  precision  recall   count", "class");
    for (label, class) in classes.iter().enumerate() {
        let (precision, recall) = (share(class.precision), share(class.recall));
        let (name, count) = (&class.name, class.count);
        let _ =
            writeln!(text, "{label:>3}  {name:<names$}  {precision:>9}  {recall:>6}  {count:>6}");
    }
    text.push_str(
        "\nConfusion matrix: a row for each true class, a column for each predicted one.\n\n",
    );
    let largest = confusion.iter().flatten().max().copied().unwrap_or(0);
    let cell = largest.to_string().len().max(classes.len().to_string().len()) + 2;
    text.push_str("   ");
    for label in 0..classes.len() {
        let _ = write!(text, "{label:>cell$}");
    }
    text.push('\n');
    for (label, row) in confusion.iter().enumerate() {
        let _ = write!(text, "{label:>3}");
        for count in row {
            let _ = write!(text, "{count:>cell$}");
        }
        text.push('\n');
    }
    text
}
