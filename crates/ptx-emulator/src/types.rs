//! The types and state spaces of PTX, and how wide a register each type takes.

use std::fmt;

/// A fundamental type of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Pred,
    B8,
    U8,
    B16,
    U16,
    B32,
    U32,
    F32,
    B64,
    U64,
    F64,
}

impl Type {
    /// The type that a modifier such as `f32` names.
    pub(crate) fn parse(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "u8" => Type::U8,
            "b16" => Type::B16,
            "u16" => Type::U16,
            "b32" => Type::B32,
            "u32" => Type::U32,
            "f32" => Type::F32,
            "b64" => Type::B64,
            "u64" => Type::U64,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Bytes in memory; a predicate has none.
    pub(crate) fn bytes(self) -> u32 {
        match self {
            Type::Pred => 0,
            Type::B8 | Type::U8 => 1,
            Type::B16 | Type::U16 => 2,
            Type::B32 | Type::U32 | Type::F32 => 4,
            Type::B64 | Type::U64 | Type::F64 => 8,
        }
    }

    /// Whether the value is a floating-point number.
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Type::F32 | Type::F64)
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
    /// Device memory that all blocks see.
    Global,
    /// Memory of one block.
    Shared,
    /// The kernel's parameters.
    Parameter,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Parameter => "parameter",
        })
    }
}
