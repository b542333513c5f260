//! What the `config.json` beside published weights says of a model, in timm's form and in that of transformers, and the
//! same written. What becomes of pictures stands in such files too, but is the trainer's business.

pub mod timm;
pub mod transformers;

use serde_json::Value;
use vitrine_nn::settings::{self, SettingError};
use vitrine_nn::{MlpLayer, Table};

use crate::config::{Pool, PosEmbed, RopeType, VitConfig};
use crate::registry::ModelConfig;

/// A model by somebody's `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Section `[model]`, without the classes.
    pub model: Table,
    /// The number of classes; `None` if there is no head.
    pub classes: Option<usize>,
    /// What the classes are called, if the file says so.
    pub label_names: Vec<String>,
}

/// Reads a `config.json`; `None` if it is of neither form.
pub fn read(config: &Value) -> Result<Option<Published>, SettingError> {
    match (config.get("architecture"), config.get("model_type")) {
        (Some(_), _) => timm::read(config).map(Some),
        (None, Some(_)) => transformers::read(config).map(Some),
        (None, None) => Ok(None),
    }
}

/// Section `[model]` for a configuration, without what is no business of the one who wrote the weights, and without
/// what is said of pictures in another place.
fn section(config: &ModelConfig) -> Result<Table, SettingError> {
    let mut model = config.table()?;
    for open in
        ["classes", "last_block_saving", "recompute", "lora_rank", "lora_alpha", "mean", "std"]
    {
        model.remove(open);
    }
    Ok(model)
}

/// Where a value was given.
const ORIGIN: &str = "config.json beside the weights";

/// A value that this program has no model for.
fn unsupported(key: &str, value: &Value, allowed: &str) -> SettingError {
    SettingError::value(ORIGIN, key, value, allowed.to_owned())
}

/// A value that TOML has, too.
fn convert(key: &str, value: &Value) -> Result<toml::Value, SettingError> {
    let allowed = "without null, and with no number over 2⁶³";
    toml::Value::try_from(value).map_err(|_| unsupported(key, value, allowed))
}

/// Whether what was written stands for the model: it is read again. If not, the form has no place for some key's value.
fn check(config: &ModelConfig, written: &Value, form: &str) -> Result<(), SettingError> {
    let mut model = read(written)?.map(|published| published.model).unwrap_or_default();
    model.insert("classes".into(), (config.classes() as i64).into());
    let [ours, theirs] = [decisive(config)?, decisive(&ModelConfig::read(model, form)?)?];
    match crate::keys().find(|key| ours.get(key.leaf()) != theirs.get(key.leaf())) {
        None => Ok(()),
        Some(key) => {
            let value = ours.get(key.leaf()).map_or("not set".to_owned(), ToString::to_string);
            Err(SettingError::conflict(key.name, value, format!("{form} has no such model")))
        }
    }
}

/// That a form has no such model.
fn absent(config: &ModelConfig, form: &str) -> Result<SettingError, SettingError> {
    let family =
        config.table()?.remove("family").map_or(String::new(), |family| family.to_string());
    Ok(SettingError::conflict("model.family", family, format!("{form} has no such model")))
}

/// The same function of pictures, as far as a form must say it: what follows is stated, and what has no effect is left
/// at one value.
fn decisive(config: &ModelConfig) -> Result<Table, SettingError> {
    let mut table = match config {
        ModelConfig::Vit(config) => settings::table(&decisive_of_vit(config))?,
        other => other.table()?,
    };
    // How weights began, what becomes of pictures in another place, and how it is computed.
    for key in [
        "preset",
        "init",
        "zero_init_last",
        "mean",
        "std",
        "dropout",
        "attention_dropout",
        "embedding_dropout",
        "drop_path",
        "recompute",
    ] {
        table.remove(key);
    }
    if let ModelConfig::Resnet(_) = config {
        // It takes any.
        table.remove("image_size");
    }
    Ok(table)
}

fn decisive_of_vit(config: &VitConfig) -> VitConfig {
    let plain = VitConfig::preset("vit-ti-16").expect("a test reads all presets");
    let gated = config.mlp_layer != MlpLayer::Mlp;
    VitConfig {
        class_token: Some(config.has_class_token()),
        fc_norm: Some(config.has_fc_norm()),
        // How weights began. With zeros, what is smaller than timm's is as good.
        init_values: config.init_values.map(|_| 1.0),
        layer_norm_eps: config.layer_norm_eps.max(1e-6),
        gelu: if gated && config.pool != Pool::Map { plain.gelu } else { config.gelu },
        key_bias: config.key_bias || !config.qkv_bias,
        no_embed_class: config.no_embed_class && config.pos_embed == PosEmbed::Learn,
        rope_temperature: match config.rope_type {
            RopeType::Off => plain.rope_temperature,
            RopeType::DinoV3 => config.rope_temperature,
        },
        lora_alpha: plain.lora_alpha,
        last_block_saving: plain.last_block_saving,
        dynamic_img_size: plain.dynamic_img_size,
        ..config.clone()
    }
}
