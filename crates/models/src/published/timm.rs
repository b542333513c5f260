//! timm's `config.json`: an architecture's name, and those of its arguments that are not the architecture's own.

use serde_json::{Map, Value, json};
use vitrine_nn::settings::{self, SettingError};
use vitrine_nn::{MlpLayer, Table};

use super::{Published, absent, check, convert, section, unsupported};
use crate::config::{RopeType, VitConfig};
use crate::registry::ModelConfig;

/// Arguments of timm's classes that are keys here, by other names or the same, and the classes that they are written
/// for: `v` for VisionTransformer, `d` for that with a second head, `e` for Eva, `s` for SwinTransformer, `r` for
/// ResNet.
const ARGUMENTS: [(&str, &str, &str); 24] = [
    ("img_size", "image_size", "vdes"),
    ("patch_size", "patch_size", "vdes"),
    ("window_size", "window_size", "s"),
    ("in_chans", "channels", "vdesr"),
    ("embed_dim", "width", "vdes"),
    ("depth", "depth", "vde"),
    ("depths", "depths", "s"),
    ("layers", "layers", "r"),
    ("num_heads", "heads", "vdes"),
    ("mlp_ratio", "mlp_ratio", "s"),
    ("qkv_bias", "qkv_bias", "vdes"),
    ("qk_norm", "qk_norm", "vde"),
    ("init_values", "init_values", "vde"),
    ("class_token", "class_token", "ve"),
    ("reg_tokens", "reg_tokens", "v"),
    ("num_reg_tokens", "reg_tokens", "e"),
    ("no_embed_class", "no_embed_class", "vde"),
    ("dynamic_img_size", "dynamic_img_size", "vde"),
    ("fc_norm", "fc_norm", "v"),
    ("use_fc_norm", "fc_norm", "e"),
    ("rope_temperature", "rope_temperature", "e"),
    ("pos_drop_rate", "embedding_dropout", ""),
    ("proj_drop_rate", "dropout", ""),
    ("attn_drop_rate", "attention_dropout", ""),
];

