//! Training a head alone: where the rest is frozen and the pictures are always the same, the rest of the model runs
//! once over the data, without dropout, and its features are kept. What follows trains on them as on pictures.

use std::sync::Arc;

use vitrine_autodiff::Var;
use vitrine_data::{
    DataError, Image, Labels, Loader, LoaderConfig, Preprocessing, SampleAddress, Samples, Scratch,
    Transform,
};
use vitrine_nn::{Headed, InputSpec, Model, Output, Parameters, Pass, Table};

use crate::error::Result;
use crate::objective::DeviceBatch;

/// A model's head as a model: its images are features `[B, F, 1, 1]`.
pub(crate) struct Probe {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) features: usize,
}

/// The model, if nothing but its head can change.
pub(crate) fn head_alone<'a>(
    model: &'a dyn Model,
    parameters: &Parameters,
) -> Option<&'a dyn Headed> {
    let head = |name: &str| model.head().iter().any(|start| name.starts_with(start));
    let mut infos = parameters.infos().iter();
    let frozen = infos.all(|info| info.group.frozen || head(&info.name));
    model.headed().filter(|_| frozen)
}

/// A loader of a data set's features in place of its images.
pub(crate) fn loader(
    model: &dyn Headed,
    parameters: &Parameters,
    images: &Loader,
) -> Result<Loader> {
    let features = Arc::new(Features::of(model, parameters, images)?);
    let preprocessing = Preprocessing::new(features.width, (1, 1));
    let config = LoaderConfig { preprocessing, ..images.config().clone() };
    Ok(Loader::with_transform(features.clone(), config, features)?)
}

impl Model for Probe {
    fn input(&self) -> InputSpec {
        let none = Preprocessing::new(self.features, (1, 1));
        let (mean, std) = (none.mean, none.std);
        InputSpec { channels: self.features, size: (1, 1), mean, std, ..self.model.input() }
    }

    fn forward(&self, pass: &Pass<'_>, images: &Var) -> vitrine_nn::Result<Output> {
        let features = images.reshape(&[images.shape()[0], self.features])?;
        let headed = self.model.headed().expect("`head_alone` was asked");
        headed.classify(pass, &features.to_dtype(pass.dtype())?)
    }

    fn settings(&self) -> vitrine_nn::Result<Table> {
        self.model.settings()
    }
}

/// The features of a data set's samples, in the place of their pictures, which nobody reads any more.
struct Features {
    images: Arc<dyn Samples>,
    width: usize,
    /// None for a picture that cannot be read.
    rows: Vec<Option<Box<[f32]>>>,
}

impl Features {
    fn of(model: &dyn Headed, parameters: &Parameters, loader: &Loader) -> Result<Self> {
        let config = LoaderConfig { shuffle: false, ..loader.config().clone() };
        let loader = Loader::new(loader.dataset().clone(), config)?;
        let (mut width, mut rows) = (0, vec![None; loader.dataset().len()]);
        for batch in loader.epoch(0, 0) {
            let batch = batch?;
            if batch.labels.is_empty() {
                continue;
            }
            let images = DeviceBatch::upload(&batch, parameters.values().device())?.images;
            let pass = Pass::inference(parameters);
            let features = model.features(&pass, &pass.constant(images))?;
            width = features.value().dims().last();
            let values: Vec<f32> =
                features.value().to_dtype(vitrine_tensor::DType::F32)?.to_vec()?;
            for (&sample, row) in batch.samples.iter().zip(values.chunks_exact(width)) {
                rows[sample] = Some(row.into());
            }
            loader.recycle(batch);
        }
        Ok(Self { images: loader.dataset().clone(), width, rows })
    }
}

impl Transform for Features {
    fn output_shape(&self) -> [usize; 3] {
        [self.width, 1, 1]
    }

    fn apply(
        &self,
        address: SampleAddress,
        _: &mut Image,
        _: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let index = address.sample;
        let Some(features) = &self.rows[index] else {
            let reason = "its picture could not be read".to_owned();
            return Err(DataError::Sample { dataset: "features".into(), index, reason });
        };
        out.copy_from_slice(features);
        Ok(())
    }
}

impl Samples for Features {
    fn labels(&self) -> &Labels {
        self.images.labels()
    }

    fn read(&self, _: usize, image: &mut Image) -> Result<(), DataError> {
        image.pixels.resize(1, 0);
        image.shape = [1; 3];
        Ok(())
    }

    fn shares(&self, index: usize, shares: &mut [f32]) -> bool {
        self.images.shares(index, shares)
    }

    fn fingerprint(&self) -> String {
        self.images.fingerprint()
    }
}
