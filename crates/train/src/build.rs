//! From a recipe to the parts of a run: model, optimizer, schedule, data. No loop lives here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use vitrine_data::augment::{Augmentation, Mixup};
use vitrine_data::{
    Loader, LoaderConfig, Locator, Parts as DataParts, Preprocessing, Samples, Source, Split,
    Subset,
};
use vitrine_nn::schedule::{Form, Schedule};
use vitrine_nn::settings::SettingError;
use vitrine_nn::{
    AdamW, Ema, InputSpec, Model, Muon, Optimizer, ParameterBuilder, Parameters, ScheduleFreeAdamW,
    Sgd, Soap,
};
use vitrine_tensor::{DType, Device};

use crate::error::{Result, TrainError};
use crate::objective::Objective;
use crate::recipe::{
    self, AugmentRecipe, DataRecipe, OptimizerKind, Precision, Recipe, ScheduleKind, Training,
};
use crate::weights::{self, Weights};

/// The images of a run.
#[derive(Clone)]
pub struct Datasets {
    /// For the weights.
    pub train: Arc<dyn Samples>,
    /// For the figures of each epoch, and for the choice of the best.
    pub val: Arc<dyn Samples>,
    /// For the last judgement, after the last epoch. Without it, there is none.
    pub test: Option<Arc<dyn Samples>>,
    /// Which images those of `val` are, for a reader of the report.
    pub about_val: &'static str,
}

/// A part of a run's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Those that a model was trained on.
    Train,
    /// Those that choices were made by; the test images, where there are no others.
    Val,
    /// Those that were kept for the end.
    Test,
}

/// The share of a data set without a part for validation that is held out for it, if nobody states another.
const HOLDOUT: f64 = 0.2;

impl Datasets {
    /// Images of your own. What chooses the best epoch is also what judges it.
    pub fn new(train: Arc<dyn Samples>, val: Arc<dyn Samples>) -> Self {
        Self { train, val, test: None, about_val: "the validation part" }
    }

    /// Finds or fetches the recipe's data set, and writes to the recipe how much is held out of it, if that is not
    /// stated. `notice` is told what is being fetched, and what is passed over.
    pub fn load(
        training: &mut Training,
        notice: impl Fn(&str) + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::of(training, open(&training.data, notice)?)
    }

    fn of(training: &mut Training, parts: DataParts) -> Result<Self> {
        let data = &mut training.data;
        let DataParts { train, val, test, .. } = parts;
        let whole = val.is_some() || test.is_some();
        if !whole {
            data.holdout.get_or_insert(HOLDOUT);
        }
        let holdout = data.holdout.unwrap_or(0.0);
        let refused = |reason: &str| {
            Err(SettingError::conflict("data.holdout", holdout, reason.to_owned()).into())
        };
        let (train, val, test, about_val) = match (holdout > 0.0, val, test) {
            (true, Some(_), _) => {
                return refused("the data set has a part for validation already; leave it at 0");
            }
            (true, None, test) => {
                let [train, val] = Subset::holdout(&train, holdout, training.run.seed)?;
                (train, val, test, "held out of the training part")
            }
            (false, Some(val), test) => (train, val, test, "the validation part"),
            (false, None, Some(test)) => (train, test, None, "the test part"),
            (false, None, None) => {
                let part = "the data set has no other part to judge by";
                return refused(&format!("{part}; hold out a share, such as 0.2"));
            }
        };
        Ok(Self {
            train: limited(train, data.limit_train),
            val: limited(val, data.limit_val),
            test: test.map(|test| limited(test, data.limit_val)),
            about_val,
        })
    }
}

