//! The `config.json` of transformers: ViT, DeiT, Dinov2, DINOv3's ViT, and SigLIP's vision tower.

use serde_json::{Map, Value, json};
use vitrine_nn::settings::{SettingError, size};
use vitrine_nn::{MlpLayer, Table};

use super::timm::{label_names, table};
use super::{Published, absent, check, convert, section, unsupported};
use crate::config::{Gelu, Pool, RopeType, VitConfig};
use crate::registry::ModelConfig;

/// The types of models, and what holds for them where a file says nothing, beside what [`COMMON`] says.
const TYPES: [(&str, &str); 7] = [
    ("vit", "layer_norm_eps = 1e-12"),
    ("deit", "layer_norm_eps = 1e-12"),
    ("dinov2", "patch_size = 14\ninit_values = 1.0"),
    ("dinov2_with_registers", "init_values = 1.0\nno_embed_class = true\nreg_tokens = 4"),
    (
        "dinov3_vit",
        "width = 384\nheads = 6\nmlp_width = 1536\nlayer_norm_eps = 1e-5\ninit_values = 1.0\nkey_bias = false\n\
         pos_embed = \"none\"\nrope_type = \"dinov3\"",
    ),
    ("siglip_vision_model", ""),
    ("siglip", ""),
];
const COMMON: &str = "channels = 3\nwidth = 768\nheads = 12\nmlp_width = 3072\nfc_norm = false";

/// Keys of theirs, and ours.
const KEYS: [(&str, &str); 17] = [
    ("image_size", "image_size"),
    ("patch_size", "patch_size"),
    ("num_channels", "channels"),
    ("hidden_size", "width"),
    ("num_hidden_layers", "depth"),
    ("num_attention_heads", "heads"),
    ("intermediate_size", "mlp_width"),
    ("hidden_dropout_prob", "dropout"),
    ("attention_probs_dropout_prob", "attention_dropout"),
    ("attention_dropout", "attention_dropout"),
    ("qkv_bias", "qkv_bias"),
    ("query_bias", "qkv_bias"),
    ("key_bias", "key_bias"),
    ("layer_norm_eps", "layer_norm_eps"),
    ("layerscale_value", "init_values"),
    ("num_register_tokens", "reg_tokens"),
    ("rope_theta", "rope_temperature"),
];

pub(super) fn read(config: &Value) -> Result<Published, SettingError> {
    let kind = config["model_type"].as_str().unwrap_or_default();
    if let Some(family) = FAMILIES.iter().find(|family| family.kind == kind) {
        return family.read(config);
    }
    let Some((_, defaults)) = TYPES.iter().find(|(known, _)| *known == kind) else {
        let families = FAMILIES.iter().map(|family| family.kind);
        let known: Vec<&str> = TYPES.iter().map(|(known, _)| *known).chain(families).collect();
        let known = known.join(", ");
        return Err(unsupported("model_type", &config["model_type"], &known));
    };
    let keys = match config.get("vision_config") {
        None => config,
        Some(vision) if vision.is_object() => vision,
        Some(other) => return Err(unsupported("vision_config", other, "an object")),
    };
    let stated = |key: &str| keys.get(key).filter(|value| !value.is_null());
    let flag = |key: &str| match stated(key) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| unsupported(key, value, "true or false")),
    };
    let class = config["architectures"][0].as_str().unwrap_or_default();
    let has_head = class.contains("ForImageClassification");
    let [siglip, dinov2, dinov3] =
        ["siglip", "dinov2", "dinov3"].map(|start| kind.starts_with(start));

    let mut model = section(&ModelConfig::preset("vit-ti-16").expect("a test reads all presets"))?;
    model.remove("preset");
    model.extend(table(COMMON)?.into_iter().chain(table(defaults)?));
    for (theirs, ours) in KEYS {
        if let Some(value) = stated(theirs) {
            model.insert(ours.into(), convert(theirs, value)?);
        }
    }
    let gated = flag(if dinov2 { "use_swiglu_ffn" } else { "use_gated_mlp" })?;
    let mlp_layer = match (gated, dinov3) {
        (false, _) => MlpLayer::Mlp,
        (true, true) => MlpLayer::SwiGlu,
        (true, false) => MlpLayer::SwiGluPacked,
    };
    if let (true, Some(width)) = (dinov2, model["width"].as_integer()) {
        let ratio = stated("mlp_ratio").map_or(Some(4.0), Value::as_f64);
        let ratio =
            ratio.ok_or_else(|| unsupported("mlp_ratio", &keys["mlp_ratio"], "a number"))?;
        // Beyond its key's range in any case.
        let hidden = (width as f64 * ratio).min(1e9) as usize;
        let hidden = if gated { gated_hidden(hidden) } else { hidden };
        model.insert("mlp_width".into(), (hidden as i64).into());
    }
    let act = json!(if siglip { "gelu_pytorch_tanh" } else { "gelu" });
    let act = stated("hidden_act").unwrap_or(&act);
    let gelu = match act.as_str().unwrap_or_default() {
        "silu" | "swish" if gated => Gelu::Erf,
        _ if gated && dinov3 => {
            return Err(unsupported("hidden_act", act, "silu with use_gated_mlp"));
        }
        "gelu" | "gelu_python" => Gelu::Erf,
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_python_tanh" => {
            Gelu::Tanh
        }
        _ => return Err(unsupported("hidden_act", act, "gelu, or its form with tanh")),
    };
    for key in ["proj_bias", "mlp_bias"] {
        if keys.get(key) == Some(&Value::Bool(false)) {
            return Err(unsupported(key, &keys[key], "true"));
        }
    }
    let distilled = kind == "deit" && class.contains("WithTeacher");
    if kind == "deit" && !distilled {
        // The head of DeiT without its teacher leaves the second token alone.
        model.insert("reg_tokens".into(), 1.into());
    }
    let pool = match (siglip, has_head) {
        (true, true) => Pool::Mean,
        (true, false) => Pool::Map,
        (false, true) if dinov2 => Pool::ClassTokenAndMean,
        (false, _) => Pool::ClassToken,
    };
    model.insert("distilled".into(), distilled.into());
    for (key, name) in
        [("mlp_layer", mlp_layer.name()), ("gelu", gelu.name()), ("pool", pool.name())]
    {
        model.insert(key.into(), name.into());
    }
    Ok(published(config, model, has_head))
}

