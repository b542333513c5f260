//! `vitrine predict`

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;
use vitrine_train::TrainError;
use vitrine_train::predict::{Classifier, Guess};
use vitrine_train::threads::with_threads;

use super::arguments::PredictArguments;
use super::{message, model, print, print_json, tell};

/// The name that stands for the standard input.
const STDIN: &str = "-";

/// The JSON object of an image.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    classes: &'a [Guess],
}

/// Prints the likeliest classes of each image. An image that cannot be read is reported, the others are classified
/// all the same, and the command fails at the end.
pub fn run(arguments: PredictArguments) -> Result<ExitCode> {
    let (recipe, weights) = model::resolve(&arguments.model)?;
    let classifier = Classifier::load(&recipe, &weights, tell)?;
    with_threads(recipe.training.run.threads, || -> Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for file in &arguments.files {
            match classify(&classifier, file) {
                Ok(mut guesses) => {
                    guesses.truncate(arguments.top.get());
                    let report = Report { file: file.display().to_string(), classes: &guesses };
                    if arguments.json { print_json(&report)? } else { print(&text(&report))? }
                }
                Err(error) => {
                    // Errors of the data name the file themselves.
                    let name = match error.downcast_ref() {
                        Some(TrainError::NotFiniteOutput { .. }) => format!("{}: ", file.display()),
                        _ => String::new(),
                    };
                    tell(&format!("error: {name}{}", message(&error)));
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    })?
}

fn classify(classifier: &Classifier, file: &Path) -> Result<Vec<Guess>> {
    if file != Path::new(STDIN) {
        return Ok(classifier.classify_file(file)?);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).context("cannot read the standard input")?;
    Ok(classifier.classify_bytes("standard input", &bytes)?)
}

fn text(report: &Report<'_>) -> String {
    let lines =
        report.classes.iter().map(|guess| format!("  {:.4}  {}\n", guess.probability, guess.name));
    format!("{}\n{}", report.file, lines.collect::<String>())
}
