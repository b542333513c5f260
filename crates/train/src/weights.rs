//! Files of weights: safetensors, under whosever names, read into a model's parameters, and written. Which names there
//! are is the business of `vitrine-models`; a checkpoint is made of such files in [`crate::checkpoint`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use vitrine_models::{Dialect, Group, MOST_PATCHES, ModelConfig};
use vitrine_nn::settings::{shown, size};
use vitrine_nn::{ParameterBuilder, Parameters};
use vitrine_tensor::{DType, Tensor};

use crate::atomic::write_atomic;
use crate::checkpoint::{CheckpointError as Error, io_error, regular, whole};
use crate::description::{DESCRIPTION, PREPROCESSOR};
use crate::hub::{Hub, HubName};
use crate::resample::{Grids, resample};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Parameters and buffers by name.
pub(crate) type Named = Vec<(String, Tensor)>;

/// What was done to weights that did not fit as they were, for a person to read.
#[derive(Debug, Default)]
pub struct Adapted {
    /// What became of the head, if it begins anew.
    pub new_head: Option<String>,
    /// All else.
    pub notices: Vec<String>,
}

/// The file with the weights in a checkpoint's folder.
pub(crate) const WEIGHTS: &str = "weights.safetensors";
/// The file with the weights in the form of timm and of transformers.
pub const MODEL: &str = "model.safetensors";

/// Files that PyTorch wrote, which are programs.
const PICKLES: [&str; 5] = ["bin", "pth", "pt", "ckpt", "pkl"];

/// What `--weights` means: a path, or a model on a Hub, whose files are fetched.
pub fn find(name: &str, notice: impl Fn(&str) + Send + Sync + 'static) -> Result<PathBuf> {
    if !name.starts_with(HubName::PREFIX) {
        return Ok(PathBuf::from(name));
    }
    let hub = Hub::from_env()?.on_notice(notice);
    Ok(hub.snapshot(&HubName::parse(name)?, MODEL, &[DESCRIPTION, PREPROCESSOR])?)
}

/// The file of weights that a path means: itself, or one in a folder of a checkpoint, of timm's form or transformers'.
pub fn locate(path: &Path) -> Result<PathBuf> {
    let pickle = |path: &Path| {
        path.extension().and_then(|end| end.to_str()).is_some_and(|end| PICKLES.contains(&end))
    };
    let refused = |path: PathBuf| Err(Error::Pickle { path });
    if path.is_file() {
        return if pickle(path) { refused(path.to_owned()) } else { Ok(path.to_owned()) };
    }
    // Nothing is moved here: a run may be under way, and in the middle of a save.
    for file in [whole(path).join(WEIGHTS), path.join(MODEL)] {
        if file.exists() {
            return Ok(file);
        }
    }
    if !path.exists() {
        return Err(Error::Missing { path: path.to_owned() });
    }
    let entries = path.read_dir().map_err(io_error("read", path))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files
        .sort_by_key(|file| (file.file_name() != Some("pytorch_model.bin".as_ref()), file.clone()));
    let split = path.join("model.safetensors.index.json");
    match files.into_iter().find(|file| pickle(file)) {
        _ if split.exists() => Err(Error::Split { path: split }),
        Some(file) => refused(file),
        None => Err(Error::Missing { path: path.to_owned() }),
    }
}

/// The number of classes that weights tell apart; `None` if they have no head.
pub fn classes(path: &Path) -> Result<Option<usize>> {
    Ok(Weights::open(&locate(path)?)?.classes())
}

/// Reads weights into parameters, whosever names they have; with a `model`, also those of another image size, or of
/// three channels for one. If `new_head`, the head's keep their values where the file has none or one of other classes.
/// A file of another model changes nothing; where a number is not finite, a part of the values may be read by then.
pub fn load(
    path: &Path,
    model: Option<&ModelConfig>,
    parameters: &Parameters,
    new_head: bool,
) -> Result<Adapted> {
    let mut weights = Weights::open(&locate(path)?)?;
    let tensors = named(parameters)?;
    let plan = weights.plan(&shapes(&tensors), model, new_head)?;
    weights.read(&plan, &tensors)?;
    Ok(plan.adapted)
}