/// The model with the classes that a file names.
fn published(config: &Value, model: Table, has_head: bool) -> Published {
    let label_names = config.get("id2label").map_or(Vec::new(), label_names);
    let classes = config.get("id2label").and_then(Value::as_object).map_or(0, Map::len);
    let classes = if classes == 0 { 2 } else { classes };
    Published { model, classes: has_head.then_some(classes), label_names }
}

/// A type of models that is a family here.
struct Family {
    kind: &'static str,
    class: &'static str,
    /// The table of names, and what stands before them.
    names: (&'static str, &'static str),
    /// A preset, and what holds beside it where a file says nothing.
    base: (&'static str, &'static str),
    /// Keys of theirs, and ours.
    keys: &'static [(&'static str, &'static str)],
    /// Keys of theirs, and the only value that there is a model for.
    only: &'static [(&'static str, &'static str)],
}

const FAMILIES: [Family; 2] = [
    Family {
        kind: "swin",
        class: "SwinForImageClassification",
        names: ("swin", "swin."),
        base: ("swin_tiny_patch4_window7_224", "channels = 3"),
        keys: &[
            ("image_size", "image_size"),
            ("patch_size", "patch_size"),
            ("window_size", "window_size"),
            ("num_channels", "channels"),
            ("embed_dim", "width"),
            ("depths", "depths"),
            ("num_heads", "heads"),
            ("mlp_ratio", "mlp_ratio"),
            ("qkv_bias", "qkv_bias"),
            ("hidden_dropout_prob", "dropout"),
            ("attention_probs_dropout_prob", "attention_dropout"),
            ("layer_norm_eps", "layer_norm_eps"),
        ],
        only: &[("hidden_act", r#""gelu""#), ("use_absolute_embeddings", "false")],
    },
    Family {
        kind: "resnet",
        class: "ResNetForImageClassification",
        names: ("resnet", "resnet."),
        base: ("resnet50", "channels = 3"),
        keys: &[
            ("num_channels", "channels"),
            ("embedding_size", "width"),
            ("depths", "layers"),
            ("layer_type", "block"),
        ],
        only: &[
            ("hidden_act", r#""relu""#),
            ("downsample_in_first_stage", "false"),
            ("downsample_in_bottleneck", "false"),
        ],
    },
];

impl Family {
    fn read(&self, config: &Value) -> Result<Published, SettingError> {
        let stated = |key: &str| config.get(key).filter(|value| !value.is_null());
        let (preset, defaults) = self.base;
        let mut model = section(&ModelConfig::preset(preset).expect("a test reads all presets"))?;
        model.remove("preset");
        model.extend(table(defaults)?);
        for (theirs, ours) in self.keys {
            if let Some(value) = stated(theirs) {
                model.insert((*ours).into(), convert(theirs, value)?);
            }
        }
        for (key, only) in self.only {
            if let Some(value) =
                stated(key).filter(|value| only.parse::<Value>().ok().as_ref() != Some(*value))
            {
                return Err(unsupported(key, value, only));
            }
        }
        if let (true, Some(sizes)) = (self.kind == "resnet", stated("hidden_sizes")) {
            let found = ModelConfig::read(with_classes(&model), "config.json")?;
            let ModelConfig::Resnet(found) = &found else { unreachable!("its base is one") };
            let ours = json!(found.outputs());
            if *sizes != ours {
                return Err(unsupported("hidden_sizes", sizes, &ours.to_string()));
            }
        }
        let class = config["architectures"][0].as_str().unwrap_or_default();
        Ok(published(config, model, class.contains("ForImageClassification")))
    }

    fn write(&self, config: &ModelConfig, labels: &[String]) -> Result<Written, SettingError> {
        let ours = config.table()?;
        let mut keys = json!({ "model_type": self.kind, "architectures": [self.class] });
        for (theirs, ours_key) in self.keys {
            keys[theirs] = json!(ours.get(*ours_key));
        }
        for (key, only) in self.only {
            keys[key] = only.parse().map_err(SettingError::convert)?;
        }
        if let ModelConfig::Resnet(resnet) = config {
            keys["hidden_sizes"] = json!(resnet.outputs());
        }
        label(&mut keys, labels);
        check(config, &keys, "transformers").map(|()| (keys, self.names.0, self.names.1))
    }
}

fn with_classes(model: &Table) -> Table {
    let mut model = model.clone();
    model.insert("classes".into(), 2.into());
    model
}

/// The hidden units of Dinov2's gated MLP, where the plain one has so many.
fn gated_hidden(plain: usize) -> usize {
    ((plain as f64 * 2.0 / 3.0) as usize).div_ceil(8) * 8
}

/// The `config.json` by which transformers builds a model, the table of names for its weights, and what stands before
/// those; an error if it has no such model.
pub fn write(config: &ModelConfig, labels: &[String]) -> Result<Written, SettingError> {
    let family = |kind| FAMILIES.iter().find(|family| family.kind == kind);
    let family = match config {
        ModelConfig::Vit(vit) => return write_vit(vit, labels),
        ModelConfig::Swin(_) => family("swin"),
        ModelConfig::Resnet(_) => family("resnet"),
        ModelConfig::Cct(_) => None,
    };
    match family {
        Some(family) => family.write(config, labels),
        None => Err(absent(config, "transformers")?),
    }
}

/// A `config.json`, the table of names for the weights, and what stands before those.
type Written = (Value, &'static str, &'static str);

/// The classes' names and numbers.
fn label(written: &mut Value, labels: &[String]) {
    let numbered = || labels.iter().enumerate();
    let id2label: Map<_, _> = numbered().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let label2id: Map<_, _> = numbered().map(|(i, name)| (name.clone(), json!(i))).collect();
    written["id2label"] = id2label.into();
    written["label2id"] = label2id.into();
}

fn write_vit(config: &VitConfig, labels: &[String]) -> Result<Written, SettingError> {
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
    let side =
        |size| size::serialize(&size, serde_json::value::Serializer).map_err(SettingError::convert);
    let mut keys = json!({
        "model_type": kind,
        "image_size": side(config.image_size)?,
        "patch_size": side(config.patch_size)?,
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
    for (key, value) in more.as_object().into_iter().flatten() {
        keys[key] = value.clone();
    }
    let mut written = match kind {
        "siglip" => {
            keys["model_type"] = "siglip_vision_model".into();
            json!({ "model_type": kind, "vision_config": keys })
        }
        _ => keys,
    };
    written["architectures"] = json!([class]);
    label(&mut written, labels);
    let names = if gated && dinov2 { "dinov2-swiglu" } else { names };
    let model = ModelConfig::Vit(config.clone());
    check(&model, &written, "transformers").map(|()| (written, names, prefix))
}
