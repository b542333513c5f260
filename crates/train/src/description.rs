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
use vitrine_nn::settings::{SettingError, shown};

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
}

impl Description {
    /// Reads the one beside weights, which are a folder or a file; `None` if there is none.
    pub fn beside(weights: &Path) -> Result<Option<Self>> {
        let folder = match weights.is_file() {
            true => weights.parent().unwrap_or(Path::new("")).to_owned(),
            false => whole(weights),
        };
        let Some(config) = json(&folder.join(DESCRIPTION))? else { return Ok(None) };
        let damaged = |source| CheckpointError::Position { path: folder.join(DESCRIPTION), source };
        let Some(published) = published::read(&config)? else {
            // Others write files of this name, too.
            if config.get("pretrained_cfg").is_none() {
                return Ok(None);
            }
            let mut about: Self = serde_json::from_value(config).map_err(damaged)?;
            about.label_names = about.label_names.iter().map(|name| label(name)).collect();
            return Ok(Some(about));
        };
        let pretrained_cfg = match config.get("architecture") {
            Some(_) => timm(config.get("pretrained_cfg").unwrap_or(&config), &published.model)?,
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
        let (model, names) = (published.model, published.label_names);
        let label_names = names.iter().map(|name| label(name)).collect();
        Ok(Some(Self { model, num_classes, label_names, pretrained_cfg }))
    }

    /// That of a recipe's model with weights: classes bear the names beside the weights; else those of the recipe's
    /// data set, or their numbers if the model has another number of classes.
    pub fn of(recipe: &Recipe, weights: &Path) -> Result<Self> {
        let beside = Self::beside(weights)?.map(|about| about.label_names);
        let (data, classes) = (&recipe.training.data, recipe.model.classes());
        let fits = |names: &Vec<String>| names.len() == classes;
        let names = beside.filter(fits).or_else(|| data.known_classes().filter(fits));
        let numbers = || (0..classes).map(|label| label.to_string()).collect();
        Ok(Self {
            model: recipe.model.table()?,
            num_classes: classes,
            label_names: names.unwrap_or_else(numbers),
            pretrained_cfg: build::preprocessing(data, &recipe.model.input()),
        })
    }
}

/// A class's name as it may be printed.
fn label(name: &str) -> String {
    shown(name, LONGEST_LABEL)
}

/// Longer names of classes are cut.
const LONGEST_LABEL: usize = 1000;

/// No file with names of classes is longer; a value takes 16 times the memory of its text.
const LONGEST_JSON: u64 = 4 << 20;

/// The object in a JSON file; `None` if there is no such file.
fn json(path: &Path) -> Result<Option<Value>> {
    let damaged = |source| CheckpointError::Position { path: path.to_owned(), source };
    let read = || {
        let mut text = Vec::new();
        regular(path)?.take(LONGEST_JSON + 1).read_to_end(&mut text)?;
        let longer = text.len() as u64 > LONGEST_JSON;
        if longer { Err(io::Error::other("it is over 4 MiB long")) } else { Ok(text) }
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
        Ok(text) => {
            serde_json::from_slice(&text).map(|map| Some(Value::Object(map))).map_err(damaged)
        }
    }
}

/// No picture is resized to more.
const LARGEST_SIDE: f64 = 65_535.0;

const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

fn input_size(model: &Table) -> [usize; 3] {
    let whole = |value: &toml::Value| value.as_integer().map(|side| side as usize);
    let channels = model.get("channels").and_then(whole).unwrap_or(3);
    let [height, width] = match model.get("image_size") {
        Some(toml::Value::Array(sides)) if sides.len() == 2 => {
            [&sides[0], &sides[1]].map(|side| whole(side).unwrap_or(224))
        }
        side => [side.and_then(whole).unwrap_or(224); 2],
    };
    [channels, height, width]
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
        interpolation: read(file, "interpolation", Interpolation::Bicubic, &filters)?,
        crop_pct: if crop_pct == 0.0 { 0.875 } else { crop_pct },
        crop_mode: read(file, "crop_mode", CropMode::Center, &modes)?,
        mean: numbers(file, "mean", IMAGENET_MEAN)?,
        std: numbers(file, "std", IMAGENET_STD)?,
    })
}

