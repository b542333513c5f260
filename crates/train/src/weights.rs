//! Files of weights: safetensors, under whosever names, read into a model's parameters, and written. Which names there
//! are is the business of `vitrine-models`; a checkpoint is made of such files in [`crate::checkpoint`].

use std::collections::{HashMap, HashSet};
use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use vitrine_models::{
    Dialect, Grids, Group, MOST_PATCHES, ModelConfig, resample_distances, resample_positions,
};
use vitrine_nn::settings::{shown, size};
use vitrine_nn::{ParameterBuilder, Parameters, State};
use vitrine_tensor::{DType, Tensor};

use crate::atomic::write_atomic;
use crate::checkpoint::{CheckpointError as Error, io_error, regular, whole};
use crate::description::{DESCRIPTION, PREPROCESSOR};
use crate::hub::{Hub, HubName};

type Result<T, E = Error> = std::result::Result<T, E>;

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
    let hub = Hub::from_variables(|name| env::var_os(name))?.on_notice(notice);
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
    let split = path.join("model.safetensors.index.json");
    if split.exists() {
        return Err(Error::Split { path: split });
    }
    let entries = path.read_dir().map_err(io_error("read", path))?;
    let pickles = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| pickle(file));
    let usual = |file: &PathBuf| file.ends_with("pytorch_model.bin");
    match pickles.min_by_key(|file| (!usual(file), file.clone())) {
        Some(file) => refused(file),
        None => Err(Error::Missing { path: path.to_owned() }),
    }
}

/// The number of classes that weights tell apart; `None` if they have no head.
pub fn classes(path: &Path) -> Result<Option<usize>> {
    let head = Weights::open(&locate(path)?)?.head;
    Ok(Dialect::head_weights().find_map(|name| head.info(&name)?.shape.first().copied()))
}

/// Reads weights into parameters, whosever names they have; with a `model`, also those of another image size, or of
/// three channels for one. If `new_head`, the head's keep their values where the file has none or one of other classes.
/// Gives what was done to weights that did not fit as they were, for a person to read. A file of another model changes
/// nothing; where a number is not finite, a part of the values may be read by then.
pub fn load(
    path: &Path,
    model: Option<&ModelConfig>,
    parameters: &Parameters,
    new_head: bool,
) -> Result<Vec<String>> {
    let mut weights = Weights::open(&locate(path)?)?;
    let tensors = named(parameters)?;
    let plan = weights.plan(&shapes(&tensors), model, new_head)?;
    weights.read(&plan, &tensors)?;
    Ok(plan.notices)
}

/// Whether a model can begin with weights, the head perhaps anew: as [`load`], before it takes any memory.
pub fn check(path: &Path, model: &ModelConfig) -> Result<()> {
    let mut declared = ParameterBuilder::new(0);
    model.build(&mut declared)?;
    let shapes: Vec<_> = declared.shapes().collect();
    Weights::open(&locate(path)?)?.plan(&shapes, Some(model), true).map(drop)
}

/// Names and shapes.
pub(crate) fn shapes(tensors: &State) -> Vec<(&str, &[usize])> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape())).collect()
}

/// Parameters and buffers of a model by name.
pub(crate) fn named(parameters: &Parameters) -> Result<State> {
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
    let views = data.iter().map(|(name, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?))
    });
    // What PyTorch's and transformers' readers ask for.
    let about = Some([("format".to_owned(), "pt".to_owned())].into());
    let bytes = views
        .collect::<Result<Vec<_>, SafeTensorError>>()
        .and_then(|views| safetensors::serialize(views, about))
        .map_err(format_error(path))?;
    Ok(write_atomic(path, &bytes)?)
}

