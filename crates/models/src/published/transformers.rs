//! The `config.json` of transformers: ViT, DeiT, Dinov2, DINOv3's ViT, and SigLIP's vision tower.

use serde_json::{Map, Value, json};
use vitrine_nn::MlpLayer;
use vitrine_nn::settings::SettingError;

use super::{Published, check, section, timm, unsupported};
use crate::config::{Gelu, Pool, PosEmbed, RopeType, VitConfig};

/// What holds where a file says nothing: type, width, heads, hidden units (0: four times the width), epsilon, side of a
/// patch, activation.
const DEFAULTS: [(&str, usize, usize, usize, f64, usize, &str); 7] = [
    ("vit", 768, 12, 3072, 1e-12, 16, "gelu"),
    ("deit", 768, 12, 3072, 1e-12, 16, "gelu"),
    ("dinov2", 768, 12, 0, 1e-6, 14, "gelu"),
    ("dinov2_with_registers", 768, 12, 0, 1e-6, 16, "gelu"),
    ("dinov3_vit", 384, 6, 1536, 1e-5, 16, "gelu"),
    ("siglip_vision_model", 768, 12, 3072, 1e-6, 16, "gelu_pytorch_tanh"),
    ("siglip", 768, 12, 3072, 1e-6, 16, "gelu_pytorch_tanh"),
];

/// The object of a file, and the key that is being read.
struct Keys<'a>(&'a Value);