/// transformers' `preprocessor_config.json`, with the defaults of its class.
fn transformers(processor: &Value, config: &Value, model: &Table) -> Result<Preprocessing> {
    let refused = |key: &str, allowed: &str| {
        let value = processor.get(key).unwrap_or(&Value::Null);
        SettingError::value(PREPROCESSOR, key, value, allowed.to_owned())
    };
    let kind = ["image_processor_type", "feature_extractor_type"]
        .iter()
        .find_map(|key| processor.get(*key)?.as_str())
        .unwrap_or_default();
    let family = config["model_type"].as_str().unwrap_or_default();
    let is = |name: &str, models: &[&str]| {
        if kind.is_empty() { models.contains(&family) } else { kind.starts_with(name) }
    };
    let deit = is("DeiT", &["deit"]);
    let bit = is("Bit", &["dinov2", "dinov2_with_registers"]);
    let dinov3 = is("DINOv3", &["dinov3_vit"]);
    let siglip = is("Siglip", &["siglip", "siglip_vision_model"]);
    let [_, height, width] = input_size(model);
    let flag =
        |key: &str, default: bool| processor.get(key).and_then(Value::as_bool).unwrap_or(default);
    let file = (PREPROCESSOR, processor);
    if !flag("do_resize", true) || !flag("do_rescale", true) {
        let key = if flag("do_resize", true) { "do_rescale" } else { "do_resize" };
        return Err(refused(key, "true").into());
    }
    let interpolation = match processor.get("resample").and_then(Value::as_u64) {
        Some(1) => Interpolation::Lanczos,
        Some(2) => Interpolation::Bilinear,
        Some(3) => Interpolation::Bicubic,
        None if deit || bit || siglip => Interpolation::Bicubic,
        None => Interpolation::Bilinear,
        Some(_) => {
            return Err(refused("resample", "1 (Lanczos), 2 (bilinear) or 3 (bicubic)").into());
        }
    };
    let side = |value: &Value| value.as_f64().filter(|side| (1.0..=LARGEST_SIDE).contains(side));
    let size = processor.get("size").unwrap_or(&Value::Null);
    let (resized, crop_mode) = match (side(size), size.get("shortest_edge").and_then(side)) {
        (_, Some(edge)) => ((edge, edge), CropMode::Center),
        (Some(edge), None) if bit || siglip => ((edge, edge), CropMode::Center),
        (Some(edge), None) => ((edge, edge), CropMode::Squash),
        (None, None) => match (size.get("height").and_then(side), size.get("width").and_then(side))
        {
            (Some(height), Some(width)) => ((height, width), CropMode::Squash),
            _ if !size.is_null() => return Err(refused("size", "sides, or a shortest edge").into()),
            _ if deit => ((256.0, 256.0), CropMode::Squash),
            _ if bit => ((256.0, 256.0), CropMode::Center),
            _ => ((height as f64, width as f64), CropMode::Squash),
        },
    };
    // What is cut out has the model's size, which may be another than that of the crop in the file.
    let crops = flag("do_center_crop", deit || bit);
    let crop = processor.get("crop_size").unwrap_or(&Value::Null);
    let cropped = match side(crop).or(crop.get("height").and_then(side)) {
        None if crops && !crop.is_null() => return Err(refused("crop_size", "sides").into()),
        cropped => cropped.unwrap_or(224.0),
    };
    let crop_pct = if crops { (cropped / resized.0).min(1.0) } else { 1.0 };
    let input = match crops {
        _ if model.get("pos_embed").and_then(toml::Value::as_str) == Some("none") || bit => {
            let to = if crops { (cropped, cropped) } else { resized };
            [input_size(model)[0], to.0 as usize, to.1 as usize]
        }
        _ => input_size(model),
    };
    let plain = !flag("do_normalize", true);
    let (mean, std) = match (plain, deit || dinov3, bit) {
        (true, ..) => ([0.0; 3], [1.0; 3]),
        (_, true, _) => (IMAGENET_MEAN, IMAGENET_STD),
        (.., true) => (CLIP_MEAN, CLIP_STD),
        _ => ([0.5; 3], [0.5; 3]),
    };
    Ok(Preprocessing {
        input_size: input,
        interpolation,
        crop_pct,
        crop_mode,
        mean: if plain { mean.to_vec() } else { numbers(file, "image_mean", mean)? },
        std: if plain { std.to_vec() } else { numbers(file, "image_std", std)? },
    })
}
