//! Named models: which model keys each name stands for. Presets say nothing about images' channels
//! or classes, which belong to the data.

use toml::Value;

/// Names of all presets.
pub(super) const NAMES: [&str; 10] = [
    "d2l",
    "d2l-jax",
    "vit-ti-16",
    "vit-ti-32",
    "vit-s-16",
    "vit-s-32",
    "vit-b-16",
    "vit-b-32",
    "vit-l-16",
    "vit-l-32",
];

/// The textbook's model: *Dive into Deep Learning*, section "Transformers for Vision".
struct Textbook {
    gelu: &'static str,
    layer_norm_eps: f64,
    init: &'static str,
}

impl Textbook {
    fn keys(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("model.image_size", 96.into()),
            ("model.patch_size", 16.into()),
            ("model.width", 512.into()),
            ("model.depth", 2.into()),
            ("model.heads", 8.into()),
            ("model.mlp_width", 2048.into()),
            ("model.dropout", 0.1.into()),
            ("model.attention_dropout", 0.1.into()),
            ("model.embedding_dropout", 0.1.into()),
            ("model.qkv_bias", false.into()),
            ("model.projection_bias", false.into()),
            ("model.pool", "class-token".into()),
            ("model.gelu", self.gelu.into()),
            ("model.layer_norm_eps", self.layer_norm_eps.into()),
            ("model.init", self.init.into()),
        ]
    }
}

/// A model of the ViT and DeiT papers (Dosovitskiy et al. 2021, table 1; Touvron et al. 2021,
/// table 1), with timm's layer-norm epsilon and biases. The MLP is four times as wide.
struct Paper {
    width: i64,
    depth: i64,
    heads: i64,
}

impl Paper {
    fn keys(&self, patch_size: i64) -> Vec<(&'static str, Value)> {
        vec![
            ("model.image_size", 224.into()),
            ("model.patch_size", patch_size.into()),
            ("model.width", self.width.into()),
            ("model.depth", self.depth.into()),
            ("model.heads", self.heads.into()),
            ("model.mlp_width", (4 * self.width).into()),
            ("model.dropout", 0.0.into()),
            ("model.attention_dropout", 0.0.into()),
            ("model.embedding_dropout", 0.0.into()),
            ("model.qkv_bias", true.into()),
            ("model.projection_bias", true.into()),
            ("model.pool", "class-token".into()),
            ("model.gelu", "erf".into()),
            ("model.layer_norm_eps", 1e-6.into()),
            ("model.init", "flax".into()),
        ]
    }
}

const TINY: Paper = Paper { width: 192, depth: 12, heads: 3 };
const SMALL: Paper = Paper { width: 384, depth: 12, heads: 6 };
const BASE: Paper = Paper { width: 768, depth: 12, heads: 12 };
const LARGE: Paper = Paper { width: 1024, depth: 24, heads: 16 };

/// The keys that a preset stands for; `None` if there is no such preset.
pub(super) fn preset(name: &str) -> Option<Vec<(&'static str, Value)>> {
    Some(match name {
        "d2l" => Textbook { gelu: "erf", layer_norm_eps: 1e-5, init: "torch" }.keys(),
        "d2l-jax" => Textbook { gelu: "tanh", layer_norm_eps: 1e-6, init: "flax" }.keys(),
        "vit-ti-16" => TINY.keys(16),
        "vit-ti-32" => TINY.keys(32),
        "vit-s-16" => SMALL.keys(16),
        "vit-s-32" => SMALL.keys(32),
        "vit-b-16" => BASE.keys(16),
        "vit-b-32" => BASE.keys(32),
        "vit-l-16" => LARGE.keys(16),
        "vit-l-32" => LARGE.keys(32),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::keys::find_key;
    use super::{NAMES, preset};

    #[test]
    fn every_name_has_a_preset_of_known_keys_and_allowed_values() {
        for name in NAMES {
            for (key, value) in preset(name).expect(name) {
                find_key(key).expect(key).check(&value, name).expect(name);
            }
        }
        assert!(preset("vit-h-14").is_none());
    }
}