/// The images of one part. Where nothing is to be held out of a data set that has no parts, they are all of it.
pub fn part(
    training: &mut Training,
    part: Part,
    notice: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<Arc<dyn Samples>> {
    let data = &training.data;
    if let (Part::Val, Source::Known(name), None | Some(0.0)) = (part, data.source()?, data.holdout)
    {
        // The other files need not be there.
        let test = Arc::new(locator(data, notice).load(name.spec(), Split::Test)?);
        return Ok(limited(chosen(data, test)?, data.limit_val));
    }
    let parts = open(data, notice)?;
    if data.holdout == Some(0.0) && parts.val.is_none() && parts.test.is_none() {
        return Ok(limited(parts.train, data.limit_val));
    }
    let data = Datasets::of(training, parts)?;
    Ok(match part {
        Part::Train => data.train,
        Part::Val => data.val,
        Part::Test => data.test.ok_or_else(|| TrainError::Unavailable {
            what: "a test part".into(),
            advice: "the data set has none beside the validation part; --split val judges on that",
        })?,
    })
}

fn locator(data: &DataRecipe, notice: impl Fn(&str) + Send + Sync + 'static) -> Locator {
    Locator::from_env(data.dir.as_ref().map(Into::into)).on_notice(notice)
}

/// The parts of a data set, of the classes that the recipe names.
fn open(
    data: &DataRecipe,
    notice: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> Result<DataParts> {
    let space = Arc::new(AtomicU64::new(data.cache << 20));
    let parts = data.source()?.open(&locator(data, notice.clone()), data.max_pixels, &space)?;
    let passed_over = parts.passed_over;
    if passed_over > 0 {
        notice(&format!("passed over as no pictures: {passed_over} of the files"));
    }
    let other = |part: Option<_>| part.map(|samples| chosen(data, samples)).transpose();
    let (val, test) = (other(parts.val)?, other(parts.test)?);
    Ok(DataParts { train: chosen(data, parts.train)?, val, test, passed_over })
}

fn chosen(data: &DataRecipe, samples: Arc<dyn Samples>) -> Result<Arc<dyn Samples>> {
    match &data.classes {
        Some(classes) => Ok(Subset::classes(samples, classes)?),
        None => Ok(samples),
    }
}

fn limited(samples: Arc<dyn Samples>, limit: usize) -> Arc<dyn Samples> {
    if limit == 0 { samples } else { Subset::limit(samples, limit) }
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
        let objective = recipe.objective.build(&recipe.training, &model.input())?;
        Ok(Self { model, parameters, data, objective })
    }
}

/// What becomes of a picture for a model.
pub fn preprocessing(data: &DataRecipe, input: &InputSpec) -> Preprocessing {
    Preprocessing {
        input_size: [input.channels, input.size.0, input.size.1],
        interpolation: data.interpolation,
        crop_pct: data.crop_pct,
        crop_mode: data.crop_mode,
        mean: input.mean.clone(),
        std: input.std.clone(),
    }
}

/// The batches of a data set for a model: shuffled and augmented for training.
pub fn loader(
    training: &Training,
    input: &InputSpec,
    dataset: Arc<dyn Samples>,
    for_training: bool,
) -> Result<Loader> {
    let classes = dataset.class_names().len();
    if classes != input.classes {
        return Err(TrainError::Classes {
            dataset: dataset.name().to_owned(),
            found: classes,
            expected: input.classes,
        });
    }
    let preprocessing = preprocessing(&training.data, input);
    let config = LoaderConfig {
        shuffle: for_training,
        seed: training.run.seed,
        workers: training.data.workers,
        // Each worker makes a batch of its own.
        prefetch: training.data.prefetch.max(training.data.workers),
        max_broken: training.data.max_broken,
        ..LoaderConfig::new(training.run.batch_size, preprocessing.clone())
    };
    if !for_training {
        return Ok(Loader::new(dataset, config)?);
    }
    let augment = &training.augment;
    let config = LoaderConfig { mixup: mixup(augment), ..config };
    let augmentation = Augmentation {
        preprocessing,
        crop: augment.crop,
        scale: augment.scale,
        ratio: augment.ratio,
        padding: augment.padding,
        hflip: augment.hflip,
        vflip: augment.vflip,
        color_jitter: augment.color_jitter,
        hue: augment.hue,
        // The check of the key has read it, or it is "none".
        policy: augment.auto_augment.parse().ok(),
        reprob: augment.reprob,
        remode: augment.remode,
    };
    Ok(Loader::with_transform(dataset, config, Arc::new(augmentation))?)
}

fn mixup(augment: &AugmentRecipe) -> Option<Mixup> {
    let AugmentRecipe { mixup: mixup_alpha, cutmix: cutmix_alpha, .. } = *augment;
    (mixup_alpha > 0.0 || cutmix_alpha > 0.0).then_some(Mixup {
        mixup_alpha,
        cutmix_alpha,
        prob: augment.mixup_prob,
        switch_prob: augment.mixup_switch_prob,
        mode: augment.mixup_mode,
    })
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

/// The model with weights from a folder or a file, whosever names they have; none are drawn. `notice` is told what is
/// done to those that do not fit as they are.
pub fn model_with_weights(
    recipe: &Recipe,
    weights: &Path,
    notice: impl Fn(&str),
) -> Result<(Box<dyn Model>, Parameters)> {
    let mut builder = ParameterBuilder::new(recipe.training.run.seed);
    let model = recipe.model.build(&mut builder)?;
    let mut file = Weights::open(&weights::locate(weights)?)?;
    let plan = file.plan(&builder.shapes().collect::<Vec<_>>(), Some(&recipe.model), false)?;
    let parameters = builder.allocate(DType::F32, &device(recipe.training.run.device)?)?;
    file.read(&plan, &weights::named(&parameters)?)?;
    plan.notices.iter().for_each(|text| notice(text));
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
    let (momentum, nesterov, decay) = (o.momentum, o.nesterov, o.weight_decay);
    let (beta1, beta2, eps) = (o.beta1, o.beta2, o.eps);
    let optimizer: Box<dyn Optimizer> = match o.kind {
        OptimizerKind::Sgd => Box::new(Sgd::new(momentum, nesterov, decay)?),
        OptimizerKind::AdamW => Box::new(AdamW::new(beta1, beta2, eps, decay)?),
        OptimizerKind::ScheduleFreeAdamW => {
            Box::new(ScheduleFreeAdamW::new(beta1, beta2, eps, decay)?)
        }
        OptimizerKind::Muon => Box::new(Muon::new(momentum, nesterov, beta1, beta2, eps, decay)?),
        OptimizerKind::Soap => {
            let (every, longest) = (o.precondition_frequency, o.max_precond_dim);
            Box::new(Soap::new(beta1, beta2, eps, decay, every, longest)?)
        }
    };
    Ok(match o.model_ema_decay {
        0.0 => optimizer,
        decay => Box::new(Ema::new(optimizer, decay, o.model_ema_warmup)?),
    })
}

/// The learning rate over the run's optimizer steps.
pub fn schedule(training: &Training, steps_per_epoch: u64) -> Result<Schedule> {
    let (rate, schedule) = (training.optimizer.learning_rate, &training.schedule);
    let total = training.run.epochs as u64 * steps_per_epoch;
    let before_cooldown = total.saturating_sub(schedule.cooldown_epochs as u64 * steps_per_epoch);
    let falling =
        |form| Schedule::falling(form, rate, schedule.final_learning_rate, before_cooldown);
    let main = match schedule.kind {
        ScheduleKind::Constant => Schedule::constant(rate)?,
        ScheduleKind::Step => {
            let every = schedule.step_epochs as u64 * steps_per_epoch;
            Schedule::step(rate, every, schedule.gamma)?
        }
        ScheduleKind::Cosine => falling(Form::Cosine)?,
        ScheduleKind::Linear => falling(Form::Linear)?,
    };
    let warmup = schedule.warmup_steps + schedule.warmup_epochs as u64 * steps_per_epoch;
    if warmup > 0 && warmup >= before_cooldown {
        let cooldown = if before_cooldown < total { " before its cool-down" } else { "" };
        let reason = format!(
            "warm-up must be shorter than the run, which has {before_cooldown} steps{cooldown}"
        );
        return Err(SettingError::conflict("schedule.warmup_steps", warmup, reason).into());
    }
    Ok(main.with_warmup(warmup, schedule.warmup_learning_rate)?)
}
