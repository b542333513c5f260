//! What lies beside weights: which model they are for, what its classes are called, and what becomes of a picture. Ours
//! is `config.json` in a checkpoint's folder; those of timm and of transformers are read as well.

use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Table;
use vitrine_data::{CropMode, Interpolation, Preprocessing};
use vitrine_models::published;
use vitrine_nn::settings::{SettingError, shown, size};

use CropMode::{Center, Squash};
use Interpolation::{Bicubic, Bilinear, Lanczos};

use crate::build;
use crate::checkpoint::{CheckpointError, io_error, regular, whole};
use crate::recipe::Recipe;
use crate::weights;

pub(crate) const DESCRIPTION: &str = "config.json";
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";

type Result<T, E = CheckpointError> = std::result::Result<T, E>;

/// What a reader of the weights needs beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Section `[model]`, as far as it is known.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub model: Table,
    /// Classes K; 0 for weights without a head.
    pub num_classes: usize,
    /// What each class is called, if that is known.
    #[serde(default)]
    pub label_names: Vec<String>,
    /// What becomes of a picture.
    pub pretrained_cfg: Preprocessing,
    /// Whether the weights are an average over the steps of their training.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub averaged: bool,
}

impl Description {
    /// Reads the one beside weights, which are a folder or a file; `None` if there is none.
    pub fn beside(weights: &Path) -> Result<Option<Self>> {
        let folder = match weights.is_file() {
            true => weights.parent().unwrap_or(Path::new("")).to_owned(),
            false => whole(weights),
        };
        let path = folder.join(DESCRIPTION);
        let Some(config) = json(&path)? else { return Ok(None) };
        let about = match published::read(&config)? {
            Some(published) => {
                let pretrained_cfg = match config.get("architecture") {
                    Some(_) => {
                        timm(config.get("pretrained_cfg").unwrap_or(&config), &published.model)?
                    }
                    None => {
                        let processor = json(&folder.join(PREPROCESSOR))?.unwrap_or(Value::Null);
                        transformers(&processor, &config, &published.model)?
                    }
                };
                let num_classes = match published.classes {
                    Some(count) => count,
                    // The class that wrote it has no head; the file may have one all the same.
                    None => weights::classes(weights)?.unwrap_or(0),
                };
                let (model, label_names) = (published.model, published.label_names);
                Self { model, num_classes, label_names, pretrained_cfg, averaged: false }
            }
            // Others write files of this name, too.
            None if config.get("pretrained_cfg").is_none() => return Ok(None),
            None => serde_json::from_value(config)
                .map_err(|source| CheckpointError::Position { path, source })?,
        };
        let label_names = about.label_names.iter().map(|name| shown(name, LONGEST_LABEL)).collect();
        Ok(Some(Self { label_names, ..about }))
    }

    /// That of a recipe's model with weights: classes bear the names beside the weights; else those of the recipe's
    /// data set, or their numbers if the model has another number of classes.
    pub fn of(recipe: &Recipe, weights: &Path) -> Result<Self> {
        let beside = Self::beside(weights)?;
        let averaged = beside.as_ref().is_some_and(|about| about.averaged);
        let beside = beside.map(|about| about.label_names);
        let (data, classes) = (&recipe.training.data, recipe.model.classes());
        let fits = |names: &Vec<String>| names.len() == classes;
        let names = beside.filter(fits).or_else(|| data.known_classes().filter(fits));
        let numbers = || (0..classes).map(|label| label.to_string()).collect();
        Ok(Self {
            model: recipe.model.table()?,
            num_classes: classes,
            label_names: names.unwrap_or_else(numbers),
            pretrained_cfg: build::preprocessing(data, &recipe.model.input()),
            averaged,
        })
    }
}

/// Longer names of classes are cut.
const LONGEST_LABEL: usize = 1000;

/// No file with names of classes is longer; a value takes 16 times the memory of its text.
const LONGEST_JSON: u64 = 4 << 20;

/// The object in a JSON file; `None` if there is no such file.
fn json(path: &Path) -> Result<Option<Value>> {
    let mut text = Vec::new();
    let mut read = || {
        regular(path)?.take(LONGEST_JSON + 1).read_to_end(&mut text)?;
        let longer = text.len() as u64 > LONGEST_JSON;
        if longer { Err(io::Error::other("it is over 4 MiB long")) } else { Ok(()) }
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(io_error("read", path))?,
    }
    let damaged = |source| CheckpointError::Position { path: path.to_owned(), source };
    serde_json::from_slice(&text).map(|object| Some(Value::Object(object))).map_err(damaged)
}

/// No picture is resized to more.
const LARGEST_SIDE: f64 = 65_535.0;

const IMAGENET: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
const CLIP: [[f64; 3]; 2] =
    [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]];
const HALVES: [[f64; 3]; 2] = [[0.5; 3]; 2];

