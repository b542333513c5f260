//! timm's `config.json`: an architecture's name, and those of its arguments that are not the architecture's own.

use serde_json::{Map, Value, json};
use vitrine_nn::settings::SettingError;
use vitrine_nn::{MlpLayer, Table};

use super::{Published, check, convert, section, unsupported};
use crate::config::{Gelu, PosEmbed, RopeType, VitConfig};
use crate::registry::ModelConfig;

/// Arguments of timm's classes that are keys here, by other names or the same.
const ARGUMENTS: [(&str, &str); 19] = [
    ("img_size", "image_size"),
    ("patch_size", "patch_size"),
    ("in_chans", "channels"),
    ("embed_dim", "width"),
    ("depth", "depth"),
    ("num_heads", "heads"),
    ("qkv_bias", "qkv_bias"),
    ("qk_norm", "qk_norm"),
    ("init_values", "init_values"),
    ("class_token", "class_token"),
    ("reg_tokens", "reg_tokens"),
    ("num_reg_tokens", "reg_tokens"),
    ("no_embed_class", "no_embed_class"),
    ("fc_norm", "fc_norm"),
    ("use_fc_norm", "fc_norm"),
    ("rope_temperature", "rope_temperature"),
    ("pos_drop_rate", "embedding_dropout"),
    ("proj_drop_rate", "dropout"),
    ("attn_drop_rate", "attention_dropout"),
];