fn format_error<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> Error {
    move |error| Error::Format { path: path.to_owned(), message: error.to_string() }
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
/// The first convolutions of all families.
const FIRST: [&str; 3] =
    ["patch_embed.proj.weight", "conv1.weight", "tokenizer.conv_layers.0.0.weight"];
const DISTANCES: &str = ".relative_position_bias_table";
const CLASS_TOKEN: &str = "cls_token";

impl Weights {
    pub(crate) fn open(path: &Path) -> Result<Self> {
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
        let (file, length, size, bytes) = read().map_err(io_error("read", path))?;
        if bytes.len() as u64 != size {
            let most = LONGEST_HEAD.min(length - 8);
            let message = format!("its head has {size} bytes, where there are at most {most}");
            return Err(format_error(path)(message));
        }
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        json.deserialize_map(Distinct).map_err(format_error(path))?;
        let head: Metadata = serde_json::from_slice(&bytes).map_err(format_error(path))?;
        let start = 8 + size;
        let end = start.saturating_add(head.data_len() as u64);
        if end != length {
            let message = format!("its tensors end at byte {end}, the file at {length}");
            return Err(format_error(path)(message));
        }
        Ok(Self { path: path.to_owned(), file, start, head, bytes: Vec::new() })
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
        let (dialect, prefix) = match model {
            Some(_) => Dialect::detect(&names, &keys.iter().map(String::as_str).collect()),
            None => (&Dialect::all()[0], ""),
        };
        let head = model.map_or(&["head."][..], ModelConfig::head);
        let of_our_head = |name: &str| head.iter().any(|start| name.starts_with(start));
        let (mut steps, mut notices, mut anew) = (Vec::new(), Vec::new(), None);
        let (mut missing, mut shapes, mut types) = (Vec::new(), Vec::new(), Vec::new());
        let mut known: HashSet<String> = HashSet::new();
        for group in dialect.groups(&names, prefix) {
            known.extend(group.theirs.iter().cloned());
            let name = group.ours[0].as_str();
            let is_head = new_head && of_our_head(name);
            let absent = |name: &String| self.head.info(name).is_none();
            if group.theirs.is_empty() || group.theirs.iter().any(absent) {
                match group.theirs.is_empty() {
                    // What LoRA adds begins with the training.
                    _ if new_head && name.contains(ADDED) => {}
                    _ if is_head => anew = anew.or(Some("the weights have no head".to_owned())),
                    true => missing.extend(group.ours),
                    false => missing.extend(group.theirs.into_iter().filter(absent)),
                }
                continue;
            }
            let infos: Vec<_> = group.theirs.iter().filter_map(|n| self.head.info(n)).collect();
            for (name, info) in group.theirs.iter().zip(&infos) {
                if !matches!(info.dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                    types.push(format!("{name} ({:?})", info.dtype));
                }
            }
            let targets = group.ours.iter().map(|name| shapes_of[name.as_str()]);
            let (theirs, ours) = (infos[0].shape.as_slice(), shapes_of[name]);
            let shape = joined(infos.iter().map(|info| info.shape.as_slice()));
            let change = match (shape, joined(targets)) {
                (Some(shape), Some(expected)) if shape == expected => Some(Change::None),
                (Some(shape), Some(expected)) => {
                    change(name, &shape, &expected, model, &mut notices)
                }
                _ => None,
            };
            match change {
                Some(change) => steps.push((group, change)),
                None if is_head && theirs.get(1..) == ours.get(1..) => {
                    let (theirs, ours) = (theirs[0], ours[0]);
                    let why =
                        format!("the weights tell {theirs} classes apart, the data has {ours}");
                    anew = anew.or(Some(why));
                }
                None => shapes.push(format!(
                    "{} ({} in the file, {ours:?} in the model)",
                    group.theirs.join(" + "),
                    shown(&format!("{theirs:?}"), LONGEST_NAME),
                )),
            }
        }
        let heads: HashSet<String> = Dialect::head_weights().collect();
        let of_head = |name: &str| {
            let module = name.trim_end_matches(".bias").trim_end_matches(".weight");
            new_head && heads.contains(&format!("{module}.weight"))
        };
        let expected =
            |name: &str| known.contains(name) || dialect.ignores(name, prefix) || of_head(name);
        let unexpected: Vec<String> = keys
            .iter()
            .filter(|name| !expected(name))
            .map(|name| shown(name, LONGEST_NAME))
            .collect();
        if let Some(why) = anew {
            notices.insert(0, format!("{why}: the head begins anew"));
            steps.retain(|(group, _): &(Group, _)| !of_our_head(&group.ours[0]));
        }
        let bias =
            unexpected.first().and_then(|name| BIASES.iter().find(|(end, _)| name.ends_with(end)));
        let hint =
            bias.map_or(String::new(), |(_, key)| format!("; --set {key}=true gives it one"));
        let wrong: Vec<String> = [
            ("missing from the file", listed(&missing)),
            ("unknown to the model", listed(&unexpected) + &hint),
            ("of another shape", listed(&shapes)),
            ("no floats", listed(&types)),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {names}"))
        .collect();
        if wrong.is_empty() {
            Ok(Plan { steps, notices })
        } else {
            Err(self.other(wrong.join("; ")))
        }
    }

    /// Copies the values of tensors that were checked, all finite.
    pub(crate) fn read(&mut self, plan: &Plan, tensors: &State) -> Result<()> {
        let targets: HashMap<&str, &Tensor> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut values = Vec::new();
        for (group, change) in &plan.steps {
            values.clear();
            for name in &group.theirs {
                self.append(name, &mut values)?;
            }
            let folded = change.apply(&mut values);
            let mut rest = values.as_slice();
            for target in group.ours.iter().map(|name| targets[name.as_str()]) {
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

/// Takes a JSON object that has no key twice: of two tensors with one name, readers take one or the other.
struct Distinct;

impl<'de> Visitor<'de> for Distinct {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys: HashSet<String> = HashSet::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format!("it has `{twice}` twice")));
            }
        }
        Ok(())
    }
}

/// What is read from a file, and what becomes of it.
pub(crate) struct Plan {
    steps: Vec<(Group, Change)>,
    pub(crate) notices: Vec<String>,
}

/// What makes a tensor of one shape one of another.
enum Change {
    None,
    /// Weights of three channels are summed for one: numbers of a patch and channel.
    SumChannels(usize),
    /// Positions of another grid, and whether that of the class token is among them, which is added to it.
    Positions(Grids, bool),
    /// Biases of distances in other windows: the side of the table, down and across in the model, and heads.
    Distances(usize, (usize, usize), usize),
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
            Self::Distances(side, to, heads) => {
                *values = resample_distances(values, *side, *to, *heads);
                None
            }
            Self::Positions(grids, folds) => {
                let class = folds.then(|| values.drain(..grids.width).collect());
                *values = resample_positions(values, *grids);
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
    model: Option<&ModelConfig>,
    notices: &mut Vec<String>,
) -> Option<Change> {
    match (name, shape, expected) {
        (_, &[d, 3, p, q], &[e, 1, r, s]) if (d, p, q) == (e, r, s) && FIRST.contains(&name) => {
            notices.push("the patch weights of three channels are summed for one".to_owned());
            Some(Change::SumChannels(p * q))
        }
        (POSITIONS, &[rows, width], &[_, d]) if width == d => {
            let vit = model?.vit()?;
            let (prefix, to) = (vit.prefix_positions(), vit.grid());
            // The very grid, or a square one.
            let grid = |patches: usize| {
                let side = patches.isqrt();
                let square = ((1..=MOST_PATCHES).contains(&patches) && side * side == patches)
                    .then_some((side, side));
                if patches == to.0 * to.1 { Some(to) } else { square }
            };
            // The class token has a position where our model has none for it.
            let folded = rows.checked_sub(1).filter(|_| prefix == 0).and_then(grid);
            let plain = rows.checked_sub(prefix).and_then(grid);
            let (from, folds) = (plain.or(folded)?, plain.is_none());
            if from != to {
                let (before, after) = (size::text(from), size::text(to));
                notices.push(format!("positions of {before} patches are resampled for {after}"));
            }
            Some(Change::Positions(Grids { prefix, from, to, width }, folds))
        }
        (_, &[rows, heads], &[_, count]) if heads == count && name.ends_with(DISTANCES) => {
            let stage = name.split('.').nth(1)?.parse::<usize>().ok()?;
            let Some(ModelConfig::Swin(swin)) = model else { return None };
            let [_, (p, q)] = *swin.windows().get(stage)?;
            let (side, to) = (rows.isqrt(), (2 * p - 1, 2 * q - 1));
            if side * side != rows || side < 3 {
                return None;
            }
            let text = "the biases of distances are resampled for other windows".to_owned();
            if !notices.contains(&text) {
                notices.push(text);
            }
            Some(Change::Distances(side, to, heads))
        }
        _ => None,
    }
}