/// What transformers' classes of processors do where a file says nothing, the last one where no other is meant: what
/// their names begin with, the models that they are for, the filter, what a lone side is (`Center`: the shorter one's
/// length), whether a part is cut out, mean and standard deviation.
type Processor =
    (&'static str, &'static [&'static str], Interpolation, CropMode, bool, [[f64; 3]; 2]);
const PROCESSORS: [Processor; 5] = [
    ("DeiT", &["deit"], Bicubic, Squash, true, IMAGENET),
    ("Bit", &["dinov2", "dinov2_with_registers"], Bicubic, Center, true, CLIP),
    ("DINOv3", &["dinov3_vit"], Bilinear, Squash, false, IMAGENET),
    ("Siglip", &["siglip", "siglip_vision_model"], Bicubic, Center, false, HALVES),
    ("", &[], Bilinear, Squash, false, HALVES),
];

fn input_size(model: &Table) -> [usize; 3] {
    let channels = model.get("channels").and_then(toml::Value::as_integer).unwrap_or(3);
    let size = model.get("image_size").and_then(|size| size::deserialize(size.clone()).ok());
    let (height, width) = size.unwrap_or((224, 224));
    [channels as usize, height, width]
}

/// The value of a key of a file, if it is of this type.
fn read<T: DeserializeOwned>(
    (file, config): (&str, &Value),
    key: &str,
    default: T,
    allowed: &str,
) -> Result<T> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|_| SettingError::value(file, key, value, allowed.to_owned()).into()),
    }
}

/// As [`read`], for a number a channel.
fn numbers(file: (&str, &Value), key: &str, default: [f64; 3]) -> Result<Vec<f64>> {
    read(file, key, default.to_vec(), "a list of numbers")
}

/// timm's `pretrained_cfg`, with timm's defaults for what it does not have.
fn timm(config: &Value, model: &Table) -> Result<Preprocessing> {
    let file = (DESCRIPTION, config);
    let names = |names: &[&str]| format!("one of {}", names.join(", "));
    let (filters, modes) = (names(Interpolation::NAMES), names(CropMode::NAMES));
    let crop_pct = read(file, "crop_pct", 0.0, "a number")?;
    Ok(Preprocessing {
        input_size: input_size(model),
        interpolation: read(file, "interpolation", Bicubic, &filters)?,
        crop_pct: if crop_pct == 0.0 { 0.875 } else { crop_pct },
        crop_mode: read(file, "crop_mode", Center, &modes)?,
        mean: numbers(file, "mean", IMAGENET[0])?,
        std: numbers(file, "std", IMAGENET[1])?,
    })
}

/// transformers' `preprocessor_config.json`, with the defaults of its class.
fn transformers(processor: &Value, config: &Value, model: &Table) -> Result<Preprocessing> {
    let file = (PREPROCESSOR, processor);
    let refused = |key: &str, allowed: &str| {
        let value = processor.get(key).unwrap_or(&Value::Null);
        SettingError::value(PREPROCESSOR, key, value, allowed.to_owned())
    };
    let flag = |key: &str, default: bool| read(file, key, default, "true or false");
    for key in ["do_resize", "do_rescale"] {
        if !flag(key, true)? {
            return Err(refused(key, "true").into());
        }
    }
    let kind = ["image_processor_type", "feature_extractor_type"]
        .iter()
        .find_map(|key| processor.get(*key)?.as_str())
        .unwrap_or_default();
    let family = config["model_type"].as_str().unwrap_or_default();
    let is_class = |(name, models, ..): &&Processor| match kind {
        "" => name.is_empty() || models.contains(&family),
        kind => kind.starts_with(name),
    };
    let class = PROCESSORS.iter().find(is_class).expect("the last is of any name");
    let (name, _, filter, lone, cuts, [mean, std]) = *class;
    let interpolation = match processor.get("resample").and_then(Value::as_u64) {
        Some(1) => Lanczos,
        Some(2) => Bilinear,
        Some(3) => Bicubic,
        None => filter,
        Some(_) => {
            return Err(refused("resample", "1 (Lanczos), 2 (bilinear) or 3 (bicubic)").into());
        }
    };
    let [channels, height, width] = input_size(model);
    let side = |value: &Value| value.as_f64().filter(|side| (1.0..=LARGEST_SIDE).contains(side));
    let size = processor.get("size").unwrap_or(&Value::Null);
    let [shorter, tall, wide] =
        ["shortest_edge", "height", "width"].map(|key| size.get(key).and_then(side));
    let (resized, crop_mode) = match (shorter, side(size), tall.zip(wide)) {
        (Some(edge), ..) => ((edge, edge), Center),
        (_, Some(edge), _) => ((edge, edge), lone),
        (.., Some(sides)) => (sides, Squash),
        _ if !size.is_null() => return Err(refused("size", "sides, or a shortest edge").into()),
        _ if cuts => ((256.0, 256.0), lone),
        _ => ((height as f64, width as f64), Squash),
    };
    // What is cut out has the model's size, which may be another than that of the crop in the file.
    let crops = flag("do_center_crop", cuts)?;
    let crop = processor.get("crop_size").unwrap_or(&Value::Null);
    let cropped = match side(crop).or(crop.get("height").and_then(side)) {
        None if crops && !crop.is_null() => return Err(refused("crop_size", "sides").into()),
        cropped => cropped.unwrap_or(224.0),
    };
    let any_size = model.get("pos_embed").and_then(toml::Value::as_str) == Some("none");
    let (height, width) = match if crops { (cropped, cropped) } else { resized } {
        (tall, wide) if any_size || name == "Bit" => (tall as usize, wide as usize),
        _ => (height, width),
    };
    let scaled = flag("do_normalize", true)?;
    Ok(Preprocessing {
        input_size: [channels, height, width],
        interpolation,
        crop_pct: if crops { (cropped / resized.0).min(1.0) } else { 1.0 },
        crop_mode,
        mean: if scaled { numbers(file, "image_mean", mean)? } else { vec![0.0; 3] },
        std: if scaled { numbers(file, "image_std", std)? } else { vec![1.0; 3] },
    })
}