/// Values of arguments, and what they are here: a key and its value, or nothing that needs to be said.
const VALUES: [(&str, &str, &str); 23] = [
    ("global_pool", r#""token""#, r#"pool = "class-token""#),
    ("global_pool", r#""avg""#, r#"pool = "mean""#),
    ("global_pool", r#""map""#, r#"pool = "map""#),
    ("act_layer", r#""gelu""#, r#"gelu = "erf""#),
    ("act_layer", r#""gelu_tanh""#, r#"gelu = "tanh""#),
    ("pos_embed", r#""learn""#, r#"pos_embed = "learn""#),
    ("pos_embed", r#""none""#, r#"pos_embed = "none""#),
    ("use_abs_pos_emb", "true", r#"pos_embed = "learn""#),
    ("use_abs_pos_emb", "false", r#"pos_embed = "none""#),
    ("rope_type", r#""dinov3""#, r#"rope_type = "dinov3""#),
    ("swiglu_mlp", "true", r#"mlp_layer = "swiglu""#),
    ("swiglu_mlp", "false", r#"mlp_layer = "mlp""#),
    ("norm_layer", r#""layernorm""#, "layer_norm_eps = 1e-6"),
    ("proj_bias", "true", ""),
    ("pre_norm", "false", ""),
    ("final_norm", "true", ""),
    ("use_rot_pos_emb", "true", ""),
    ("rope_rotate_half", "true", ""),
    ("rope_grid_indexing", r#""ij""#, ""),
    ("rope_grid_offset", "0.0", ""),
    ("scale_attn_norm", "false", ""),
    ("scale_mlp_norm", "false", ""),
    ("pool_include_prefix", "false", ""),
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
    let Some(ModelConfig::Vit(known)) =
        ModelConfig::preset(preset).filter(|_| preset.contains('_'))
    else {
        let allowed = "one of timm's names among the presets in docs/weights.md";
        return Err(unsupported("architecture", architecture, allowed));
    };
    let mut model = section(known.clone())?;
    model.remove("channels");
    if known.rope_type == RopeType::DinoV3 {
        model.insert("key_bias".into(), false.into());
    }
    // Another pooling leaves it where it is.
    model.insert("class_token".into(), known.has_class_token().into());
    if let Some((.., eps)) = carrier {
        model.remove("preset");
        model.insert("layer_norm_eps".into(), (*eps).into());
    }
    match image.get("input_size").map(|size| (size, size.as_array().map(Vec::as_slice))) {
        None | Some((Value::Null, _)) => {}
        Some((size, Some([channels, _, _]))) => {
            model.insert("channels".into(), convert("input_size", channels)?);
            let sides = size.as_array().map_or(Vec::new(), |all| all[1..].to_vec());
            model.insert("image_size".into(), convert("input_size", &sides.into())?);
        }
        Some((size, _)) => {
            return Err(unsupported("input_size", size, "[channels, height, width]"));
        }
    }
    for (argument, value) in arguments {
        let text = value.to_string();
        let chosen = VALUES.iter().find(|(name, value, _)| name == argument && *value == text);
        if let Some((.., setting)) = chosen {
            model.extend(setting.parse::<Table>().map_err(SettingError::convert)?);
        } else if let Some((_, key)) = ARGUMENTS.iter().find(|(name, _)| name == argument) {
            match value {
                Value::Null => drop(model.remove(*key)),
                value => drop(model.insert((*key).into(), convert(argument, value)?)),
            }
        } else if !OTHERS.contains(&argument.as_str()) && !value.is_null() {
            let allowed = "an argument that Vitrine has a model for";
            return Err(unsupported(&format!("model_args.{argument}"), value, allowed));
        }
    }
    let (halves, given) = (known.mlp_layer == MlpLayer::SwiGluPacked, arguments.get("mlp_ratio"));
    if let Some(width) = model.get("width").and_then(toml::Value::as_integer)
        && (given.is_some() || width as usize != known.width)
    {
        let own = known.mlp_width as f64 / known.width as f64 * if halves { 2.0 } else { 1.0 };
        let ratio = match given {
            Some(given) if !given.is_null() => {
                given.as_f64().ok_or_else(|| unsupported("mlp_ratio", given, "a number"))?
            }
            _ => own,
        };
        let hidden = (width as f64 * ratio) as i64 / if halves { 2 } else { 1 };
        // Beyond its key's range in any case.
        let hidden = hidden.clamp(-1 << 32, 1 << 32);
        let align =
            arguments.get("swiglu_align_to").and_then(Value::as_i64).unwrap_or(0).clamp(1, 1 << 32);
        let gated = model.get("mlp_layer").and_then(toml::Value::as_str) == Some("swiglu");
        let hidden = if gated { hidden + (-hidden).rem_euclid(align) } else { hidden };
        model.insert("mlp_width".into(), hidden.into());
    }
    let classes =
        [arguments.get("num_classes"), config.get("num_classes"), image.get("num_classes")];
    let classes = classes.into_iter().flatten().find(|classes| !classes.is_null());
    let count = |value: &Value| {
        let count =
            value.as_u64().ok_or_else(|| unsupported("num_classes", value, "a whole number"));
        Ok::<_, SettingError>(count? as usize)
    };
    let classes = classes.map_or(Ok(1000), count)?;
    let names = [config.get("label_names"), image.get("label_names"), config.get("labels")];
    Ok(Published {
        model,
        classes: (classes > 0).then_some(classes),
        label_names: names.into_iter().flatten().next().map_or(Vec::new(), label_names),
    })
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
pub fn write(config: &VitConfig) -> Result<Value, SettingError> {
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
    let pool = format!("pool = \"{}\"", config.pool);
    let pool = VALUES
        .iter()
        .find(|(.., setting)| *setting == pool)
        .map(|(_, name, _)| name.trim_matches('"'));
    let mut arguments = json!({
        "img_size": [config.image_size.0, config.image_size.1],
        "patch_size": [config.patch_size.0, config.patch_size.1],
        "in_chans": config.channels,
        "num_classes": config.classes,
        "global_pool": pool,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": if whole { ratio } else { ratio.next_up() },
        "qkv_bias": config.qkv_bias,
        "qk_norm": config.qk_norm,
        "init_values": config.init_values,
        "no_embed_class": config.no_embed_class,
    });
    let more = match (rotary, distilled) {
        (true, _) => json!({
            "class_token": config.has_class_token(),
            "num_reg_tokens": config.reg_tokens,
            "use_fc_norm": config.has_fc_norm(),
            "swiglu_mlp": mlp_layer == MlpLayer::SwiGlu,
            "swiglu_align_to": 1,
            "use_abs_pos_emb": config.pos_embed == PosEmbed::Learn,
            "use_rot_pos_emb": true,
            "rope_type": "dinov3",
            "rope_temperature": config.rope_temperature,
            "rope_rotate_half": true,
            "dynamic_img_size": false,
        }),
        (false, true) => json!({}),
        (false, false) => json!({
            "class_token": config.has_class_token(),
            "reg_tokens": config.reg_tokens,
            "fc_norm": config.has_fc_norm(),
            "pos_embed": config.pos_embed,
        }),
    };
    let (Value::Object(all), Value::Object(more)) = (&mut arguments, more) else {
        unreachable!("both are objects")
    };
    all.extend(more);
    if !rotary && !packed {
        let gelu = if config.gelu == Gelu::Tanh { "gelu_tanh" } else { "gelu" };
        all.insert("act_layer".into(), gelu.into());
    }
    if architecture == EPS_5 {
        all.insert("pre_norm".into(), false.into());
    }
    let written = json!({
        "architecture": architecture,
        "num_classes": config.classes,
        "num_features": config.width,
        "model_args": arguments,
    });
    check(config, &written, "timm").map(|()| written)
}
