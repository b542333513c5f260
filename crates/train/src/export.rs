//! Weights for others: a folder in the form of timm, of transformers or of torchvision.

use std::fs;
use std::path::Path;

pub use safetensors::Dtype;
use serde_json::{Value, json};
use vitrine_data::{CropMode, Interpolation, Preprocessing};
use vitrine_models::published::{timm, transformers};
use vitrine_models::{Dialect, Gelu, ModelConfig, RopeType, VitConfig};
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
    /// The names of torchvision's VisionTransformer; it has no file for more.
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
    let ModelConfig::Vit(vit) = &model else {
        let reason = "only Vision Transformers are written".to_owned();
        return Err(SettingError::conflict("model.family", "resnet", reason).into());
    };
    let mut beside = Vec::new();
    let (names, prefix) = match form {
        Form::Timm => {
            let mut config = timm::write(vit)?;
            config["label_names"] = json!(about.label_names);
            config["pretrained_cfg"] = pretrained_cfg(about, vit.distilled)?;
            beside.push((DESCRIPTION, config));
            (if vit.rope_type == RopeType::Off { "timm" } else { "timm-eva" }, "")
        }
        Form::HuggingFace => {
            let (config, names, prefix) = transformers::write(vit, &about.label_names)?;
            beside.push((DESCRIPTION, config));
            beside.push((PREPROCESSOR, preprocessor(&about.pretrained_cfg)?));
            (names, prefix)
        }
        Form::Torchvision => {
            // It takes neither from a file.
            let refused = |key, value: String, only| {
                SettingError::conflict(key, value, format!("torchvision has {only}"))
            };
            if vit.gelu != Gelu::Erf {
                return Err(refused("model.gelu", vit.gelu.to_string(), "erf").into());
            }
            let eps = vit.layer_norm_eps;
            if eps > 1e-6 {
                return Err(refused("model.layer_norm_eps", eps.to_string(), "1e-6").into());
            }
            ("torchvision", "")
        }
    };
    let dialect = Dialect::named(names).expect("a test reads all dialects");
    let tensors = renamed(dialect, prefix, vit, &parameters)?;
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    weights::write(&folder.join(FILE), tensors.into_iter(), dtype)?;
    for (name, content) in beside {
        write_json(&folder.join(name), &content)?;
    }
    Ok(())
}

/// The parameters under a dialect's names.
fn renamed(
    dialect: &Dialect,
    prefix: &str,
    vit: &VitConfig,
    parameters: &Parameters,
) -> Result<Vec<(String, Tensor)>> {
    let names: Vec<&str> = parameters.named_values().map(|(name, _)| name).collect();
    let mut tensors = Vec::new();
    for group in dialect.groups(&names, prefix) {
        let parts = group.ours.iter().map(|name| parameters.value(parameters.find(name)?));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let mut whole = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        match (group.ours[0].as_str(), dialect.name.as_str()) {
            (_, _) if group.theirs.is_empty() => {
                let reason = format!("{} has no name for `{}`", dialect.name, group.ours[0]);
                return Err(SettingError::conflict("model.family", "vit", reason).into());
            }
            // There the class token has a position, where the registers have none.
            ("pos_embed", "dinov2" | "dinov2-swiglu") if vit.no_embed_class => {
                let zeros = Tensor::zeros(&[1, 1, vit.width], whole.dtype(), whole.device())?;
                whole = Tensor::concat(&[&zeros, &whole], 1)?;
            }
            // An embedding's weight.
            ("pos_embed", "siglip") => whole = whole.reshape(&[vit.patches(), vit.width])?,
            _ => {}
        }
        let rows = whole.shape()[0] / group.theirs.len();
        for (i, name) in group.theirs.into_iter().enumerate() {
            tensors.push((name, whole.narrow(0, i * rows, rows)?.contiguous()?));
        }
    }
    Ok(tensors)
}

fn pretrained_cfg(about: &Description, distilled: bool) -> Result<Value> {
    let mut config = serde_json::to_value(&about.pretrained_cfg).map_err(SettingError::convert)?;
    config["num_classes"] = about.num_classes.into();
    config["fixed_input_size"] = true.into();
    config["first_conv"] = "patch_embed.proj".into();
    config["classifier"] = if distilled { json!(["head", "head_dist"]) } else { json!("head") };
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
