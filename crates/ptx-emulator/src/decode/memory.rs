//! Loads, stores, atomics, and conversions of addresses.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{Atomic, AtomicOp, LoadStore, PtxOp};
use crate::lanes::{Slots, table};
use crate::memory::windows;
use crate::program::Constant;
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Space, Type};

/// The modifiers of an access, apart from its type.
struct Modifiers {
    space: Space,
    count: u32,
    strong: bool,
    /// What was not understood.
    rest: Vec<String>,
}

fn split(modifiers: &[&str]) -> Modifiers {
    let mut found = Modifiers { space: Space::Generic, count: 1, strong: false, rest: Vec::new() };
    for &modifier in modifiers {
        match modifier {
            "global" | "const" => found.space = Space::Global,
            "shared" | "shared::cta" => found.space = Space::Shared,
            "local" => found.space = Space::Local,
            "param" | "param::entry" => found.space = Space::Parameter,
            "v2" => found.count = 2,
            "v4" => found.count = 4,
            "relaxed" | "acquire" | "release" | "acq_rel" => found.strong = true,
            // Orders and caches in ways that this emulator does not model.
            "weak" | "volatile" | "nc" | "ca" | "cg" | "cs" | "lu" | "cv" | "wb" | "wt" => {}
            "cta" | "cluster" | "gpu" | "sys" => {}
            _ if modifier.starts_with("L1::") => {}
            "L2::64B" | "L2::128B" | "L2::256B" => {}
            _ => found.rest.push(modifier.to_owned()),
        }
    }
    found
}

