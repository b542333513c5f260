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

/// One of the datasets of EMNIST, whose files have no published sums of their own.
macro_rules! emnist {
    ($name:literal, $title:literal, $class_names:expr, $first_label:literal, $train:literal, $test:literal) => {
        DatasetSpec {
            name: concat!("emnist-", $name),
            title: concat!("EMNIST ", $title),
            class_names: $class_names,
            image_shape: [1, 28, 28],
            form: Form::Idx { first_label: $first_label, transposed: true },
            train: SplitSpec {
                samples: $train,
                files: &[
                    file(concat!("emnist-", $name, "-train-images-idx3-ubyte"), Unknown),
                    file(concat!("emnist-", $name, "-train-labels-idx1-ubyte"), Unknown),
                ],
            },
            test: SplitSpec {
                samples: $test,
                files: &[
                    file(concat!("emnist-", $name, "-test-images-idx3-ubyte"), Unknown),
                    file(concat!("emnist-", $name, "-test-labels-idx1-ubyte"), Unknown),
                ],
            },
            debian_package: None,
            origin: Origin::ByHand("https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip"),
        }
    };
}

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
    FashionMnist = DatasetSpec {
        name: "fashion-mnist", title: "Fashion-MNIST", image_shape: [1, 28, 28], form: UPRIGHT,
        class_names: &[
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ],
        train: SplitSpec { samples: 60_000, files: &[
            file("train-images-idx3-ubyte", OfContents("f4a8712d7a061bf5bd6d2ca38dc4d50a")),
            file("train-labels-idx1-ubyte", OfContents("9018921c3c673c538a1fc5bad174d6f9")),
        ] },
        test: SplitSpec { samples: 10_000, files: &[
            file("t10k-images-idx3-ubyte", OfContents("8181f5470baa50b63fa0f6fddb340f0a")),
            file("t10k-labels-idx1-ubyte", OfContents("15d484375f8d13e6eb1aabb0c3f46965")),
        ] },
        debian_package: Some("dataset-fashion-mnist"),
        origin: Origin::Files(&[
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
        ]),
    };

    /// MNIST: 70,000 grayscale handwritten digits, 28×28, 10 classes.
    Mnist = DatasetSpec {
        name: "mnist", title: "MNIST", image_shape: [1, 28, 28], form: UPRIGHT, class_names: DIGITS,
        train: SplitSpec { samples: 60_000, files: &[
            file("train-images-idx3-ubyte", OfContents("6bbc9ace898e44ae57da46a324031adb")),
            file("train-labels-idx1-ubyte", OfContents("a25bea736e30d166cdddb491f175f624")),
        ] },
        test: SplitSpec { samples: 10_000, files: &[
            file("t10k-images-idx3-ubyte", OfContents("2646ac647ad5339dbf082846283269ea")),
            file("t10k-labels-idx1-ubyte", OfContents("27ae3e4e09519cfbb04c329615203637")),
        ] },
        debian_package: None,
        origin: Origin::Files(&[
            "https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist",
        ]),
    };

    /// KMNIST: 70,000 grayscale characters of old Japanese books, 28×28, 10 classes.
    Kmnist = DatasetSpec {
        name: "kmnist", title: "KMNIST", image_shape: [1, 28, 28], form: UPRIGHT,
        class_names: names!(o ki su tsu na ha ma ya re wo),
        train: SplitSpec { samples: 60_000, files: &[
            file("train-images-idx3-ubyte", OfGzip("bdb82020997e1d708af4cf47b453dcf7")),
            file("train-labels-idx1-ubyte", OfGzip("e144d726b3acfaa3e44228e80efcd344")),
        ] },
        test: SplitSpec { samples: 10_000, files: &[
            file("t10k-images-idx3-ubyte", OfGzip("5c965bf0a639b31b8f53240b1b52f4d7")),
            file("t10k-labels-idx1-ubyte", OfGzip("7320c461ea6c1c855c0b718fb2a4b134")),
        ] },
        debian_package: None,
        origin: Origin::Files(&["http://codh.rois.ac.jp/kmnist/dataset/kmnist"]),
    };

    /// EMNIST Balanced: 131,600 handwritten digits and letters, like MNIST, 47 classes.
    EmnistBalanced = emnist!("balanced", "Balanced", MERGED, 0, 112_800, 18_800);
    /// EMNIST Letters: 145,600 letters, small and capital in one class, 26 classes.
    EmnistLetters = emnist!("letters", "Letters", LETTERS, 1, 124_800, 20_800);
    /// EMNIST Digits: 280,000 digits, 10 classes.
    EmnistDigits = emnist!("digits", "Digits", DIGITS, 0, 240_000, 40_000);
    /// EMNIST MNIST: 70,000 digits, 10 classes.
    EmnistMnist = emnist!("mnist", "MNIST", DIGITS, 0, 60_000, 10_000);
    /// EMNIST ByClass: 814,255 digits and letters, 62 classes.
    EmnistByClass = emnist!("byclass", "ByClass", BOTH_CASES, 0, 697_932, 116_323);
    /// EMNIST ByMerge: the same in 47 classes.
    EmnistByMerge = emnist!("bymerge", "ByMerge", MERGED, 0, 697_932, 116_323);

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
