//! Weights for others: a folder in the form of timm, of transformers or of torchvision.

use std::fs;
use std::path::Path;

pub use safetensors::Dtype;
use serde_json::{Value, json};
use vitrine_data::{CropMode, Interpolation, Preprocessing};
use vitrine_models::published::{timm, transformers};
use vitrine_models::{Dialect, ModelConfig, RopeType};
use vitrine_nn::settings::SettingError;
use vitrine_nn::{Model, Parameters};
use vitrine_tensor::Tensor;

use crate::checkpoint::{io_error, write_json};
use crate::description::{DESCRIPTION, Description, PREPROCESSOR};
use crate::error::Result;
use crate::weights;
pub use crate::weights::MODEL as FILE;

/// Whose form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// timm's, as it is on the Hub: `timm.create_model("local-dir:FOLDER", pretrained=True)` opens it.
    Timm,
    /// That of Hugging Face's transformers: `from_pretrained("FOLDER")` opens it.
    #[value(name = "huggingface")]
    HuggingFace,
    /// The names of torchvision's models; it has no file for more, so what we write beside weights of our own is there.
    Torchvision,
}

/// The configuration of a model that the program can build by name.
pub(crate) fn known(model: &dyn Model) -> Result<Option<ModelConfig>> {
    Ok(ModelConfig::read(model.settings()?, "the model").ok())
}

/// Writes weights in a form and a number type, with what lies beside them; LoRA is merged into them. An error if that
/// form has no such model.
pub fn write(
    folder: &Path,
    form: Form,
    model: &ModelConfig,
    parameters: &Parameters,
    about: &Description,
    dtype: Dtype,
) -> Result<()> {
    let (model, parameters) = model.plain(parameters, form == Form::Torchvision)?;
    let mut beside = Vec::new();
    let (names, prefix) = match form {
        Form::Timm => {
            let mut config = timm::write(&model)?;
            config["label_names"] = json!(about.label_names);
            config["pretrained_cfg"] = pretrained_cfg(about, &model)?;
            beside.push((DESCRIPTION, config));
            let rotary = model.vit().is_some_and(|vit| vit.rope_type != RopeType::Off);
            (if rotary { "timm-eva" } else { "timm" }, "")
        }
        Form::HuggingFace => {
            let (config, names, prefix) = transformers::write(&model, &about.label_names)?;
            beside.push((DESCRIPTION, config));
            beside.push((PREPROCESSOR, preprocessor(&about.pretrained_cfg)?));
            (names, prefix)
        }
        Form::Torchvision => {
            let about = Description { model: model.table()?, ..about.clone() };
            let config = serde_json::to_value(about).map_err(SettingError::convert)?;
            beside.push((DESCRIPTION, config));
            (torchvision(&model)?, "")
        }
    };
    let dialect = Dialect::named(names).expect("a test reads all dialects");
    let tensors = renamed(dialect, prefix, &model, &parameters)?;
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    weights::write(&folder.join(FILE), tensors.into_iter(), dtype)?;
    for (name, content) in beside {
        write_json(&folder.join(name), &content)?;
    }
    Ok(())
}

/// The table of torchvision's names for a model, which takes no option from a file; an error if it has no such model.
fn torchvision(model: &ModelConfig) -> Result<&'static str> {
    let table = model.table()?;
    let (names, only): (_, &[(&str, toml::Value)]) = match model {
        ModelConfig::Vit(_) => ("torchvision", &[("gelu", "erf".into())]),
        ModelConfig::Swin(_) => ("torchvision-swin", &[("layer_norm_eps", 1e-5.into())]),
        ModelConfig::Resnet(_) => (
            "timm",
            &[
                ("width", 64.into()),
                ("conv_bias", false.into()),
                ("downsample_norm", true.into()),
                ("batch_norm_eps", 1e-5.into()),
            ],
        ),
        ModelConfig::Cct(_) => ("timm", &[("family", "vit, swin or resnet".into())]),
    };
    let other = only.iter().find(|(key, value)| table.get(*key) != Some(value)).cloned();
    // For the Vision Transformer's, a smaller one is as good.
    let eps = model.vit().map_or(0.0, |vit| vit.layer_norm_eps);
    let other = if eps > 1e-6 { Some(("layer_norm_eps", 1e-6.into())) } else { other };
    match other {
        None => Ok(names),
        Some((key, only)) => {
            let value = table.get(key).map_or(String::new(), ToString::to_string);
            let key = vitrine_models::keys().find(|known| known.leaf() == key);
            let name = key.map_or("model.family", |key| key.name);
            Err(SettingError::conflict(name, value, format!("torchvision has {only}")).into())
        }
    }
}

