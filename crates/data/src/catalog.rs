//! The datasets that Vitrine knows. How they are found is in [`crate::locate`], how they are read in `files`.

use crate::spec::PublishedMd5::{OfContents, OfGzip, Unknown};
use crate::spec::{DatasetSpec, FileSpec, Form, Origin, PublishedMd5, SplitSpec};

/// Makes [`DatasetName`] of the datasets' names and specs.
macro_rules! catalog {
    ($($(#[$about:meta])* $name:ident = $spec:expr;)*) => {
        /// A dataset that Vitrine can find. All but EMNIST it can also fetch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DatasetName { $($(#[$about])* $name),* }

        impl DatasetName {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            /// The dataset's files, classes and origins.
            pub fn spec(self) -> &'static DatasetSpec {
                match self {
                    $(Self::$name => { static SPEC: DatasetSpec = $spec; &SPEC })*
                }
            }
        }
    };
}

/// Words as a list of texts.
macro_rules! names {
    ($($name:tt)*) => { &[$(stringify!($name)),*] };
}

/// A dataset in IDX files, whose names begin with those of its two parts.
macro_rules! idx {
    (
        $name:literal, $title:literal, $class_names:expr, $form:expr,
        $train:literal: $train_samples:literal, $test:literal: $test_samples:literal,
        $md5:expr, $debian_package:expr, $origin:expr $(,)?
    ) => {{
        const MD5: [PublishedMd5; 4] = $md5;
        DatasetSpec {
            name: $name,
            title: $title,
            class_names: $class_names,
            image_shape: [1, 28, 28],
            form: $form,
            train: SplitSpec {
                samples: $train_samples,
                files: &[
                    file(concat!($train, "-images-idx3-ubyte"), MD5[0]),
                    file(concat!($train, "-labels-idx1-ubyte"), MD5[1]),
                ],
            },
            test: SplitSpec {
                samples: $test_samples,
                files: &[
                    file(concat!($test, "-images-idx3-ubyte"), MD5[2]),
                    file(concat!($test, "-labels-idx1-ubyte"), MD5[3]),
                ],
            },
            debian_package: $debian_package,
            origin: $origin,
        }
    }};
}

/// The datasets of EMNIST are stored with rows and columns swapped, and have no published sums of their own.
const fn emnist(first_label: u8) -> Form {
    Form::Idx { first_label, transposed: true }
}

const EMNIST: Origin = Origin::ByHand("https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip");

const fn file(name: &'static str, md5: PublishedMd5) -> FileSpec {
    FileSpec { name, md5 }
}

const UPRIGHT: Form = Form::Idx { first_label: 0, transposed: false };
const DIGITS: &[&str] = names!(0 1 2 3 4 5 6 7 8 9);
const LETTERS: &[&str] = names!(a b c d e f g h i j k l m n o p q r s t u v w x y z);
const BOTH_CASES: &[&str] = names!(
    0 1 2 3 4 5 6 7 8 9 A B C D E F G H I J K L M N O P Q R S T U V W X Y Z
    a b c d e f g h i j k l m n o p q r s t u v w x y z
);
/// Without the small letters that look like the capital ones.
const MERGED: &[&str] = names!(
    0 1 2 3 4 5 6 7 8 9 A B C D E F G H I J K L M N O P Q R S T U V W X Y Z a b d e f g h n q r t
);

catalog! {
    /// Fashion-MNIST: 70,000 grayscale pictures of clothing, 28×28, 10 classes.
    FashionMnist = idx!(
        "fashion-mnist", "Fashion-MNIST",
        &[
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ],
        UPRIGHT, "train": 60_000, "t10k": 10_000,
        [
            OfContents("f4a8712d7a061bf5bd6d2ca38dc4d50a"), OfContents("9018921c3c673c538a1fc5bad174d6f9"),
            OfContents("8181f5470baa50b63fa0f6fddb340f0a"), OfContents("15d484375f8d13e6eb1aabb0c3f46965"),
        ],
        Some("dataset-fashion-mnist"),
        Origin::Files(&[
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
        ]),
    );

    /// MNIST: 70,000 grayscale handwritten digits, 28×28, 10 classes.
    Mnist = idx!(
        "mnist", "MNIST", DIGITS, UPRIGHT, "train": 60_000, "t10k": 10_000,
        [
            OfContents("6bbc9ace898e44ae57da46a324031adb"), OfContents("a25bea736e30d166cdddb491f175f624"),
            OfContents("2646ac647ad5339dbf082846283269ea"), OfContents("27ae3e4e09519cfbb04c329615203637"),
        ],
        None,
        Origin::Files(&[
            "https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist",
        ]),
    );

    /// KMNIST: 70,000 grayscale characters of old Japanese books, 28×28, 10 classes.
    Kmnist = idx!(
        "kmnist", "KMNIST", names!(o ki su tsu na ha ma ya re wo), UPRIGHT, "train": 60_000, "t10k": 10_000,
        [
            OfGzip("bdb82020997e1d708af4cf47b453dcf7"), OfGzip("e144d726b3acfaa3e44228e80efcd344"),
            OfGzip("5c965bf0a639b31b8f53240b1b52f4d7"), OfGzip("7320c461ea6c1c855c0b718fb2a4b134"),
        ],
        None, Origin::Files(&["http://codh.rois.ac.jp/kmnist/dataset/kmnist"]),
    );

    /// EMNIST Balanced: 131,600 handwritten digits and letters, like MNIST, 47 classes.
    EmnistBalanced = idx!(
        "emnist-balanced", "EMNIST Balanced", MERGED, emnist(0),
        "emnist-balanced-train": 112_800, "emnist-balanced-test": 18_800, [Unknown; 4], None, EMNIST,
    );
    /// EMNIST Letters: 145,600 letters, small and capital in one class, 26 classes.
    EmnistLetters = idx!(
        "emnist-letters", "EMNIST Letters", LETTERS, emnist(1),
        "emnist-letters-train": 124_800, "emnist-letters-test": 20_800, [Unknown; 4], None, EMNIST,
    );
    /// EMNIST Digits: 280,000 digits, 10 classes.
    EmnistDigits = idx!(
        "emnist-digits", "EMNIST Digits", DIGITS, emnist(0),
        "emnist-digits-train": 240_000, "emnist-digits-test": 40_000, [Unknown; 4], None, EMNIST,
    );
    /// EMNIST MNIST: 70,000 digits, 10 classes.
    EmnistMnist = idx!(
        "emnist-mnist", "EMNIST MNIST", DIGITS, emnist(0),
        "emnist-mnist-train": 60_000, "emnist-mnist-test": 10_000, [Unknown; 4], None, EMNIST,
    );
    /// EMNIST ByClass: 814,255 digits and letters, 62 classes.
    EmnistByClass = idx!(
        "emnist-byclass", "EMNIST ByClass", BOTH_CASES, emnist(0),
        "emnist-byclass-train": 697_932, "emnist-byclass-test": 116_323, [Unknown; 4], None, EMNIST,
    );
    /// EMNIST ByMerge: the same in 47 classes.
    EmnistByMerge = idx!(
        "emnist-bymerge", "EMNIST ByMerge", MERGED, emnist(0),
        "emnist-bymerge-train": 697_932, "emnist-bymerge-test": 116_323, [Unknown; 4], None, EMNIST,
    );

    /// CIFAR-10: 60,000 coloured pictures of animals and vehicles, 32×32, 10 classes.
    Cifar10 = DatasetSpec {
        name: "cifar10", title: "CIFAR-10", image_shape: [3, 32, 32], form: Form::Cifar { label_at: 0 },
        class_names: names!(airplane automobile bird cat deer dog frog horse ship truck),
        train: SplitSpec { samples: 50_000, files: &[
            file("data_batch_1.bin", Unknown), file("data_batch_2.bin", Unknown), file("data_batch_3.bin", Unknown),
            file("data_batch_4.bin", Unknown), file("data_batch_5.bin", Unknown),
        ] },
        test: SplitSpec { samples: 10_000, files: &[file("test_batch.bin", Unknown)] },
        debian_package: None,
        origin: Origin::Archive {
            addresses: &["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"],
            md5: "c32a1d4ab5d03f1284b67883e8d87530", folder: "cifar-10-batches-bin",
        },
    };

    /// CIFAR-100: 60,000 coloured pictures, 32×32, 100 classes (the fine ones).
    Cifar100 = DatasetSpec {
        name: "cifar100", title: "CIFAR-100", image_shape: [3, 32, 32], form: Form::Cifar { label_at: 1 },
        class_names: names!(
            apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
            castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
            elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
            lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
            pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
            shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
            telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
        ),
        train: SplitSpec { samples: 50_000, files: &[file("train.bin", Unknown)] },
        test: SplitSpec { samples: 10_000, files: &[file("test.bin", Unknown)] },
        debian_package: None,
        origin: Origin::Archive {
            addresses: &["https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"],
            md5: "03b5dce01913d631647c71ecec9e9cb8", folder: "cifar-100-binary",
        },
    };
}