/// Whether [`load`] would read weights into what is declared, which takes no memory yet.
pub fn check(
    path: &Path,
    model: Option<&ModelConfig>,
    declared: &ParameterBuilder,
    new_head: bool,
) -> Result<()> {
    let shapes: Vec<_> = declared.shapes().collect();
    Weights::open(&locate(path)?)?.plan(&shapes, model, new_head).map(|_| ())
}

/// Names and shapes.
pub(crate) fn shapes(tensors: &Named) -> Vec<(&str, &[usize])> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape())).collect()
}

/// Parameters and buffers of a model by name.
pub(crate) fn named(parameters: &Parameters) -> Result<Named> {
    let named = parameters.named_values();
    named.map(|(name, value)| Ok((name.to_owned(), value?))).collect()
}

/// Writes tensors in one number type. A number that is not finite is an error.
pub(crate) fn write(
    path: &Path,
    tensors: impl Iterator<Item = (String, Tensor)>,
    dtype: Dtype,
) -> Result<()> {
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.to_vec()?;
        let bytes: Vec<u8> = match dtype {
            Dtype::F16 => flat(values.iter().map(|&v| half::f16::from_f32(v).to_le_bytes())),
            Dtype::BF16 => flat(values.iter().map(|&v| half::bf16::from_f32(v).to_le_bytes())),
            _ => flat(values.iter().map(|v| v.to_le_bytes())),
        };
        let too_large = |v: &f32| dtype == Dtype::F16 && v.abs() >= 65_520.0;
        if !values.iter().all(|v| v.is_finite() && !too_large(v)) {
            return Err(Error::NotFinite { path: path.to_owned(), name });
        }
        data.push((name, tensor.shape().to_vec(), bytes));
    }
    let format = |e: safetensors::SafeTensorError| Error::Format {
        path: path.to_owned(),
        message: e.to_string(),
    };
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        let view = TensorView::new(dtype, shape.clone(), bytes).map_err(format)?;
        views.push((name.as_str(), view));
    }
    // What PyTorch's and transformers' readers ask for.
    let about = Some([("format".to_owned(), "pt".to_owned())].into());
    let bytes = safetensors::serialize(views, about).map_err(format)?;
    Ok(write_atomic(path, &bytes)?)
}

fn flat<const N: usize>(numbers: impl Iterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.flatten().collect()
}

/// A safetensors file whose head was read. Its tensors are read one by one: in memory there is one more at the most.
pub(crate) struct Weights {
    path: PathBuf,
    file: File,
    /// Where the tensors begin.
    start: u64,
    head: Metadata,
    /// One memory for all: fresh pages for each tensor would take as long as reading it.
    bytes: Vec<u8>,
}

/// Biases that a Vision Transformer may do without, and what gives it them.
const BIASES: [(&str, &str); 2] =
    [("attn.qkv.bias", "model.qkv_bias"), ("attn.proj.bias", "model.projection_bias")];

/// No head is longer, which takes 16 times its length in memory: it has names, not numbers.
const LONGEST_HEAD: u64 = 8 << 20;

/// Longer names, shapes and lists of such are cut in a message.
const LONGEST_NAME: usize = 120;
const LONGEST_LIST: usize = 1000;

/// What is in the names of LoRA's parameters.
pub(crate) const ADDED: &str = ".lora.";
const POSITIONS: &str = "pos_embed";
const PATCHES: &str = "patch_embed.proj.weight";
const CLASS_TOKEN: &str = "cls_token";