/// The parameters and buffers under a dialect's names.
fn renamed(
    dialect: &Dialect,
    prefix: &str,
    model: &ModelConfig,
    parameters: &Parameters,
) -> Result<Vec<(String, Tensor)>> {
    let named = weights::named(parameters)?;
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let mut tensors = Vec::new();
    for group in dialect.groups(&names, prefix) {
        let of = |ours: &String| {
            let at = names.iter().position(|name| name == ours).expect("a group is of our names");
            &named[at].1
        };
        let mut whole = Tensor::concat(&group.ours.iter().map(of).collect::<Vec<_>>(), 0)?;
        match (group.ours[0].as_str(), dialect.name.as_str(), model.vit()) {
            _ if group.theirs.is_empty() => {
                let reason = format!("{} has no name for `{}`", dialect.name, group.ours[0]);
                let family = model.table()?.remove("family");
                let family = family.map_or(String::new(), |family| family.to_string());
                return Err(SettingError::conflict("model.family", family, reason).into());
            }
            // There the class token has a position, where the registers have none.
            ("pos_embed", "dinov2" | "dinov2-swiglu", Some(vit)) if vit.no_embed_class => {
                let zeros = Tensor::zeros(&[1, 1, vit.width], whole.dtype(), whole.device())?;
                whole = Tensor::concat(&[&zeros, &whole], 1)?;
            }
            // An embedding's weight.
            ("pos_embed", "siglip", Some(vit)) => {
                whole = whole.reshape(&[vit.patches(), vit.width])?;
            }
            _ => {}
        }
        let rows = whole.shape()[0] / group.theirs.len();
        for (i, name) in group.theirs.into_iter().enumerate() {
            tensors.push((name, whole.narrow(0, i * rows, rows)?.contiguous()?));
        }
    }
    Ok(tensors)
}

fn pretrained_cfg(about: &Description, model: &ModelConfig) -> Result<Value> {
    let mut config = serde_json::to_value(&about.pretrained_cfg).map_err(SettingError::convert)?;
    config["num_classes"] = about.num_classes.into();
    let residual = matches!(model, ModelConfig::Resnet(_));
    config["fixed_input_size"] = (!residual).into();
    config["first_conv"] = if residual { "conv1" } else { "patch_embed.proj" }.into();
    config["classifier"] = match model {
        ModelConfig::Vit(vit) if vit.distilled => json!(["head", "head_dist"]),
        ModelConfig::Swin(_) => json!("head.fc"),
        _ => json!(model.head()[0].trim_end_matches('.')),
    };
    Ok(config)
}

/// `preprocessor_config.json` for what becomes of a picture.
fn preprocessor(preprocessing: &Preprocessing) -> Result<Value> {
    let Preprocessing { input_size: [channels, height, width], interpolation, .. } = *preprocessing;
    let scaled = |side: usize| (side as f64 / preprocessing.crop_pct) as usize;
    let (tall, wide) = (scaled(height), scaled(width));
    let center = preprocessing.crop_mode == CropMode::Center;
    if preprocessing.crop_mode == CropMode::Border || (center && tall != wide) || channels == 1 {
        let mode = format!("{:?} of {channels} channels", preprocessing.crop_mode);
        let reason = "no class of transformers prepares pictures so".to_owned();
        return Err(SettingError::conflict("data.crop_mode", mode, reason).into());
    }
    let size = match center {
        true => json!({ "shortest_edge": tall }),
        false => json!({ "height": tall, "width": wide }),
    };
    Ok(json!({
        "image_processor_type": if center { "BitImageProcessor" } else { "DeiTImageProcessor" },
        "do_resize": true,
        "size": size,
        "resample": match interpolation {
            Interpolation::Lanczos => 1,
            Interpolation::Bilinear => 2,
            Interpolation::Bicubic => 3,
        },
        "do_center_crop": true,
        "crop_size": { "height": height, "width": width },
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": preprocessing.mean,
        "image_std": preprocessing.std,
    }))
}