impl<'a> Decoder<'_, 'a> {
    /// Notes in what pieces a memory is accessed, for the checks of races.
    pub(super) fn note_grain(&mut self, space: Space, bytes: u32) {
        if matches!(space, Space::Shared | Space::Generic) {
            self.shared_grain = self.shared_grain.min(bytes);
        }
        if matches!(space, Space::Global | Space::Generic) {
            self.global_grain = self.global_grain.min(bytes);
        }
    }

    /// `ld` and `st`.
    pub fn access(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let Some((ty, modifiers)) = statement.modifiers.split_last() else {
            return Err(unknown(statement));
        };
        let ty = Type::parse(ty).filter(|ty| ty.bytes() > 0).ok_or_else(|| unknown(statement))?;
        let Modifiers { space, count, strong, rest } = split(modifiers);
        let bytes = ty.bytes() * count;
        if !rest.is_empty() || bytes > 16 {
            return Err(unknown(statement));
        }
        let loads = statement.name != "st";
        let [first, second] = self.operands::<2>(statement)?;
        let (data, address) = if loads { (first, second) } else { (second, first) };
        if !loads && space == Space::Parameter {
            return Err(unknown(statement));
        }
        let elements = match data {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() != count as usize {
            let what = format!("{} takes {count} registers", statement.mnemonic());
            return Err(statement.error(what));
        }
        let mut values = [None; 4];
        for (value, operand) in values.iter_mut().zip(elements) {
            if loads && *operand == Operand::Sink {
                continue;
            }
            let found = self.wide_enough(statement, operand, ty.bytes(), ty.kind(), loads)?;
            if ty.is_float() && found.kind != ty.kind() {
                let what = format!("a register is too wide for {}", statement.mnemonic());
                return Err(statement.error(what));
            }
            *value = Some(found);
        }
        let address = self.address(statement, address, space)?;
        self.note_grain(space, ty.bytes());
        let signed = ty.is_signed();
        let access = LoadStore { address, element: ty.bytes(), count, signed, values, strong };
        let access = Box::new(access);
        let op = if loads { PtxOp::Load(access) } else { PtxOp::Store(access) };
        self.push(statement, op, Slots::default());
        Ok(())
    }

    /// `atom` and `red`.
    pub fn atomic(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let Some((ty, modifiers)) = statement.modifiers.split_last() else {
            return Err(unknown(statement));
        };
        let value_type = Type::parse(ty).ok_or_else(|| unknown(statement))?;
        let Modifiers { space, count, rest, .. } = split(modifiers);
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let name = match rest.as_slice() {
            [name] => *name,
            [name @ "add", "noftz"] if value_type.bytes() <= 4 => *name,
            _ => return Err(unknown(statement)),
        };
        let op = operation(name, value_type).ok_or_else(|| unknown(statement))?;
        let global = matches!(space, Space::Global | Space::Shared | Space::Generic);
        if count != 1 || !global {
            return Err(unknown(statement));
        }
        let kind = value_type.kind();
        let mut operands = statement.operands.as_slice();
        let mut result = None;
        if statement.name == "atom" {
            let [first, rest @ ..] = operands else { return Err(unknown(statement)) };
            if *first != Operand::Sink {
                let slot = self.output(statement, first, kind)?;
                result = Some(crate::instruction::Value { kind, slot });
            }
            operands = rest;
        }
        let compares = op == AtomicOp::CompareAndSwap;
        let (address, operand, second) = match operands {
            [address, operand] if !compares => (address, operand, None),
            [address, operand, second] if compares => (address, operand, Some(second)),
            _ => {
                let what = format!("{} has a wrong number of operands", statement.mnemonic());
                return Err(statement.error(what));
            }
        };
        let address = self.address(statement, address, space)?;
        let slot = self.input(statement, operand, kind)?;
        let operand = crate::instruction::Value { kind, slot };
        let second = match second {
            Some(second) => {
                let slot = self.input(statement, second, kind)?;
                Some(crate::instruction::Value { kind, slot })
            }
            None => None,
        };
        self.note_grain(space, value_type.bytes());
        let atomic = Atomic { address, op, value_type, result, operand, second };
        self.push(statement, PtxOp::Atomic(Box::new(atomic)), Slots::default());
        Ok(())
    }

    /// `cvta` and `isspacep`.
    pub fn address_conversion(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let [to, from] = self.operands::<2>(statement)?;
        let space = |name: &str| match name {
            "global" | "const" => Some(Space::Global),
            "shared" | "shared::cta" => Some(Space::Shared),
            "local" => Some(Space::Local),
            "param" | "param::entry" => Some(Space::Parameter),
            _ => None,
        };
        if statement.name == "isspacep" {
            let [name] = statement.modifiers.as_slice() else { return Err(unknown(statement)) };
            let space = space(name).ok_or_else(|| unknown(statement))?;
            let a = self.input(statement, from, Kind::B64)?;
            let d = self.output(statement, to, Kind::Predicate)?;
            self.push(statement, PtxOp::IsSpace(space), Slots { d, a, ..Slots::default() });
            return Ok(());
        }
        let (inverse, name) = match statement.modifiers.as_slice() {
            ["to", name, "u64"] => (true, *name),
            [name, "u64"] => (false, *name),
            _ => return Err(unknown(statement)),
        };
        let window = windows::base(space(name).ok_or_else(|| unknown(statement))?);
        let a = self.input(statement, from, Kind::B64)?;
        let d = self.output(statement, to, Kind::B64)?;
        let b = self.constant(Constant::Bits(window), Kind::B64);
        let entry = table().get(if inverse { "sub.u64" } else { "add.u64" });
        let entry = entry.expect("the table has sums of 64 bits");
        let op = PtxOp::Lanes(entry.versions.get(self.simd));
        self.push(statement, op, Slots { d, a, b, ..Slots::default() });
        Ok(())
    }
}

/// The operation of an atomic, if PTX has it for the type.
fn operation(name: &str, ty: Type) -> Option<AtomicOp> {
    use Type::{B16, B32, B64, Bf16, Bf16x2, F16, F16x2, F32, F64, S32, S64, U32, U64};
    let (op, types): (_, &[Type]) = match name {
        "add" => (AtomicOp::Add, &[U32, S32, U64, S64, F32, F64, F16, F16x2, Bf16, Bf16x2]),
        "min" => (AtomicOp::Min, &[U32, S32, U64, S64]),
        "max" => (AtomicOp::Max, &[U32, S32, U64, S64]),
        "and" => (AtomicOp::And, &[B32, B64]),
        "or" => (AtomicOp::Or, &[B32, B64]),
        "xor" => (AtomicOp::Xor, &[B32, B64]),
        "exch" => (AtomicOp::Exchange, &[B32, B64]),
        "cas" => (AtomicOp::CompareAndSwap, &[B16, B32, B64]),
        "inc" => (AtomicOp::Increment, &[U32]),
        "dec" => (AtomicOp::Decrement, &[U32]),
        _ => return None,
    };
    types.contains(&ty).then_some(op)
}
