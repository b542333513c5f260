//! The families of models that can be built by name: one variant of [`ModelConfig`] and one row of the table below for
//! each.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use toml::Value;
use vitrine_nn::settings::{self, Fallback, Key, Kind, SettingError};
use vitrine_nn::{InputSpec, Model, ParameterBuilder, Result, Table};

use crate::cct::{CctConfig, CompactTransformer};
use crate::config::VitConfig;
use crate::resnet::{ResNet, ResNetConfig};
use crate::swin::{SwinConfig, SwinTransformer};
use crate::vision_transformer::VisionTransformer;

/// Declares [`ModelConfig`] and what it asks of each family.
macro_rules! families {
    ($($name:literal: $(#[doc = $doc:literal])* $Family:ident($Config:ty) builds $Model:ty;)*) => {
        /// The configuration of a model of any family: section `[model]` of a recipe.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family")]
        pub enum ModelConfig {
            $($(#[doc = $doc])* #[serde(rename = $name)] $Family($Config)),*
        }

        /// Each family's name, keys and presets. One place in memory, as keys are told apart by it.
        static FAMILIES: &[(&str, &[Key], &str)] =
            &[$(($name, <$Config>::KEYS, include_str!(concat!("../presets/", $name, ".toml")))),*];

        impl ModelConfig {
            /// Checks every key alone and all of them together.
            pub fn validate(&self) -> Result<(), SettingError> {
                match self { $(Self::$Family(config) => config.validate()),* }
            }

            /// The number of classes.
            pub fn classes(&self) -> usize {
                match self { $(Self::$Family(config) => config.classes),* }
            }

            /// Whether the family has a key of this name.
            pub(crate) fn has_key(&self, leaf: &str) -> bool {
                let keys = match self { $(Self::$Family(_) => <$Config>::KEYS),* };
                keys.iter().any(|key| key.leaf() == leaf)
            }

            /// What the model takes.
            pub fn input(&self) -> InputSpec {
                match self { $(Self::$Family(config) => config.input()),* }
            }

            /// What the names of the parameters that tell the classes apart begin with.
            pub fn head(&self) -> &'static [&'static str] {
                match self { $(Self::$Family(_) => <$Model>::HEAD),* }
            }

            /// The same model for another number of classes.
            pub fn with_classes(mut self, classes: usize) -> Self {
                match &mut self { $(Self::$Family(config) => config.classes = classes),* }
                self
            }

            /// Declares the model's parameters.
            pub fn build(&self, builder: &mut ParameterBuilder) -> Result<Box<dyn Model>> {
                let scope = &mut builder.scope("");
                Ok(match self { $(Self::$Family(config) => Box::new(<$Model>::new(scope, config)?)),* })
            }
        }
    };
}

families! {
    "vit": /// A Vision Transformer.
        Vit(VitConfig) builds VisionTransformer;
    "resnet": /// A residual network.
        Resnet(ResNetConfig) builds ResNet;
    "swin": /// A Swin Transformer.
        Swin(SwinConfig) builds SwinTransformer;
    "cct": /// A compact transformer.
        Cct(CctConfig) builds CompactTransformer;
}

/// The key that names the family.
pub const FAMILY: Key = Key {
    name: "model.family",
    kind: Kind::Name(|| FAMILIES.iter().map(|(name, ..)| *name).collect()),
    default: Fallback::Toml("\"vit\""),
    flag: None,
    about: "the family of models; the other keys of this section are its",
    aliases: &["kind", "type"],
};

/// Each family's name and its keys.
pub fn families() -> impl Iterator<Item = (&'static str, &'static [Key])> {
    FAMILIES.iter().map(|&(name, keys, _)| (name, keys))
}

/// The keys of all families, family by family: some have keys of one name.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    std::iter::once(&FAMILY).chain(families().flat_map(|(_, keys)| keys))
}

/// All presets, each with its family, its base's keys filled in.
fn presets() -> &'static Table {
    static PRESETS: OnceLock<Table> = OnceLock::new();
    PRESETS.get_or_init(|| {
        let mut all = Table::new();
        for &(family, _, text) in FAMILIES {
            let table: Table = text.parse().expect("a test reads all presets");
            for (name, keys) in table {
                let mut keys: Table = keys.try_into().expect("a test reads all presets");
                let base = keys.remove("base").map(|base| all[base.as_str().unwrap_or("")].clone());
                let mut whole = match base {
                    Some(Value::Table(base)) => base,
                    _ => Table::from_iter([("family".to_owned(), family.into())]),
                };
                whole.extend(keys);
                all.insert(name, whole.into());
            }
        }
        all
    })
}

/// The names of all presets.
pub fn preset_names() -> Vec<&'static str> {
    presets().keys().map(String::as_str).collect()
}

/// Whether a preset decides this key of `[model]`: it does not keep what another one said of it. Channels belong to the
/// data, also where a preset's mean needs so many.
pub fn is_preset_key(leaf: &str) -> bool {
    let decides = |keys: &Value| keys.as_table().is_some_and(|keys| keys.contains_key(leaf));
    leaf != "channels" && presets().values().any(decides)
}

/// The keys of `[model]` that a preset stands for, its family among them; `None` if there is no such preset.
pub fn preset(name: &str) -> Option<&'static Table> {
    presets().get(name)?.as_table()
}

impl ModelConfig {
    /// Reads section `[model]`; without `family` it is a Vision Transformer's. `origin` says where it was given.
    pub fn read(mut table: Table, origin: &str) -> Result<Self, SettingError> {
        let family = table.remove("family").or_else(|| FAMILY.fallback());
        let named =
            |(name, ..): &&(&str, _, _)| family.as_ref().and_then(Value::as_str) == Some(name);
        let Some((name, keys, _)) = FAMILIES.iter().find(named) else {
            let family = family.map_or(String::new(), |family| family.to_string());
            return Err(SettingError::value(origin, FAMILY.name, family, FAMILY.kind.allowed()));
        };
        let mut resolved = settings::resolve(table, keys, origin)?;
        resolved.insert("family".into(), (*name).into());
        resolved.try_into().map_err(|error| SettingError::Convert { message: error.to_string() })
    }

    /// The model a preset stands for, with the defaults of all other keys.
    pub fn preset(name: &str) -> Option<Self> {
        let mut table = preset(name)?.clone();
        table.insert("preset".into(), name.into());
        Self::read(table, name).ok()
    }

    /// The configuration, if it is a Vision Transformer's.
    pub fn vit(&self) -> Option<&VitConfig> {
        match self {
            Self::Vit(config) => Some(config),
            _ => None,
        }
    }

    /// The section's table.
    pub fn table(&self) -> Result<Table, SettingError> {
        settings::table(self)
    }
}
