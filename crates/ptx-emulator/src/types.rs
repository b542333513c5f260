//! The types and state spaces of PTX, and how wide a register each type takes.

use std::fmt;

/// A fundamental or packed type of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Pred,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    Bf16,
    B32,
    U32,
    S32,
    F32,
    Tf32,
    F16x2,
    Bf16x2,
    B64,
    U64,
    S64,
    F64,
}

impl Type {
    /// The type that a modifier such as `f32` names.
    pub(crate) fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "u8" => Type::U8,
            "s8" => Type::S8,
            "b16" => Type::B16,
            "u16" => Type::U16,
            "s16" => Type::S16,
            "f16" => Type::F16,
            "bf16" => Type::Bf16,
            "b32" => Type::B32,
            "u32" => Type::U32,
            "s32" => Type::S32,
            "f32" => Type::F32,
            "tf32" => Type::Tf32,
            "f16x2" => Type::F16x2,
            "bf16x2" => Type::Bf16x2,
            "b64" => Type::B64,
            "u64" => Type::U64,
            "s64" => Type::S64,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bytes in memory; a predicate has none.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Type::Pred => 0,
            Type::B8 | Type::U8 | Type::S8 => 1,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 2,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 8,
            _ => 4,
        }
    }

    /// Whether a narrower value is widened with its sign.
    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }

    /// Whether the value is one floating-point number.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Type::F16 | Type::Bf16 | Type::F32 | Type::Tf32 | Type::F64)
    }

    /// The register file's class for a value of this type.
    pub(crate) fn kind(self) -> Kind {
        match self.bytes() {
            0 => Kind::Predicate,
            1 | 2 => Kind::B16,
            8 => Kind::B64,
            _ => Kind::B32,
        }
    }
}

/// How wide a register or an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Predicate,
    B16,
    B32,
    B64,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Predicate => "a predicate",
            Kind::B16 => "16 bits",
            Kind::B32 => "32 bits",
            Kind::B64 => "64 bits",
        })
    }
}

/// Where an address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Device memory that all blocks see; also `.const`, which is placed there.
    Global,
    /// Memory of one block.
    Shared,
    /// Memory of one thread.
    Local,
    /// The kernel's parameters.
    Parameter,
    /// An address that may point to global, shared or local memory.
    Generic,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Parameter => "parameter",
            Space::Generic => "generic",
        })
    }
}
