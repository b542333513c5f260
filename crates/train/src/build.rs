//! From a recipe to the parts of a run: model, optimizer, schedule, data. No loop lives here.

use std::path::PathBuf;
use std::sync::Arc;

use vitrine_data::{
    DatasetName, IdxSpec, Loader, LoaderConfig, Locator, Preprocessing, Samples, Split,
};
use vitrine_models::{Initialisation, VisionTransformer, VitConfig};
use vitrine_nn::schedule::Schedule;
use vitrine_nn::{Activation, AdamW, Optimizer, ParameterBuilder, Parameters, Sgd};
use vitrine_tensor::{DType, Device};

use crate::error::{Result, TrainError};
use crate::recipe::{self, Recipe};

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
        recipe: &Recipe,
        folder: Option<PathBuf>,
        notice: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self> {
        let locator = Locator::from_env(folder).on_notice(notice);
        Ok(Self {
            train: dataset(recipe, Split::Train, &locator)?,
            val: dataset(recipe, Split::Test, &locator)?,
        })
    }
}

/// One part of the recipe's data set, as much of it as the recipe asks for.
pub fn dataset(recipe: &Recipe, split: Split, locator: &Locator) -> Result<Arc<dyn Samples>> {
    let limit = match split {
        Split::Train => recipe.data.limit_train,
        Split::Test => recipe.data.limit_val,
    };
    let dataset = locator.load(spec_of(recipe.data.dataset), split)?;
    let limit = if limit == 0 { dataset.len() } else { limit };
    Ok(Arc::new(dataset.limit(limit)))
}

/// The files of a recipe's data set.
pub fn spec_of(dataset: recipe::Dataset) -> &'static IdxSpec {
    match dataset {
        recipe::Dataset::FashionMnist => DatasetName::FashionMnist.spec(),
        recipe::Dataset::Mnist => DatasetName::Mnist.spec(),
    }
}

/// The batches of a data set as a recipe asks for them.
pub fn loader(recipe: &Recipe, dataset: Arc<dyn Samples>, shuffle: bool) -> Result<Loader> {
    let classes = dataset.class_names().len();
    if classes != recipe.model.classes {
        return Err(TrainError::Classes {
            dataset: dataset.name().to_owned(),
            found: classes,
            expected: recipe.model.classes,
        });
    }
    let size = recipe.model.image_size;
    let preprocessing = Preprocessing::new(recipe.model.channels, (size.height, size.width));
    let config = LoaderConfig {
        shuffle,
        seed: recipe.run.seed,
        workers: recipe.data.workers,
        prefetch: recipe.data.prefetch,
        ..LoaderConfig::new(recipe.run.batch_size, preprocessing)
    };
    Ok(Loader::new(dataset, config)?)
}

/// The model's configuration.
pub fn vit_config(recipe: &Recipe) -> VitConfig {
    let model = &recipe.model;
    VitConfig {
        image_size: (model.image_size.height, model.image_size.width),
        patch_size: (model.patch_size.height, model.patch_size.width),
        channels: model.channels,
        classes: model.classes,
        width: model.width,
        depth: model.depth,
        heads: model.heads,
        mlp_width: model.mlp_width,
        dropout: model.dropout,
        attention_dropout: model.attention_dropout,
        embedding_dropout: model.embedding_dropout,
        qkv_bias: model.qkv_bias,
        projection_bias: model.projection_bias,
        pool: match model.pool {
            recipe::Pool::ClassToken => vitrine_models::Pool::ClassToken,
            recipe::Pool::Mean => vitrine_models::Pool::Mean,
        },
        activation: match model.gelu {
            recipe::Gelu::Erf => Activation::GeluErf,
            recipe::Gelu::Tanh => Activation::GeluTanh,
        },
        layer_norm_eps: model.layer_norm_eps,
        initialisation: match model.init {
            recipe::Init::Torch => Initialisation::Torch,
            recipe::Init::Flax => Initialisation::Flax,
        },
        last_block_saving: model.last_block_saving,
        recompute: model.recompute,
    }
}

/// The device that the recipe asks for.
pub fn device(recipe: &Recipe) -> Result<Device> {
    match recipe.run.device {
        recipe::Device::Cpu => Ok(Device::cpu()),
        #[cfg(feature = "cuda")]
        recipe::Device::Cuda(ordinal) => Ok(vitrine_cuda::device(ordinal)?),
        #[cfg(not(feature = "cuda"))]
        recipe::Device::Cuda(_) => Err(TrainError::Unavailable {
            what: format!("device {}", recipe.run.device),
            advice: "this program was built without CUDA; `cargo xtask train --device cuda:0` builds one that has it, \
                     and --device cpu needs none",
        }),
    }
}

/// The model and its parameters with their first values.
pub fn model(recipe: &Recipe) -> Result<(VisionTransformer, Parameters)> {
    let device = device(recipe)?;
    let mut builder = ParameterBuilder::new(recipe.run.seed);
    let model = VisionTransformer::new(&mut builder.scope(""), &vit_config(recipe))?;
    let computed_in = match recipe.run.precision {
        recipe::Precision::F32 => DType::F32,
        recipe::Precision::Bf16 => DType::BF16,
    };
    Ok((model, builder.build(DType::F32, &device)?.computing_in(computed_in)?))
}

/// The optimizer.
pub fn optimizer(recipe: &Recipe) -> Result<Box<dyn Optimizer>> {
    let o = &recipe.optimizer;
    Ok(match o.kind {
        recipe::OptimizerKind::Sgd => Box::new(Sgd::new(o.momentum, o.nesterov, o.weight_decay)?),
        recipe::OptimizerKind::AdamW => {
            Box::new(AdamW::new(o.beta1, o.beta2, o.eps, o.weight_decay)?)
        }
    })
}

/// The learning rate over the run's optimizer steps.
pub fn schedule(recipe: &Recipe, steps_per_epoch: u64) -> Result<Schedule> {
    let (rate, schedule) = (recipe.optimizer.learning_rate, &recipe.schedule);
    let main = match schedule.kind {
        recipe::ScheduleKind::Constant => Schedule::constant(rate)?,
        recipe::ScheduleKind::Step => {
            let every = schedule.step_epochs as u64 * steps_per_epoch;
            Schedule::step(rate, every, schedule.gamma)?
        }
        recipe::ScheduleKind::Cosine => {
            let total = recipe.run.epochs as u64 * steps_per_epoch;
            Schedule::cosine(rate, schedule.final_learning_rate, total)?
        }
    };
    let warmup = schedule.warmup_steps + schedule.warmup_epochs as u64 * steps_per_epoch;
    Ok(main.with_warmup(warmup)?)
}
