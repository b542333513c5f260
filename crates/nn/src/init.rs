//! Initialisers: those of PyTorch, Flax and timm, and orthogonal. All draw from Philox, addressed by the parameter.

use std::iter;

use vitrine_tensor::StreamKey;

use crate::error::Result;
use crate::linalg;

/// How a parameter's first values are drawn.
///
/// The fan-in of a weight `[out, in]` is `in`; that of a bias is its layer's, which the layer states.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// U(−b, b) with `b = scale/√fan_in`.
    FanInUniform {
        /// The factor before `1/√fan_in`.
        scale: f64,
    },
    /// N(0, σ²).
    Normal {
        /// σ
        std: f64,
    },
    /// N(0, σ²) cut at ±2σ, so that its standard deviation is 0.88σ: timm's `trunc_normal_` cuts at ±2 in absolute
    /// terms, which for its σ of 0.02 cuts nothing; this one is TensorFlow's and JAX's.
    TruncatedNormal {
        /// σ before the cut.
        std: f64,
    },
    /// The truncated normal whose standard deviation after the cut is `√(1/fan_in)`: Flax's `lecun_normal`
    /// (LeCun et al. 1998, section 4.6; Klambauer et al. 2017).
    LecunNormal,
    /// U(−b, b) with `b = √(6/(fan_in + fan_out))` (Glorot and Bengio 2010, equation 16).
    XavierUniform,
    /// N(0, 2/fan_out) (He et al. 2015, section 2.2, for the way back): what torchvision and timm give convolutions.
    KaimingNormal,
    /// Rows (or columns, the fewer) orthonormal, times `gain` (Saxe et al. 2014). Needs the feature `linalg`.
    Orthogonal {
        /// The factor.
        gain: f64,
    },
}

/// The standard deviation of a standard normal cut at ±2.
const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

impl Init {
    /// U(−1/√fan_in, 1/√fan_in): what PyTorch gives linear and convolution layers, weight and bias.
    pub const TORCH: Self = Self::FanInUniform { scale: 1.0 };
    /// All zeros.
    pub const ZEROS: Self = Self::Constant(0.0);
    /// All ones.
    pub const ONES: Self = Self::Constant(1.0);

    /// Values for a parameter of this shape, and maybe more after them.
    pub(crate) fn draw(
        &self,
        shape: &[usize],
        fan_in: usize,
        key: StreamKey,
    ) -> Result<Box<dyn Iterator<Item = f64>>> {
        // A convolution's output reaches as many others as its kernel has pixels.
        let fan_out = shape.first().copied().unwrap_or(1) * shape.iter().skip(2).product::<usize>();
        let uniform = |bound: f64| Box::new(key.uniform().map(move |u| bound * (2.0 * u - 1.0)));
        // What falls outside ±2σ is drawn anew.
        let truncated =
            |std: f64| Box::new(key.normal().filter(|z| z.abs() <= 2.0).map(move |z| std * z));
        let fan = fan_in.max(1) as f64;
        Ok(match *self {
            Self::Constant(value) => Box::new(iter::repeat(value)),
            Self::FanInUniform { scale } => uniform(scale / fan.sqrt()),
            Self::Normal { std } => Box::new(key.normal().map(move |z| std * z)),
            Self::TruncatedNormal { std } => truncated(std),
            Self::LecunNormal => truncated((1.0 / fan).sqrt() / TRUNCATED_STD),
            Self::XavierUniform => uniform((6.0 / (fan + fan_out as f64)).sqrt()),
            Self::KaimingNormal => {
                let std = (2.0 / fan_out.max(1) as f64).sqrt();
                Box::new(key.normal().map(move |z| std * z))
            }
            Self::Orthogonal { gain } => Box::new(orthogonal(shape, key, gain)?.into_iter()),
        })
    }
}

/// The Q of a normal matrix, with signs that make R's diagonal positive, so that Q is uniform (Mezzadri 2007).
fn orthogonal(shape: &[usize], key: StreamKey, gain: f64) -> Result<Vec<f64>> {
    let rows = shape.first().copied().unwrap_or(1);
    let columns = shape.iter().skip(1).product();
    let (tall, wide) = (usize::max(rows, columns), usize::min(rows, columns));
    let normal = key.normal().take(tall * wide).collect();
    let (q, diagonal) = linalg::qr("orthogonal initialisation", normal, tall)?;
    let value = |row: usize, column: usize| {
        let sign: f64 = diagonal[column];
        gain * sign.signum() * q[row * wide + column]
    };
    Ok(match rows < columns {
        true => (0..rows * columns).map(|i| value(i % columns, i / columns)).collect(),
        false => (0..rows * columns).map(|i| value(i / columns, i % columns)).collect(),
    })
}