impl Weights {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = io_error("read", path);
        let format = |message: &dyn fmt::Display| Error::Format {
            path: path.to_owned(),
            message: message.to_string(),
        };
        let read = || -> io::Result<(File, u64, u64, Vec<u8>)> {
            let mut file = regular(path)?;
            let length = file.metadata()?.len();
            let (mut size, mut head) = ([0; 8], Vec::new());
            if length >= 8 {
                file.read_exact(&mut size)?;
            }
            let size = u64::from_le_bytes(size);
            (&mut file).take(size.min(LONGEST_HEAD)).read_to_end(&mut head)?;
            Ok((file, length, size, head))
        };
        let (file, length, size, bytes) = read().map_err(io)?;
        if bytes.len() as u64 != size {
            let most = LONGEST_HEAD.min(length - 8);
            return Err(format(&format_args!(
                "its head has {size} bytes, where there are at most {most}"
            )));
        }
        let Distinct = serde_json::from_slice(&bytes).map_err(|error| format(&error))?;
        let head: Metadata = serde_json::from_slice(&bytes).map_err(|error| format(&error))?;
        let start = 8 + bytes.len() as u64;
        let end = start.checked_add(head.data_len() as u64);
        if end != Some(length) {
            let message = match end {
                Some(end) => format!("its tensors end at byte {end}, the file at {length}"),
                None => "its tensors end past any file".to_owned(),
            };
            return Err(format(&message));
        }
        Ok(Self { path: path.to_owned(), file, start, head, bytes: Vec::new() })
    }

    /// Whosever names the head has.
    fn classes(&self) -> Option<usize> {
        let mut names = Dialect::head_weights();
        names.find_map(|name| self.head.info(&name)?.shape.first().copied())
    }

    fn other(&self, difference: String) -> Error {
        Error::OtherModel { path: self.path.clone(), difference }
    }

    /// Finds out whose names the file has, and checks all of it: names, shapes and types.
    pub(crate) fn plan(
        &self,
        tensors: &[(&str, &[usize])],
        model: Option<&ModelConfig>,
        new_head: bool,
    ) -> Result<Plan> {
        let names: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
        let shapes_of: HashMap<&str, &[usize]> = tensors.iter().copied().collect();
        let keys = self.head.offset_keys();
        let found: HashSet<&str> = keys.iter().map(String::as_str).collect();
        let (dialect, prefix) = match model {
            Some(_) => Dialect::detect(&names, &found),
            None => (&Dialect::all()[0], ""),
        };
        let grids = model.and_then(Grids::of);
        let mut plan = Plan { steps: Vec::new(), adapted: Adapted::default() };
        let (mut missing, mut shapes, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let mut known: HashSet<String> = HashSet::new();
        for group in dialect.groups(&names, prefix) {
            known.extend(group.theirs.iter().cloned());
            let is_head = new_head && group.ours.iter().any(|name| name.starts_with("head"));
            let infos: Vec<_> = group.theirs.iter().map(|name| self.head.info(name)).collect();
            if infos.is_empty() || infos.iter().any(Option::is_none) {
                // What LoRA adds begins with the training.
                if new_head && group.ours[0].contains(ADDED) {
                    continue;
                }
                if is_head {
                    plan.new_head("the weights have no head".to_owned());
                    continue;
                }
                let named = if group.theirs.is_empty() { &group.ours } else { &group.theirs };
                missing.extend(
                    named
                        .iter()
                        .zip(infos.iter().chain(std::iter::repeat(&None)))
                        .filter(|(_, info)| info.is_none())
                        .map(|(name, _)| name.clone()),
                );
                continue;
            }
            let infos: Vec<_> = infos.into_iter().flatten().collect();
            for (name, info) in group.theirs.iter().zip(&infos) {
                if !matches!(info.dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                    types.push(format!("{name} ({:?})", info.dtype));
                }
            }
            let targets: Vec<&[usize]> =
                group.ours.iter().map(|name| shapes_of[name.as_str()]).collect();
            let shape = joined(infos.iter().map(|info| info.shape.as_slice()));
            let expected = joined(targets.iter().copied());
            let change = match (shape, expected) {
                (Some(shape), Some(expected)) if shape == expected => Some(Change::None),
                (Some(shape), Some(expected)) => {
                    let name = group.ours[0].as_str();
                    change(name, &shape, &expected, grids.as_ref(), &mut plan.adapted)
                }
                _ => None,
            };
            match change {
                Some(change) => plan.steps.push(Step { group, change }),
                None if is_head && infos[0].shape.get(1..) == targets[0].get(1..) => {
                    let (theirs, ours) = (infos[0].shape[0], targets[0][0]);
                    plan.new_head(format!(
                        "the weights tell {theirs} classes apart, the data has {ours}"
                    ));
                }
                None => shapes.push(format!(
                    "{} ({} in the file, {:?} in the model)",
                    group.theirs.join(" + "),
                    shown(&format!("{:?}", infos[0].shape), LONGEST_NAME),
                    targets[0]
                )),
            }
        }
        let heads: HashSet<String> = Dialect::head_weights().collect();
        let of_head = |name: &str| {
            let module = name.trim_end_matches(".bias").trim_end_matches(".weight");
            new_head && heads.contains(&format!("{module}.weight"))
        };
        let unexpected: Vec<String> = keys
            .iter()
            .filter(|name| {
                !known.contains(*name) && !dialect.ignores(name, prefix) && !of_head(name)
            })
            .map(|name| shown(name, LONGEST_NAME))
            .collect();
        if plan.adapted.new_head.is_some() {
            plan.steps.retain(|step| !step.group.ours[0].starts_with("head"));
        }
        let hint =
            unexpected.first().and_then(|name| BIASES.iter().find(|(end, _)| name.ends_with(end)));
        let hint =
            hint.map_or(String::new(), |(_, key)| format!("; --set {key}=true gives it one"));
        let lists = [
            ("missing from the file", missing, String::new()),
            ("unknown to the model", unexpected, hint),
            ("of another shape", shapes, String::new()),
            ("no floats", types, String::new()),
        ];
        let wrong: Vec<String> = lists
            .into_iter()
            .filter(|(_, names, _)| !names.is_empty())
            .map(|(what, names, hint)| format!("{what}: {}{hint}", listed(&names)))
            .collect();
        if wrong.is_empty() { Ok(plan) } else { Err(self.other(wrong.join("; "))) }
    }

    /// Copies the values of tensors that were checked, all finite.
    pub(crate) fn read(&mut self, plan: &Plan, tensors: &Named) -> Result<()> {
        let targets: HashMap<&str, &Tensor> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut values = Vec::new();
        for step in &plan.steps {
            values.clear();
            for name in &step.group.theirs {
                self.append(name, &mut values)?;
            }
            let folded = step.change.apply(&mut values);
            let mut rest = values.as_slice();
            for target in step.group.ours.iter().map(|name| targets[name.as_str()]) {
                let (part, after) = rest.split_at(target.elements());
                target.copy_from_slice_(part)?;
                rest = after;
            }
            if let Some(class) = folded {
                let token = targets.get(CLASS_TOKEN);
                let token =
                    token.ok_or_else(|| self.other("there is no class token".to_owned()))?;
                let class = Tensor::from_slice(&class, token.shape(), token.device())?;
                token.add_scaled_(&class, 1.0)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, name: &str, values: &mut Vec<f32>) -> Result<()> {
        let info = self.head.info(name).expect("it was checked");
        let ((from, to), dtype) = (info.data_offsets, info.dtype);
        self.bytes.resize(to - from, 0);
        let bytes = &mut self.bytes;
        let at = SeekFrom::Start(self.start + from as u64);
        let read = self.file.seek(at).and_then(|_| self.file.read_exact(bytes));
        read.map_err(io_error("read", &self.path))?;
        let before = values.len();
        match dtype {
            Dtype::BF16 => {
                values.extend(chunks(bytes).map(|b| half::bf16::from_le_bytes(b).to_f32()));
            }
            Dtype::F16 => {
                values.extend(chunks(bytes).map(|b| half::f16::from_le_bytes(b).to_f32()))
            }
            Dtype::F64 => values.extend(chunks(bytes).map(|b| f64::from_le_bytes(b) as f32)),
            _ => values.extend(chunks(bytes).map(f32::from_le_bytes)),
        }
        match values[before..].iter().all(|v| v.is_finite()) {
            true => Ok(()),
            false => Err(Error::NotFinite { path: self.path.clone(), name: name.to_owned() }),
        }
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// Names in a message: as many as a person reads.
fn listed(names: &[String]) -> String {
    let mut text = String::new();
    for (i, name) in names.iter().enumerate() {
        if text.len() > LONGEST_LIST {
            return format!("{text} and {} more", names.len() - i);
        }
        text += if i == 0 { "" } else { ", " };
        text += name;
    }
    text
}

/// A JSON object that has no key twice: of two tensors with one name, readers take one or the other.
struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys: HashSet<String> = HashSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format!("it has `{twice}` twice")));
            }
        }
        Ok(self)
    }
}