impl Keys<'_> {
    fn get<T>(
        &self,
        key: &str,
        default: T,
        allowed: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, SettingError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => read(value).ok_or_else(|| unsupported(key, value, allowed)),
        }
    }

    fn count(&self, key: &str, default: usize) -> Result<usize, SettingError> {
        self.get(key, default, "a whole number", whole)
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, SettingError> {
        self.get(key, default, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, SettingError> {
        self.get(key, default, "true or false", Value::as_bool)
    }

    fn size(&self, key: &str, default: usize) -> Result<(usize, usize), SettingError> {
        self.get(key, (default, default), "a number, or [height, width]", |value| {
            match value.as_array().map(Vec::as_slice) {
                Some([height, width]) => Some((whole(height)?, whole(width)?)),
                _ => whole(value).map(|side| (side, side)),
            }
        })
    }
}

/// A whole number that TOML has, too.
fn whole(value: &Value) -> Option<usize> {
    value.as_i64()?.try_into().ok()
}

pub(super) fn read(config: &Value) -> Result<Published, SettingError> {
    let kind = config["model_type"].as_str().unwrap_or_default();
    let Some(&(_, width, heads, hidden, eps, patch, activation)) =
        DEFAULTS.iter().find(|(known, ..)| *known == kind)
    else {
        let known: Vec<&str> = DEFAULTS.iter().map(|(known, ..)| *known).collect();
        return Err(unsupported("model_type", &config["model_type"], &known.join(", ")));
    };
    let keys = Keys(match config.get("vision_config") {
        None => config,
        Some(vision) if vision.is_object() => vision,
        Some(other) => return Err(unsupported("vision_config", other, "an object")),
    });
    let class = config["architectures"][0].as_str().unwrap_or_default();
    let has_head = class.contains("ForImageClassification");
    let base = VitConfig::preset("vit-ti-16").expect("a test reads all presets");
    let width = keys.count("hidden_size", width)?;
    let siglip = kind.starts_with("siglip");
    let dinov2 = kind.starts_with("dinov2");
    let dinov3 = kind == "dinov3_vit";
    let (gated, mlp_width) = match dinov2 {
        true => {
            // Beyond its key's range in any case.
            let hidden = (width as f64 * keys.number("mlp_ratio", 4.0)?).min(1e9) as usize;
            let gated = keys.flag("use_swiglu_ffn", false)?;
            (gated, if gated { gated_hidden(hidden) } else { hidden })
        }
        false => (keys.flag("use_gated_mlp", false)?, keys.count("intermediate_size", hidden)?),
    };
    let act = keys.get("hidden_act", activation.to_owned(), "a name", |value| {
        value.as_str().map(str::to_owned)
    })?;
    let gelu = match act.as_str() {
        "gelu" | "gelu_python" => Gelu::Erf,
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_python_tanh" => {
            Gelu::Tanh
        }
        "silu" | "swish" if gated => Gelu::Erf,
        _ => return Err(unsupported("hidden_act", &json!(act), "gelu, or its form with tanh")),
    };
    let refused = [("proj_bias", false), ("mlp_bias", false)]
        .into_iter()
        .find(|(key, _)| keys.0.get(*key) == Some(&Value::Bool(false)));
    if let Some((key, value)) = refused {
        return Err(unsupported(key, &json!(value), "true"));
    }
    if gated && dinov3 && act.starts_with("gelu") {
        return Err(unsupported("hidden_act", &json!(act), "silu with use_gated_mlp"));
    }
    let distilled = kind == "deit" && class.contains("WithTeacher");
    let qkv_bias = keys.flag(if dinov3 { "query_bias" } else { "qkv_bias" }, true)?;
    let model = VitConfig {
        preset: None,
        image_size: keys.size("image_size", 224)?,
        patch_size: keys.size("patch_size", patch)?,
        channels: keys.count("num_channels", 3)?,
        width,
        depth: keys.count("num_hidden_layers", 12)?,
        heads: keys.count("num_attention_heads", heads)?,
        mlp_width,
        mlp_layer: match (gated, dinov3) {
            (false, _) => MlpLayer::Mlp,
            (true, true) => MlpLayer::SwiGlu,
            (true, false) => MlpLayer::SwiGluPacked,
        },
        dropout: keys.number("hidden_dropout_prob", 0.0)?,
        attention_dropout: match dinov3 || siglip {
            true => keys.number("attention_dropout", 0.0)?,
            false => keys.number("attention_probs_dropout_prob", 0.0)?,
        },
        qkv_bias,
        key_bias: !dinov3 || keys.flag("key_bias", false)?,
        gelu,
        layer_norm_eps: keys.number("layer_norm_eps", eps)?,
        init_values: match dinov2 || dinov3 {
            true => Some(keys.number("layerscale_value", 1.0)?),
            false => None,
        },
        distilled,
        // The head of DeiT without its teacher leaves the second token alone.
        reg_tokens: match kind {
            "deit" => usize::from(!distilled),
            "dinov2_with_registers" => keys.count("num_register_tokens", 4)?,
            _ => keys.count("num_register_tokens", 0)?,
        },
        no_embed_class: kind == "dinov2_with_registers",
        pos_embed: if dinov3 { PosEmbed::Off } else { PosEmbed::Learn },
        rope_type: if dinov3 { RopeType::DinoV3 } else { RopeType::Off },
        rope_temperature: keys.number("rope_theta", 100.0)?,
        pool: match (siglip, dinov2 && has_head) {
            (true, _) if has_head => Pool::Mean,
            (true, _) => Pool::Map,
            (false, true) => Pool::ClassTokenAndMean,
            (false, false) => Pool::ClassToken,
        },
        fc_norm: Some(false),
        ..base
    };
    let names = config.get("id2label").map_or(Vec::new(), timm::label_names);
    let classes = config.get("id2label").and_then(Value::as_object).map_or(0, Map::len);
    let classes = if classes == 0 { 2 } else { classes };
    let model = section(model)?;
    Ok(Published { model, classes: has_head.then_some(classes), label_names: names })
}

/// The hidden units of Dinov2's gated MLP, where the plain one has so many.
fn gated_hidden(plain: usize) -> usize {
    ((plain as f64 * 2.0 / 3.0) as usize).div_ceil(8) * 8
}

/// How transformers has a model.
pub struct Written {
    /// `config.json`.
    pub config: Value,
    /// The table of names for its weights.
    pub names: &'static str,
    /// What stands before those.
    pub prefix: &'static str,
}

/// What transformers builds a model by; an error if it has no such model.
pub fn write(config: &VitConfig, labels: &[String]) -> Result<Written, SettingError> {
    let VitConfig { width, mlp_width, pool, mlp_layer, reg_tokens, .. } = *config;
    let (rotary, gated) = (config.rope_type == RopeType::DinoV3, mlp_layer != MlpLayer::Mlp);
    let dinov2 = config.init_values.is_some() && !rotary;
    // A whole number where one will do, as theirs are.
    let ratio = (1..=8).find(|&ratio| match gated {
        true => gated_hidden(ratio * width) == mlp_width,
        false => ratio * width == mlp_width,
    });
    let ratio = ratio
        .map_or(json!(mlp_width as f64 * if gated { 1.5 } else { 1.0 } / width as f64), |n| {
            json!(n)
        });
    let head = pool == Pool::ClassTokenAndMean;
    let (kind, class, names, prefix) = match (pool, reg_tokens) {
        _ if rotary => ("dinov3_vit", "DINOv3ViTModel", "dinov3", ""),
        (_, 0) if dinov2 && head => ("dinov2", "Dinov2ForImageClassification", "dinov2", "dinov2."),
        (_, 0) if dinov2 => ("dinov2", "Dinov2Model", "dinov2", ""),
        _ if dinov2 && head => (
            "dinov2_with_registers",
            "Dinov2WithRegistersForImageClassification",
            "dinov2",
            "dinov2_with_registers.",
        ),
        _ if dinov2 => ("dinov2_with_registers", "Dinov2WithRegistersModel", "dinov2", ""),
        (Pool::Mean, _) => ("siglip", "SiglipForImageClassification", "siglip", "vision_model."),
        (Pool::Map, _) => ("siglip_vision_model", "SiglipVisionModel", "siglip", "vision_model."),
        _ if config.distilled => ("deit", "DeiTForImageClassificationWithTeacher", "deit", "deit."),
        (_, 1) => ("deit", "DeiTForImageClassification", "vit", "deit."),
        _ => ("vit", "ViTForImageClassification", "vit", "vit."),
    };
    let mut keys = json!({
        "model_type": kind,
        "image_size": side(config.image_size),
        "patch_size": side(config.patch_size),
        "num_channels": config.channels,
        "hidden_size": width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "hidden_act": match config.gelu {
            _ if gated && rotary => "silu",
            Gelu::Erf => "gelu",
            Gelu::Tanh => "gelu_pytorch_tanh",
        },
        "layer_norm_eps": config.layer_norm_eps,
    });
    let more = match rotary {
        true => json!({
            "intermediate_size": mlp_width, "use_gated_mlp": gated, "num_register_tokens": reg_tokens,
            "rope_theta": config.rope_temperature, "query_bias": config.qkv_bias,
            "value_bias": config.qkv_bias, "key_bias": config.qkv_bias && config.key_bias,
        }),
        false if dinov2 => json!({
            "mlp_ratio": ratio, "use_swiglu_ffn": gated, "num_register_tokens": reg_tokens,
            "qkv_bias": config.qkv_bias,
        }),
        false => json!({ "intermediate_size": mlp_width, "qkv_bias": config.qkv_bias }),
    };
    let (Value::Object(all), Value::Object(more)) = (&mut keys, more) else {
        unreachable!("both are objects")
    };
    all.extend(more);
    let mut written = match kind {
        "siglip" => {
            keys["model_type"] = "siglip_vision_model".into();
            json!({ "model_type": kind, "vision_config": keys })
        }
        _ => keys,
    };
    let numbered = || labels.iter().enumerate();
    let id2label: Map<_, _> = numbered().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let label2id: Map<_, _> = numbered().map(|(i, name)| (name.clone(), json!(i))).collect();
    written["architectures"] = json!([class]);
    written["id2label"] = id2label.into();
    written["label2id"] = label2id.into();
    let names = if gated && dinov2 { "dinov2-swiglu" } else { names };
    check(config, &written, "transformers").map(|()| Written { config: written, names, prefix })
}

/// The shorter form of a size.
fn side((height, width): (usize, usize)) -> Value {
    if height == width { json!(height) } else { json!([height, width]) }
}
