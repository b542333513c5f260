//! `vitrine explain`

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use vitrine_data::load_image;
use vitrine_train::atomic::write_atomic;
use vitrine_train::build;
use vitrine_train::description::Description;
use vitrine_train::explain::{Explanation, Method, overlay};
use vitrine_train::threads::with_threads;

use super::arguments::ExplainArguments;
use super::{message, model, print, tell};

/// Pictures are no smaller than this, so that what is in them can be seen.
const LEAST_SIDE: usize = 224;

/// Writes pictures of where the model looked. A file that cannot be read is reported, the others are explained all the
/// same, and the command fails at the end.
pub fn run(arguments: ExplainArguments) -> Result<ExitCode> {
    let (recipe, weights) = model::resolve(&arguments.model)?;
    let (model, parameters) = build::model_with_weights(&recipe, &weights, tell)?;
    let about = Description::of(&recipe, &weights)?;
    let class = match &arguments.class {
        None => None,
        Some(name) => match about.label_names.iter().position(|known| known == name) {
            Some(label) => Some(label),
            None => match name.parse::<usize>() {
                Ok(label) if label < about.num_classes => Some(label),
                _ => {
                    bail!("no class is called {name:?}; they are {}", about.label_names.join(", "))
                }
            },
        },
    };
    let methods = match (arguments.method, model.token_grid()) {
        (Some(method), _) => vec![method],
        (None, Some(_)) => Method::ALL.to_vec(),
        (None, None) => vec![Method::Gradient],
    };
    let out = &arguments.out;
    fs::create_dir_all(out)
        .with_context(|| format!("cannot create the folder {}", out.display()))?;
    with_threads(recipe.training.run.threads, || -> Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        for file in &arguments.files {
            let explained = || -> Result<()> {
                let pixels =
                    load_image(file, &about.pretrained_cfg, recipe.training.data.max_pixels)?;
                let found = Explanation::of(model.as_ref(), &parameters, &pixels, class)?;
                let name = about.label_names.get(found.class).map_or("?", String::as_str);
                print(&format!("{}: {name}\n", file.display()))?;
                let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                for &method in &methods {
                    let maps = found.maps(method)?;
                    let path = out.join(format!("{stem}-{}.png", method.name()));
                    write_atomic(&path, &overlay(&pixels, &model.input(), &maps, LEAST_SIDE)?)?;
                    print(&format!("  {}\n", path.display()))?;
                }
                Ok(())
            };
            if let Err(error) = explained() {
                tell(&format!("error: {}", message(&error)));
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    })?
}