/// What is read from a file, and what becomes of it.
pub(crate) struct Plan {
    steps: Vec<Step>,
    pub(crate) adapted: Adapted,
}

impl Plan {
    fn new_head(&mut self, why: String) {
        self.adapted.new_head.get_or_insert(why);
    }
}

struct Step {
    group: Group,
    change: Change,
}

/// What makes a tensor of one shape one of another.
enum Change {
    None,
    /// Weights of three channels are summed for one: numbers of a patch and channel.
    SumChannels(usize),
    /// Positions of another grid, and whether those of the class token are among them that are added to it.
    Positions(Grids, (usize, usize), bool),
}

impl Change {
    /// Changes the values; gives what is to be added to the class token.
    fn apply(&self, values: &mut Vec<f32>) -> Option<Vec<f32>> {
        match self {
            Self::None => None,
            Self::SumChannels(patch) => {
                let kernels = values.chunks_exact(3 * patch);
                *values = kernels
                    .flat_map(|kernel| {
                        (0..*patch).map(|i| kernel[i] + kernel[patch + i] + kernel[2 * patch + i])
                    })
                    .collect();
                None
            }
            Self::Positions(grids, from, folds) => {
                let class = folds.then(|| values.drain(..grids.width).collect());
                *values = resample(values, grids, *from);
                class
            }
        }
    }
}

