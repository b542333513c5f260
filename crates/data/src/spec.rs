//! What is known of a published dataset: its files, sums, classes and origin. The datasets are in [`crate::catalog`].

/// The two parts of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// What a model is trained on.
    Train,
    /// What it is judged on.
    Test,
}

/// A published dataset: all that is needed to find, fetch, check and read it, also one of your own.
#[derive(Debug)]
pub struct DatasetSpec {
    /// The name on the command line and of the dataset's folder.
    pub name: &'static str,
    /// The name in messages.
    pub title: &'static str,
    /// What each label means.
    pub class_names: &'static [&'static str],
    /// The shape of an image, `[C, H, W]`.
    pub image_shape: [usize; 3],
    /// How the files hold the samples.
    pub form: Form,
    /// The training part.
    pub train: SplitSpec,
    /// The test part.
    pub test: SplitSpec,
    /// The Debian package that holds the files in `/usr/share/datasets/<name>`.
    pub debian_package: Option<&'static str>,
    /// Where the files are published.
    pub origin: Origin,
}

/// How files hold samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Each part is two IDX files: the images, `[samples, height, width]`, and the labels, `[samples]`.
    Idx {
        /// The label of the first class in the files.
        first_label: u8,
        /// Whether rows and columns of the images are swapped. They are turned upright.
        transposed: bool,
    },
    /// Each part is files with the same number of records. A record is one sample: label bytes, then the image.
    Cifar {
        /// The place of the label among the bytes of a record. The image follows it; bytes before it are passed over.
        label_at: usize,
    },
}

/// One part of a dataset.
#[derive(Debug)]
pub struct SplitSpec {
    /// The number of samples.
    pub samples: usize,
    /// The files, in the order that the [`Form`] says.
    pub files: &'static [FileSpec],
}

/// A file of a dataset, which may also be there with `.gz`.
#[derive(Debug)]
pub struct FileSpec {
    /// The file's name without `.gz`.
    pub name: &'static str,
    /// The sum that it is checked with.
    pub md5: PublishedMd5,
}

/// The MD5 of a file that its publisher gives, in lower-case hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishedMd5 {
    /// That of the decompressed contents.
    OfContents(&'static str),
    /// That of the `.gz` file. Only the form of a plain file is checked.
    OfGzip(&'static str),
    /// None. Only the file's form is checked.
    Unknown,
}

/// Where the files of a dataset are published.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    /// Each file alone, with `.gz`, in the folders at these addresses, tried in order.
    Files(&'static [&'static str]),
    /// All files in one `.tar.gz`.
    Archive {
        /// Its addresses, tried in order.
        addresses: &'static [&'static str],
        /// Its MD5, in lower-case hexadecimal.
        md5: &'static str,
        /// The folder in it that holds the files.
        folder: &'static str,
    },
    /// At an address from which the user fetches and unpacks them.
    ByHand(&'static str),
}

impl Origin {
    /// The addresses to fetch from, in order.
    pub(crate) fn addresses(&self) -> &'static [&'static str] {
        match *self {
            Self::Files(addresses) | Self::Archive { addresses, .. } => addresses,
            Self::ByHand(_) => &[],
        }
    }
}

impl DatasetSpec {
    /// One part of the dataset.
    pub fn split(&self, split: Split) -> &SplitSpec {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }

    /// The files of both parts.
    pub fn files(&self) -> impl Iterator<Item = &'static FileSpec> {
        self.train.files.iter().chain(self.test.files)
    }
}
