//! The error type of this crate.

/// What can go wrong in building or running layers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum Error {
    /// A recorded operation failed.
    #[error(transparent)]
    Autodiff(#[from] vitrine_autodiff::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] vitrine_tensor::Error),
    /// A setting makes no sense.
    #[error(transparent)]
    Setting(#[from] crate::settings::SettingError),
    /// A layer cannot be built with this configuration.
    #[error("{layer}: {what} is {value}; {rule}")]
    Config { layer: &'static str, what: &'static str, value: String, rule: &'static str },
    /// Two parameters have one name.
    #[error("parameter `{name}` was declared twice")]
    DuplicateParameter { name: String },
    /// There is no parameter of this name.
    #[error("there is no parameter `{name}`; the nearest name is `{nearest}`")]
    UnknownParameter { name: String, nearest: String },
    /// A layer was run with the parameters of another model.
    #[error(
        "parameter number {index} of a layer is not of this model: the layer belongs to another one"
    )]
    ForeignParameter { index: usize },
    /// Something needs the LAPACK feature.
    #[error(
        "{what} needs the feature `linalg` (and the system's OpenBLAS: apt-get install libopenblas-dev)"
    )]
    LinalgOff { what: &'static str },
    /// A decomposition failed.
    #[error("{op}: {message}")]
    Linalg { op: &'static str, message: String },
}

/// The result of a layer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