/// The shape of tensors joined along the first axis, without leading extents of 1; `None` if they cannot be.
fn joined<'a>(shapes: impl Iterator<Item = &'a [usize]>) -> Option<Vec<usize>> {
    let mut all: Option<Vec<usize>> = None;
    for shape in shapes {
        let ones = shape.iter().take_while(|extent| **extent == 1).count();
        let shape = &shape[ones.min(shape.len().saturating_sub(1))..];
        match &mut all {
            None => all = Some(shape.to_vec()),
            Some(all) if all.get(1..) == shape.get(1..) => {
                all[0] = all.first()?.checked_add(*shape.first()?)?;
            }
            Some(_) => return None,
        }
    }
    all
}

/// How a tensor of the file becomes one of the model, if it does: what timm does in such cases.
fn change(
    name: &str,
    shape: &[usize],
    expected: &[usize],
    grids: Option<&Grids>,
    adapted: &mut Adapted,
) -> Option<Change> {
    match (name, shape, expected) {
        (PATCHES, &[d, 3, p, q], &[e, 1, r, s]) if (d, p, q) == (e, r, s) => {
            adapted.notices.push("the patch weights of three channels are summed for one".into());
            Some(Change::SumChannels(p * q))
        }
        (POSITIONS, &[rows, d], &[_, e]) if d == e => {
            let grids = grids?;
            // The very grid, or a square one.
            let grid = |patches: usize| {
                let side = patches.isqrt();
                let square = ((1..=MOST_PATCHES).contains(&patches) && side * side == patches)
                    .then_some((side, side));
                if patches == grids.to.0 * grids.to.1 { Some(grids.to) } else { square }
            };
            // The class token has a position where our model has none for it.
            let folded = rows.checked_sub(1).filter(|_| grids.prefix == 0).and_then(grid);
            let plain = rows.checked_sub(grids.prefix).and_then(grid);
            let (from, folds) =
                plain.map(|from| (from, false)).or(folded.map(|from| (from, true)))?;
            if from != grids.to {
                let (before, after) = (size::text(from), size::text(grids.to));
                adapted
                    .notices
                    .push(format!("positions of {before} patches are resampled for {after}"));
            }
            Some(Change::Positions(*grids, from, folds))
        }
        _ => None,
    }
}
