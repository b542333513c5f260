//! Image datasets, transforms and a deterministic batch loader.
//!
//! This crate brings images from files into batches of `f32` on the host. It knows no model and no device. A
//! [`Dataset`] is a set of labelled images in memory, as bytes. A [`Loader`] gives it out in batches: shuffled, and
//! with the [`Preprocessing`] that a model needs (channels, size, mean and standard deviation), `[B, C, H, W]`.
//!
//! ```
//! use std::sync::Arc;
//! use vitrine_data::{Dataset, Loader, LoaderConfig, Preprocessing};
//!
//! // 100 images of 1 × 28 × 28 in 10 classes, made up on the spot.
//! let dataset = Arc::new(Dataset::synthetic(100, [1, 28, 28], 10, 0)?);
//! let preprocessing = Preprocessing::new(1, (96, 96));
//! let config = LoaderConfig { shuffle: true, seed: 1, ..LoaderConfig::new(32, preprocessing) };
//! let loader = Loader::new(dataset, config)?;
//!
//! let mut seen = 0;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.shape[1..], [1, 96, 96]);
//!     assert!(batch.images.iter().all(|v| (0.0..=1.0).contains(v)));
//!     seen += batch.labels.len();
//!     // A loop that gives its batches back allocates nothing after the first few.
//!     loader.recycle(batch);
//! }
//! assert_eq!(seen, 100); // three batches of 32 and one of 4
//! # Ok::<(), vitrine_data::DataError>(())
//! ```
//!
//! # Real data
//!
//! [`DatasetName`] lists the datasets that Vitrine knows. A [`Locator`] finds their files, or fetches them into the
//! user's cache folder, and checks them. [`DatasetSpec`] describes such a dataset.
//!
//! ```no_run
//! use vitrine_data::{DatasetName, Locator, Samples, Split};
//!
//! let locator = Locator::from_env(None).on_notice(|line| eprintln!("{line}"));
//! let train = locator.load(DatasetName::FashionMnist.spec(), Split::Train)?;
//! assert_eq!(train.class_names()[9], "Ankle boot");
//! # Ok::<(), vitrine_data::DataError>(())
//! ```
//!
//! # A dataset of your own
//!
//! [`Samples`] is all that the loader knows of a dataset. Its pictures may come from anywhere, and differ in size and
//! in channels; workers read them. [`Image::decode`] is for pictures in files, [`Samples::shares`] for soft targets.
//!
//! ```
//! use std::sync::Arc;
//! use vitrine_data::{DataError, Image, Labels, Loader, LoaderConfig, Preprocessing, Samples};
//!
//! /// Grey pictures of growing size, dark or bright.
//! struct Squares(Labels);
//!
//! impl Samples for Squares {
//!     fn labels(&self) -> &Labels { &self.0 }
//!     fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
//!         let side = index + 1;
//!         image.shape = [1, side, side];
//!         image.pixels.clear();
//!         image.pixels.resize(side * side, [30, 220][index % 2]);
//!         Ok(())
//!     }
//! }
//!
//! let classes = vec!["dark".to_owned(), "bright".to_owned()];
//! let labels = Labels::new("squares", classes, (0..20).map(|index| index % 2).collect())?;
//! let config = LoaderConfig::new(20, Preprocessing::new(3, (8, 8)));
//! let loader = Loader::new(Arc::new(Squares(labels)), config)?;
//! assert_eq!(loader.epoch(0, 0).next().unwrap()?.shape, [20, 3, 8, 8]);
//! # Ok::<(), DataError>(())
//! ```
//!
//! # Pictures of your own
//!
//! [`Source::detect`] looks what a folder holds, and [`Source::open`] opens its parts: [`Pictures`] in class folders or
//! tar files, or the files of a known dataset. [`Subset`] takes some classes, or holds a part out; [`Cached`] keeps
//! decoded pictures in memory. [`augment::Augmentation`] is what timm does to a training picture. [`load_image`] brings
//! a single picture into the form of a model's input, as the loader does.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use vitrine_data::augment::{Augmentation, RandomCrop};
//! use vitrine_data::{Loader, LoaderConfig, MAX_PIXELS, Pictures, Preprocessing, Subset};
//!
//! let pictures = Pictures::in_folder(Path::new("my-pictures"), "mine", None, MAX_PIXELS)?;
//! let [train, held_out] = Subset::holdout(&(Arc::new(pictures) as _), 0.2, 0)?;
//! let config = LoaderConfig { shuffle: true, ..LoaderConfig::new(64, Preprocessing::new(3, (224, 224))) };
//! let augmentation = Augmentation {
//!     crop: RandomCrop::Resized,
//!     hflip: 0.5,
//!     policy: Some("rand-m9-mstd0.5-inc1".parse()?),
//!     ..Augmentation::none(config.preprocessing.clone())
//! };
//! let batches = Loader::with_transform(train, config.clone(), Arc::new(augmentation))?;
//! let judged = Loader::new(held_out, LoaderConfig { shuffle: false, ..config })?;
//! # Ok::<(), vitrine_data::DataError>(())
//! ```
//!
//! # What can be relied on
//!
//! - **A batch is a function of its address.** It depends on the dataset, the transform, the seed, the epoch and its
//!   index; not on the number of workers, how far they are ahead, or where in the epoch a run goes on.
//! - **Resizing gives what Pillow gives**, and so torchvision's `Resize` on PIL images, to the byte and on every
//!   machine. (Pillow 13 differs by one grey level where the height shrinks far more than the width.) See [`Resizer`].
//! - **No failure is silent.** Each is a [`DataError`] that names the file or the sample, a panic in a worker too.
//! - **Memory stays small.** Each worker holds one picture as bytes, in its own size; at most `prefetch` batches wait.
//!
//! A [`Transform`] of your own is told the [`SampleAddress`] (seed, epoch, sample), so that a random one can be a
//! function of it. It may change the picture and hand it to [`Preprocessing`].

pub mod augment;
mod batches;
mod cache;
mod catalog;
mod dataset;
mod error;
mod fetch;
mod files;
mod folder;
mod loader;
mod locate;
mod picture;
mod preprocessing;
mod random;
mod resize;
mod samples;
mod shards;
mod source;
mod spec;
mod subset;
mod transform;

pub use batches::Batches;
pub use cache::{CacheSpace, Cached};
pub use catalog::DatasetName;
pub use dataset::Dataset;
pub use error::{DataError, Result};
pub use fetch::FetchMethod;
pub use loader::{Batch, Loader, LoaderConfig};
pub use locate::Locator;
pub use picture::{MAX_PIXELS, Pictures, decode_image, load_image};
pub use preprocessing::{CropMode, Preprocessing};
pub use resize::{Interpolation, Resizer};
pub use samples::{Image, Labels, Rect, Samples};
pub use source::{Parts, Source};
pub use spec::{DatasetSpec, FileSpec, Form, Origin, PublishedMd5, Split, SplitSpec};
pub use subset::Subset;
pub use transform::{SampleAddress, Scratch, Transform};
