//! From a recipe to the parts of a run: model, optimizer, schedule, data. No loop lives here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vitrine_data::{Loader, LoaderConfig, Locator, Preprocessing, Samples, Split};
use vitrine_nn::schedule::Schedule;
use vitrine_nn::settings::SettingError;
use vitrine_nn::{AdamW, InputSpec, Model, Optimizer, ParameterBuilder, Parameters, Sgd};
use vitrine_tensor::{DType, Device};

use crate::checkpoint;
use crate::error::{Result, TrainError};
use crate::objective::Objective;
use crate::recipe::{self, DataRecipe, OptimizerKind, Precision, Recipe, ScheduleKind, Training};

/// The training and the validation images.
#[derive(Clone)]
pub struct Datasets {
    /// For the weights.
    pub train: Arc<dyn Samples>,
    /// For the figures.
    pub val: Arc<dyn Samples>,
}

impl Datasets {
    /// Finds or fetches the recipe's data set; `folder` is the one named by the user. `notice` is told what is being
    /// fetched.
    pub fn load(
        data: &DataRecipe,
        folder: Option<PathBuf>,
        notice: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self> {
        let locator = Locator::from_env(folder).on_notice(notice);
        Ok(Self {
            train: dataset(data, Split::Train, &locator)?,
            val: dataset(data, Split::Test, &locator)?,
        })
    }
}

/// What is trained, on what, and towards what.
pub struct Parts {
    /// The network.
    pub model: Box<dyn Model>,
    /// Its parameters.
    pub parameters: Parameters,
    /// The images.
    pub data: Datasets,
    /// What is minimised.
    pub objective: Box<dyn Objective>,
}

impl Parts {
    /// The recipe's, on these images.
    pub fn of(recipe: &Recipe, data: Datasets) -> Result<Self> {
        let (model, parameters) = model(recipe)?;
        Ok(Self { model, parameters, data, objective: Box::new(recipe.objective.clone()) })
    }
}

/// One part of the recipe's data set, as much of it as the recipe asks for.
pub fn dataset(data: &DataRecipe, split: Split, locator: &Locator) -> Result<Arc<dyn Samples>> {
    let limit = match split {
        Split::Train => data.limit_train,
        Split::Test => data.limit_val,
    };
    let dataset = locator.load(data.known()?.spec(), split)?;
    let limit = if limit == 0 { dataset.len() } else { limit };
    Ok(Arc::new(dataset.limit(limit)))
}

/// What becomes of a picture for a model.
pub fn preprocessing(data: &DataRecipe, input: &InputSpec) -> Preprocessing {
    let rounded = |numbers: &[f64]| numbers.iter().map(|&number| number as f32).collect();
    let (mean, std) = (rounded(&input.mean), rounded(&input.std));
    let max_pixels = data.max_pixels;
    Preprocessing { channels: input.channels, size: input.size, mean, std, max_pixels }
}

/// The batches of a data set for a model.
pub fn loader(
    training: &Training,
    input: &InputSpec,
    dataset: Arc<dyn Samples>,
    shuffle: bool,
) -> Result<Loader> {
    let classes = dataset.class_names().len();
    if classes != input.classes {
        return Err(TrainError::Classes {
            dataset: dataset.name().to_owned(),
            found: classes,
            expected: input.classes,
        });
    }
    let config = LoaderConfig {
        shuffle,
        seed: training.run.seed,
        workers: training.data.workers,
        prefetch: training.data.prefetch,
        ..LoaderConfig::new(training.run.batch_size, preprocessing(&training.data, input))
    };
    Ok(Loader::new(dataset, config)?)
}

/// The device that the recipe asks for.
pub fn device(device: recipe::Device) -> Result<Device> {
    match device {
        recipe::Device::Cpu => Ok(Device::cpu()),
        #[cfg(feature = "cuda")]
        recipe::Device::Cuda(ordinal) => Ok(vitrine_cuda::device(ordinal)?),
        #[cfg(not(feature = "cuda"))]
        recipe::Device::Cuda(_) => Err(TrainError::Unavailable {
            what: format!("device {device}"),
            advice: "this program was built without CUDA; `cargo xtask train --device cuda:0` builds one that has it, \
                     and --device cpu needs none",
        }),
    }
}

/// The model and its parameters with their first values.
pub fn model(recipe: &Recipe) -> Result<(Box<dyn Model>, Parameters)> {
    let mut builder = ParameterBuilder::new(recipe.training.run.seed);
    let model = recipe.model.build(&mut builder)?;
    let parameters = builder.build(DType::F32, &device(recipe.training.run.device)?)?;
    Ok((model, computed(&recipe.training, parameters)?))
}

/// The model with weights from a checkpoint's folder or a file; none are drawn.
pub fn model_with_weights(recipe: &Recipe, weights: &Path) -> Result<(Box<dyn Model>, Parameters)> {
    let mut builder = ParameterBuilder::new(recipe.training.run.seed);
    let model = recipe.model.build(&mut builder)?;
    let parameters = builder.allocate(DType::F32, &device(recipe.training.run.device)?)?;
    checkpoint::load_weights(weights, &parameters)?;
    Ok((model, computed(&recipe.training, parameters)?))
}

/// Parameters that are computed with in the recipe's precision.
pub fn computed(training: &Training, parameters: Parameters) -> Result<Parameters> {
    Ok(parameters.computing_in(match training.run.precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    })?)
}

/// The optimizer.
pub fn optimizer(training: &Training) -> Result<Box<dyn Optimizer>> {
    let o = &training.optimizer;
    Ok(match o.kind {
        OptimizerKind::Sgd => Box::new(Sgd::new(o.momentum, o.nesterov, o.weight_decay)?),
        OptimizerKind::AdamW => Box::new(AdamW::new(o.beta1, o.beta2, o.eps, o.weight_decay)?),
    })
}

/// The learning rate over the run's optimizer steps.
pub fn schedule(training: &Training, steps_per_epoch: u64) -> Result<Schedule> {
    let (rate, schedule) = (training.optimizer.learning_rate, &training.schedule);
    let total = training.run.epochs as u64 * steps_per_epoch;
    let main = match schedule.kind {
        ScheduleKind::Constant => Schedule::constant(rate)?,
        ScheduleKind::Step => {
            let every = schedule.step_epochs as u64 * steps_per_epoch;
            Schedule::step(rate, every, schedule.gamma)?
        }
        ScheduleKind::Cosine => Schedule::cosine(rate, schedule.final_learning_rate, total)?,
    };
    let warmup = schedule.warmup_steps + schedule.warmup_epochs as u64 * steps_per_epoch;
    if warmup > 0 && warmup >= total {
        let reason = format!("warm-up must be shorter than the run, which has {total} steps");
        return Err(SettingError::conflict("schedule.warmup_steps", warmup, reason).into());
    }
    Ok(main.with_warmup(warmup)?)
}
