//! Element types: the run-time [`DType`] and the Rust types behind it. No arithmetic beyond conversion lives here.

use std::cmp::Ordering;
use std::fmt;

use bytemuck::Pod;
pub use half::bf16;

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit IEEE float: the type that models train in.
    F32,
    /// 64-bit IEEE float: for checking gradients.
    F64,
    /// The upper half of an `f32`: 8 bits of exponent, 8 of significand.
    BF16,
    /// Unsigned byte: raw pixels.
    U8,
    /// 64-bit signed integer: class labels.
    I64,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::BF16 => 2,
            Self::U8 => 1,
        }
    }

    /// Whether arithmetic (and so a gradient) is defined for this type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::BF16)
    }

    /// The type that sums and statistics over elements of this type are kept in:
    /// `f32` for `bf16`, otherwise the type itself.
    pub fn accumulator(self) -> Self {
        if self == Self::BF16 { Self::F32 } else { self }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::BF16 => "bf16",
            Self::U8 => "u8",
            Self::I64 => "i64",
        })
    }
}

/// A Rust type that can be the element of a tensor.
pub trait Element: Pod + Default + fmt::Debug + Send + Sync + 'static {
    /// The run-time tag of this type.
    const DTYPE: DType;
    /// The value as `f64` (exact but for integers beyond 2⁵³).
    fn to_f64(self) -> f64;
    /// The nearest value of this type; integers truncate and saturate as Rust's `as` does.
    fn from_f64(value: f64) -> Self;
}

macro_rules! element {
    ($type:ty, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }
        }
    };
}

element!(f32, F32);
element!(f64, F64);
element!(u8, U8);
element!(i64, I64);

impl Element for bf16 {
    const DTYPE: DType = DType::BF16;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        Self::to_f64(self)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        // By way of an `f32` whose last bit is set where it is not exact: the second rounding then sees no tie that is
        // none ("round to odd", Boldo and Melquiond 2008).
        let near = value as f32;
        let bits = match f64::from(near).abs().partial_cmp(&value.abs()) {
            Some(Ordering::Less) => near.to_bits() | 1,
            Some(Ordering::Greater) => (near.to_bits() - 1) | 1,
            _ => near.to_bits(),
        };
        Self::from_f32(f32::from_bits(bits))
    }
}
