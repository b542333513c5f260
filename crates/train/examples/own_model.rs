//! A model, a data set and a loss of one's own, trained with checkpoints, resume, progress and report.
use std::{path::Path, sync::Arc, sync::atomic::AtomicBool};

use vitrine_autodiff::Var;
use vitrine_data::{DataError, Image, Labels, Samples};
use vitrine_nn::*;
use vitrine_tensor::{DType, Device, Tensor};
use vitrine_train::trainer::{CONFIG, Outcome, Trainer};
use vitrine_train::{TrainError, build::*, objective::*, progress::Progress, recipe::Training};

/// An MLP-mixer (Tolstikhin et al. 2021) of one block for gray pictures of 16 by 16.
struct Mixer(PatchEmbedding, LayerNorm, [Mlp; 2], Linear);

fn mixer(scope: &mut Scope<'_>, width: usize) -> Result<Mixer> {
    let (init, dropout, activation) = (Init::TORCH, 0.1, Activation::Relu);
    let stem = PatchEmbedding::new(scope, (16, 16), (4, 4), 1, width, &init, &init)?;
    let mut mlp = |name, width| {
        let config = MlpConfig { activation, dropout, ..MlpConfig::new(width, 64) };
        Mlp::new(&mut scope.scope(name), &config)
    };
    let mlps = [mlp("mlp_tokens", stem.patches())?, mlp("mlp_channels", width)?];
    let head = Linear::new(&mut scope.scope("head"), width, 3, &init, Some(&init))?;
    Ok(Mixer(stem, LayerNorm::new(&mut scope.scope("norm"), width, 1e-6), mlps, head))
}

impl Model for Mixer {
    fn input(&self) -> InputSpec {
        InputSpec { channels: 1, size: (16, 16), mean: vec![0.5], std: vec![0.5], classes: 3 }
    }
    fn settings(&self) -> Result<Table> {
        Ok(Table::from_iter([("family".to_owned(), "mixer".into())]))
    }
    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output> {
        let x = self.0.forward(pass, images)?.permute(&[0, 2, 1])?; // [B, D, N]
        let x = self.2[0].forward(pass, &x, Some(&x))?.permute(&[0, 2, 1])?; // [B, N, D]
        let x = self.2[1].forward(pass, &self.1.forward(pass, &x)?, Some(&x))?;
        Ok(self.3.forward(pass, &x.mean_axis(1)?)?.into()) // [B, K]
    }
}

/// Pictures of stripes across, stripes down, and both.
struct Stripes(Labels);

#[rustfmt::skip]
impl Samples for Stripes {
    fn labels(&self) -> &Labels { &self.0 }
    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        let bright = |at: usize| (at + index / 3).is_multiple_of(4);
        let pixel = |x, y| [bright(y), bright(x), bright(x) || bright(y)][index % 3];
        image.shape = [1, 16, 16];
        image.pixels = (0..256).map(|i| 255 * u8::from(pixel(i % 16, i / 16))).collect();
        Ok(())
    }
}

/// The mean squared distance of the probabilities from the truth (Brier 1950).
struct Brier;

impl Objective for Brier {
    fn loss(&self, output: &Output, batch: &DeviceBatch) -> Result<Var, TrainError> {
        let (share, rows) = (output.logits.softmax()?, batch.labels.elements());
        let labels = batch.labels.to_vec::<i64>()?.into_iter();
        let truth: Vec<f32> =
            labels.flat_map(|k| [0, 1, 2].map(|i| (i == k) as u8 as f32)).collect();
        let truth = Tensor::from_slice(&truth, &[rows, 3], &Device::cpu())?;
        let off = share.sub(&share.tape().constant(truth))?;
        Ok(off.mul(&off)?.sum()?.scale(1.0 / rows as f64)?)
    }
    fn settings(&self) -> Result<Table, TrainError> {
        Ok(Table::from_iter([("kind".to_owned(), "brier".into())]))
    }
}

fn train(folder: &Path, epochs: u64) -> Result<Outcome, TrainError> {
    let text = "optimizer = { kind = \"adamw\", learning_rate = 0.01 }\nrun.batch_size = 32";
    let training = Training::parse(&format!("{text}\nrun.epochs = {epochs}"), "own_model")?;
    let mut builder = ParameterBuilder::new(training.run.seed);
    let model = Box::new(mixer(&mut builder.scope(""), 32)?);
    let parameters = builder.build(DType::F32, &Device::cpu())?;
    let stripes = |count| {
        let names = ["across", "down", "both"].map(String::from).to_vec();
        let labels = Labels::new("stripes", names, (0..count).map(|index| index % 3).collect());
        labels.map(|labels| Arc::new(Stripes(labels)))
    };
    let data = Datasets::new(stripes(600)?, stripes(150)?);
    let parts = Parts { model, parameters, data, objective: Box::new(Brier) };
    let start = if folder.join(CONFIG).exists() { Trainer::resume } else { Trainer::create };
    start(parts, &training, folder)?.run(&mut Progress::stderr(), &AtomicBool::new(false))
}

fn main() -> Result<(), TrainError> {
    let folder = std::env::temp_dir().join(format!("own-model-{}", std::process::id()));
    train(&folder, 2)?;
    // The run is there already, and goes on.
    let Outcome::Finished(last) = train(&folder, 4)? else { unreachable!("nobody stops it") };
    assert!(last.epoch == 4 && last.val_accuracy > 0.95, "{last:?}");
    println!("{}/report.html", folder.display());
    Ok(())
}
