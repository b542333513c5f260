//! The datasets that Vitrine knows: their files, sums, classes and origins. How they are read is in [`crate::locate`].

use std::fmt;
use std::str::FromStr;

use crate::DataError;

/// A dataset that Vitrine can find or fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatasetName {
    /// Fashion-MNIST: 70,000 grayscale pictures of clothing, 28×28, 10 classes.
    FashionMnist,
    /// MNIST: 70,000 grayscale handwritten digits, 28×28, 10 classes.
    Mnist,
}

/// The two parts of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What a model is trained on.
    Train,
    /// What it is judged on.
    Test,
}

/// A dataset in IDX files: all that is needed to find, fetch and check it.
///
/// A dataset of your own in the same format needs a constant of this type and nothing else.
#[derive(Debug)]
pub struct IdxSpec {
    /// The name on the command line and of the dataset's folder.
    pub name: &'static str,
    /// The name in messages.
    pub title: &'static str,
    /// What each label means.
    pub class_names: &'static [&'static str],
    /// The images' size (height, width). They have one channel.
    pub image_size: (usize, usize),
    /// The training part.
    pub train: SplitSpec,
    /// The test part.
    pub test: SplitSpec,
    /// The Debian package that holds the files in `/usr/share/datasets/<name>`.
    pub debian_package: Option<&'static str>,
    /// Addresses of folders that hold the files with `.gz`, tried in order.
    pub addresses: &'static [&'static str],
}

/// One part of a dataset: two files.
#[derive(Debug)]
pub struct SplitSpec {
    /// The number of samples.
    pub samples: usize,
    /// The images, an IDX array `[samples, height, width]`.
    pub images: FileSpec,
    /// The labels, an IDX array `[samples]`.
    pub labels: FileSpec,
}

/// A file and the MD5 of its decompressed contents.
#[derive(Debug)]
pub struct FileSpec {
    /// The file's name without `.gz`.
    pub name: &'static str,
    /// MD5 of the decompressed contents, in lower-case hexadecimal.
    pub md5: &'static str,
}

const fn file(name: &'static str, md5: &'static str) -> FileSpec {
    FileSpec { name, md5 }
}

static FASHION_MNIST: IdxSpec = IdxSpec {
    name: "fashion-mnist",
    title: "Fashion-MNIST",
    class_names: &[
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    image_size: (28, 28),
    train: SplitSpec {
        samples: 60_000,
        images: file("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        labels: file("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
    },
    test: SplitSpec {
        samples: 10_000,
        images: file("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
        labels: file("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
    },
    debian_package: Some("dataset-fashion-mnist"),
    addresses: &[
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    ],
};

static MNIST: IdxSpec = IdxSpec {
    name: "mnist",
    title: "MNIST",
    class_names: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    image_size: (28, 28),
    train: SplitSpec {
        samples: 60_000,
        images: file("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
        labels: file("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    },
    test: SplitSpec {
        samples: 10_000,
        images: file("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
        labels: file("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
    },
    debian_package: None,
    addresses: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ],
};

impl DatasetName {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::FashionMnist, Self::Mnist];

    /// The dataset's files, classes and origins.
    pub fn spec(self) -> &'static IdxSpec {
        match self {
            Self::FashionMnist => &FASHION_MNIST,
            Self::Mnist => &MNIST,
        }
    }
}

/// The name on the command line: `fashion-mnist`, `mnist`.
impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spec().name)
    }
}

/// Reads what [`Display`](fmt::Display) writes.
impl FromStr for DatasetName {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL.into_iter().find(|dataset| dataset.spec().name == name).ok_or_else(|| {
            let known = Self::ALL.iter().map(|dataset| dataset.spec().name).collect();
            DataError::UnknownDataset { name: name.to_owned(), known }
        })
    }
}

impl IdxSpec {
    /// One part of the dataset.
    pub fn split(&self, split: Split) -> &SplitSpec {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// All four files.
    pub fn files(&self) -> [&FileSpec; 4] {
        [&self.train.images, &self.train.labels, &self.test.images, &self.test.labels]
    }
}

impl IdxSpec {
    /// Channels of the images.
    pub fn channels(&self) -> usize {
        1
    }
}
