//! `vitrine eval`

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::Serialize;
use vitrine_data::{Samples, Subset};
use vitrine_train::TrainError;
use vitrine_train::build::{self, Part};
use vitrine_train::description::Description;
use vitrine_train::evaluate::{Evaluation, evaluate};
use vitrine_train::threads::with_threads;

use super::arguments::EvalArguments;
use super::{model, print, print_json, tell, warn_of};

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    dataset: &'a str,
    split: &'a str,
    weights: String,
    averaged: bool,
    #[serde(flatten)]
    figures: &'a Evaluation,
}

/// Prints a model's figures on a part of its data set.
pub fn run(arguments: EvalArguments) -> Result<()> {
    let (mut recipe, weights) = model::resolve(&arguments.model)?;
    // The weights come first: what is wrong with them is said before any data is fetched.
    let (model, parameters) = build::model_with_weights(&recipe, &weights, tell)?;
    let dataset = build::part(&mut recipe.training, arguments.split, tell)?;
    let about = Description::beside(&weights)?;
    let averaged = about.as_ref().is_some_and(|about| about.averaged);
    let dataset = match about {
        Some(about) => in_order_of(&about.label_names, dataset)?,
        None => dataset,
    };
    let name = match arguments.split {
        Part::Train => "training",
        Part::Val => "validation",
        Part::Test => "test",
    };
    let training = &recipe.training;
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
    warn_of(&loader.broken());
    if !figures.loss.is_finite() {
        return Err(TrainError::NotFiniteOutput { what: "loss" }.into());
    }
    let weights = weights.display().to_string();
    let report =
        Report { dataset: dataset.name(), split: name, weights, averaged, figures: &figures };
    if arguments.json { print_json(&report) } else { print(&text(&report)) }
}

/// The images with the classes as the weights number them. Where these call them by other names, they are taken as they
/// are numbered.
fn in_order_of(names: &[String], images: Arc<dyn Samples>) -> Result<Arc<dyn Samples>> {
    let known = images.class_names();
    if names == known || names.len() != known.len() {
        return Ok(images);
    }
    if names.iter().all(|name| known.contains(name)) {
        return Ok(Subset::classes(images, names)?);
    }
    let (theirs, ours) = (names.join(", "), known.join(", "));
    tell(&format!(
        "the weights call the classes {theirs}, the data {ours}; they are taken in this order"
    ));
    Ok(images)
}

fn text(report: &Report<'_>) -> String {
    let Evaluation { images, loss, top1, top5, classes, confusion, .. } = report.figures;
    let Evaluation { balanced_accuracy, macro_f1, roc_auc, .. } = report.figures;
    let averaged = if report.averaged { ", averaged over steps" } else { "" };
    let mut text = format!(
        "{}, {images} {} images, weights {}{averaged}\n\nloss   {loss:.4}\ntop-1  {top1:.4}\ntop-5  {top5:.4}\n\
         balanced accuracy  {balanced_accuracy:.4}\nmacro F1  {macro_f1:.4}\n",
        report.dataset, report.split, report.weights
    );
    if let Some(area) = roc_auc {
        let _ = writeln!(text, "ROC AUC  {area:.4}");
    }
    text.push('\n');
    let lengths = classes.iter().map(|class| class.name.chars().count());
    let names = lengths.max().unwrap_or(0).max("class".len());
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.4}"));
    // Writing to a string does not fail.
    let _ = writeln!(text, "     {:<names$}  precision  recall      F1   count", "class");
    for (label, class) in classes.iter().enumerate() {
        let [precision, recall, f1] = [class.precision, class.recall, class.f1].map(share);
        let (name, count) = (&class.name, class.count);
        let _ = writeln!(
            text,
            "{label:>3}  {name:<names$}  {precision:>9}  {recall:>6}  {f1:>6}  {count:>6}"
        );
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
