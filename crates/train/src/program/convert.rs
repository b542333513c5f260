//! `vitrine convert`

use anyhow::{Result, bail};
use vitrine_train::build;
use vitrine_train::description::Description;
use vitrine_train::export;

use super::arguments::{ConvertArguments, NumberType};
use super::{model, print, tell};

/// Writes a model's weights, and what lies beside them, in another form.
pub fn run(arguments: ConvertArguments) -> Result<()> {
    let (recipe, weights) = model::resolve(&arguments.model)?;
    let out = &arguments.out;
    if out.join(export::FILE).exists() {
        bail!("{} holds weights already: choose another folder with --out", out.display());
    }
    let (_, parameters) = build::model_with_weights(&recipe, &weights, tell)?;
    let about = Description::of(&recipe, &weights)?;
    let dtype = match arguments.dtype {
        NumberType::F32 => export::Dtype::F32,
        NumberType::F16 => export::Dtype::F16,
        NumberType::Bf16 => export::Dtype::BF16,
    };
    export::write(out, arguments.to, &recipe.model, &parameters, &about, dtype)?;
    print(&format!("{}\n", out.display()))
}