/// Values of arguments; what they are here, a key and its value, or nothing that needs to be said; and the classes that
/// they are written for.
const VALUES: [(&str, &str, &str, &str); 25] = [
    ("global_pool", r#""token""#, r#"pool = "class-token""#, "vde"),
    ("global_pool", r#""avg""#, r#"pool = "mean""#, "vde"),
    ("global_pool", r#""map""#, r#"pool = "map""#, "vde"),
    ("act_layer", r#""gelu""#, r#"gelu = "erf""#, "vd"),
    ("act_layer", r#""gelu_tanh""#, r#"gelu = "tanh""#, "vd"),
    ("pos_embed", r#""learn""#, r#"pos_embed = "learn""#, "v"),
    ("pos_embed", r#""none""#, r#"pos_embed = "none""#, "v"),
    ("use_abs_pos_emb", "true", r#"pos_embed = "learn""#, "e"),
    ("use_abs_pos_emb", "false", r#"pos_embed = "none""#, "e"),
    ("rope_type", r#""dinov3""#, r#"rope_type = "dinov3""#, "e"),
    ("swiglu_mlp", "true", r#"mlp_layer = "swiglu""#, "e"),
    ("swiglu_mlp", "false", r#"mlp_layer = "mlp""#, "e"),
    ("swiglu_align_to", "1", "", "e"),
    ("norm_layer", r#""layernorm""#, "layer_norm_eps = 1e-6", ""),
    ("proj_bias", "true", "", ""),
    ("pre_norm", "false", "", ""),
    ("final_norm", "true", "", ""),
    ("use_rot_pos_emb", "true", "", "e"),
    ("rope_rotate_half", "true", "", "e"),
    ("rope_grid_indexing", r#""ij""#, "", ""),
    ("rope_grid_offset", "0.0", "", ""),
    ("dynamic_img_size", "false", "", "e"),
    ("scale_attn_norm", "false", "", ""),
    ("scale_mlp_norm", "false", "", ""),
    ("pool_include_prefix", "false", "", ""),
];

/// Arguments that change no logits, or that are read by themselves.
const OTHERS: [&str; 11] = [
    "num_classes",
    "mlp_ratio",
    "swiglu_align_to",
    "dynamic_img_size",
    "strict_img_size",
    "drop_rate",
    "drop_path_rate",
    "patch_drop_rate",
    "weight_init",
    "fix_init",
    "head_init_scale",
];

/// Architectures that are no presets, as they stand for models that this program does not have: with arguments they are
/// timm's only way to say something. The argument that must be there, and what they are with it.
const CARRIERS: [(&str, (&str, &str), &str, f64); 2] = [
    (EPS_5, ("pre_norm", "false"), "vit_base_patch16_224", 1e-5),
    (ROPE_EPS_6, ("rope_type", r#""dinov3""#), "vit_base_patch16_dinov3", 1e-6),
];
const EPS_5: &str = "vit_base_patch16_clip_224";
const ROPE_EPS_6: &str = "vit_medium_patch16_rope_reg1_gap_256";

/// Reads timm's form: that of today, and the older one, which has all in one object.
pub(super) fn read(config: &Value) -> Result<Published, SettingError> {
    let image = config.get("pretrained_cfg").unwrap_or(config);
    let none = Value::Null;
    let architecture = config.get("architecture").unwrap_or(&none);
    // What follows a dot names the weights.
    let name = architecture.as_str().and_then(|name| name.split('.').next()).unwrap_or_default();
    let empty = Map::new();
    let arguments = match config.get("model_args") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(arguments)) => arguments,
        Some(other) => return Err(unsupported("model_args", other, "an object")),
    };
    let carrier = CARRIERS.iter().find(|(known, (key, value), ..)| {
        *known == name && arguments.get(*key).map(Value::to_string).as_deref() == Some(*value)
    });
    let preset = carrier.map_or(name, |(_, _, preset, _)| preset);
    let Some(known) = ModelConfig::preset(preset).filter(|_| is_timms(preset)) else {
        let allowed = "one of timm's names among the presets in docs/weights.md";
        return Err(unsupported("architecture", architecture, allowed));
    };
    let mut model = section(&known)?;
    model.remove("channels");
    if let Some(known) = known.vit() {
        if known.rope_type == RopeType::DinoV3 {
            model.insert("key_bias".into(), false.into());
        }
        // Another pooling leaves it where it is.
        model.insert("class_token".into(), known.has_class_token().into());
    }
    if let Some((.., eps)) = carrier {
        model.remove("preset");
        model.insert("layer_norm_eps".into(), (*eps).into());
    }
    if let Some(size) = image.get("input_size").filter(|size| !size.is_null()) {
        let Some([channels, height, width]) = size.as_array().map(Vec::as_slice) else {
            return Err(unsupported("input_size", size, "[channels, height, width]"));
        };
        model.insert("channels".into(), convert("input_size", channels)?);
        model.insert("image_size".into(), convert("input_size", &json!([height, width]))?);
    }
    for (argument, value) in arguments {
        let text = value.to_string();
        let chosen = VALUES.iter().find(|(name, value, ..)| name == argument && *value == text);
        let key = ARGUMENTS.iter().find(|(name, key, _)| name == argument && known.has_key(key));
        if known.vit().is_none() && (argument == "global_pool" && text == r#""avg""#) {
            // They have no other.
        } else if let (Some((_, _, setting, _)), Some(_)) = (chosen, known.vit()) {
            model.extend(table(setting)?);
        } else if let Some((_, key, _)) = key {
            match value {
                Value::Null => drop(model.remove(*key)),
                value => drop(model.insert((*key).into(), convert(argument, value)?)),
            }
        } else if !OTHERS.contains(&argument.as_str()) && !value.is_null() {
            let allowed = "an argument that Vitrine has a model for";
            return Err(unsupported(&format!("model_args.{argument}"), value, allowed));
        }
    }
    let ratio = arguments.get("mlp_ratio").filter(|ratio| !ratio.is_null());
    if let (Some(known), Some(width)) =
        (known.vit(), model.get("width").and_then(toml::Value::as_integer))
        && (ratio.is_some() || width as usize != known.width)
    {
        let hidden = match ratio {
            Some(ratio) => {
                let number =
                    ratio.as_f64().ok_or_else(|| unsupported("mlp_ratio", ratio, "a number"))?;
                let halves = known.mlp_layer == MlpLayer::SwiGluPacked;
                (width as f64 * number) as i64 / if halves { 2 } else { 1 }
            }
            None => (width as f64 * known.mlp_width as f64 / known.width as f64) as i64,
        };
        // Beyond its key's range in any case.
        let hidden = hidden.clamp(-1 << 32, 1 << 32);
        let gated = model.get("mlp_layer").and_then(toml::Value::as_str) == Some("swiglu");
        let align = arguments.get("swiglu_align_to").filter(|_| gated).and_then(Value::as_i64);
        let align = align.unwrap_or(0).clamp(1, 1 << 32);
        model.insert("mlp_width".into(), (hidden + (-hidden).rem_euclid(align)).into());
    }
    let classes =
        [arguments.get("num_classes"), config.get("num_classes"), image.get("num_classes")];
    let classes = match classes.into_iter().flatten().find(|classes| !classes.is_null()) {
        None => 1000,
        Some(classes) => {
            classes.as_u64().ok_or_else(|| unsupported("num_classes", classes, "a whole number"))?
                as usize
        }
    };
    let names = [config.get("label_names"), image.get("label_names"), config.get("labels")];
    Ok(Published {
        model,
        classes: (classes > 0).then_some(classes),
        label_names: names.into_iter().flatten().next().map_or(Vec::new(), label_names),
    })
}

/// Whether a preset's name is timm's for the same model.
fn is_timms(preset: &str) -> bool {
    !preset.contains('-') && !["d2l", "cct", "cvt"].iter().any(|own| preset.starts_with(own))
}

pub(super) fn table(setting: &str) -> Result<Table, SettingError> {
    setting.parse().map_err(SettingError::convert)
}

/// Names in a list, or by their numbers; none unless there are all.
pub(super) fn label_names(names: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match names {
        Value::Array(list) => list.iter().map(text).collect(),
        Value::Object(map) => (0..map.len()).map(|i| text(map.get(&i.to_string())?)).collect(),
        _ => None,
    }
    .unwrap_or_default()
}

/// The architecture and arguments by which timm builds a model; an error if it has no such model. One without a bias of
/// the attention's projection is to be given zeros before: timm leaves those of the MLP out with it.
pub fn write(config: &ModelConfig) -> Result<Value, SettingError> {
    let ours = config.table()?;
    let (preset, class, features) = match config {
        ModelConfig::Vit(config) => return write_vit(config),
        ModelConfig::Cct(_) => return Err(absent(config, "timm")?),
        ModelConfig::Swin(swin) => (&swin.preset, 's', swin.width << (swin.depths.len() - 1)),
        ModelConfig::Resnet(resnet) => {
            (&resnet.preset, 'r', resnet.outputs().last().copied().unwrap_or(0))
        }
    };
    let named = preset.as_deref().filter(|name| is_timms(name));
    let basic = ours.get("block").and_then(toml::Value::as_str) == Some("basic");
    let architecture = named.unwrap_or(match (class, basic) {
        ('s', _) => "swin_tiny_patch4_window7_224",
        (_, true) => "resnet18",
        (_, false) => "resnet50",
    });
    let mut arguments = json!({ "num_classes": config.classes() });
    for (argument, key, classes) in ARGUMENTS {
        if classes.contains(class) {
            arguments[argument] = json!(ours.get(key));
        }
    }
    written(config, architecture, features, arguments)
}

fn write_vit(config: &VitConfig) -> Result<Value, SettingError> {
    let VitConfig { layer_norm_eps: eps, distilled, mlp_layer, rope_type, .. } = *config;
    let (rotary, packed) = (rope_type == RopeType::DinoV3, mlp_layer == MlpLayer::SwiGluPacked);
    // The preset's own name, if what has no argument is the same; else one that has it.
    let named = config.preset.as_deref().filter(|name| name.contains('_')).filter(|name| {
        VitConfig::preset(name).is_some_and(|preset| {
            (preset.layer_norm_eps == eps && preset.rope_type == rope_type)
                && (preset.distilled == distilled && (preset.mlp_layer == mlp_layer || rotary))
        })
    });
    let architecture = named.unwrap_or(match (rotary, eps == 1e-5) {
        (true, true) => "vit_base_patch16_dinov3",
        (true, false) => ROPE_EPS_6,
        (false, _) if distilled => "deit_base_distilled_patch16_224",
        (false, _) if packed => "vit_giant_patch14_dinov2",
        (false, true) => EPS_5,
        (false, false) => "vit_base_patch16_224",
    });
    let hidden = if packed { 2 * config.mlp_width } else { config.mlp_width };
    let ratio = hidden as f64 / config.width as f64;
    // timm cuts off what is behind the point.
    let whole = (config.width as f64 * ratio) as usize == hidden;
    let class = match (rotary, distilled) {
        (true, _) => 'e',
        (false, true) => 'd',
        (false, false) => 'v',
    };
    let (class_token, fc_norm) = (Some(config.has_class_token()), Some(config.has_fc_norm()));
    let ours = settings::table(&VitConfig { class_token, fc_norm, ..config.clone() })?;
    let mut arguments = json!({
        "num_classes": config.classes,
        "mlp_ratio": if whole { ratio } else { ratio.next_up() },
    });
    for (argument, key, classes) in ARGUMENTS {
        if classes.contains(class) {
            arguments[argument] = json!(ours.get(key));
        }
    }
    for (argument, value, setting, classes) in VALUES {
        let same = table(setting)?.iter().all(|(key, value)| ours.get(key) == Some(value));
        // Packed units have their own.
        let other = packed && argument == "act_layer";
        if classes.contains(class) && same && !other {
            arguments[argument] = value.parse().map_err(SettingError::convert)?;
        }
    }
    for (argument, (height, width)) in
        [("img_size", config.image_size), ("patch_size", config.patch_size)]
    {
        arguments[argument] = json!([height, width]);
    }
    if architecture == EPS_5 {
        arguments["pre_norm"] = false.into();
    }
    written(&ModelConfig::Vit(config.clone()), architecture, config.width, arguments)
}

fn written(
    config: &ModelConfig,
    architecture: &str,
    features: usize,
    arguments: Value,
) -> Result<Value, SettingError> {
    let written = json!({
        "architecture": architecture,
        "num_classes": config.classes(),
        "num_features": features,
        "model_args": arguments,
    });
    check(config, &written, "timm").map(|()| written)
}
