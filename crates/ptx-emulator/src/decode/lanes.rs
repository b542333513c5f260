//! Instructions of the lane table, and those that are put together from several of them: `.ftz`,
//! `.sat`, `set`, `setp` with a second predicate, and moves of vectors.

use super::Decoder;
use crate::error::LoadError;
use crate::instruction::PtxOp;
use crate::lanes::{Entry, Slots, table};
use crate::program::Constant;
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Type};

impl<'a> Decoder<'_, 'a> {
    /// The entry of a name that the table must have.
    fn known(&self, statement: &Statement<'_>, name: &str) -> Result<Entry, LoadError> {
        table().get(name).ok_or_else(|| unknown(statement))
    }

    /// Adds a lane instruction under the statement's guard.
    fn push_lanes(&mut self, statement: &Statement<'_>, entry: Entry, d: u32, inputs: &[u32]) {
        let input = |index: usize| inputs.get(index).copied().unwrap_or(0);
        let slots = Slots { d, a: input(0), b: input(1), c: input(2), e: input(3) };
        self.push(statement, PtxOp::Lanes(entry.versions.get(self.simd)), slots);
    }

    /// An instruction that computes from registers to a register.
    pub fn lane_instruction(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        if let Some(entry) = table().get(&statement.mnemonic()) {
            return self.apply(statement, entry, false, false);
        }
        let single = statement.modifiers.last().is_some_and(|ty| *ty == "f32");
        let double = statement.modifiers.last().is_some_and(|ty| *ty == "f64");
        let flushes = single && statement.modifiers.contains(&"ftz");
        let saturates = (single || double) && statement.modifiers.contains(&"sat");
        let plain = statement
            .modifiers
            .iter()
            .filter(|&&modifier| !(flushes && modifier == "ftz" || saturates && modifier == "sat"));
        let name = plain.fold(statement.name.to_owned(), |name, part| name + "." + part);
        let entry = self.known(statement, &name)?;
        self.apply(statement, entry, flushes, saturates)
    }

    fn apply(
        &mut self,
        statement: &Statement<'a>,
        entry: Entry,
        flushes: bool,
        saturates: bool,
    ) -> Result<(), LoadError> {
        let count = statement.operands.len();
        if count != entry.inputs.len() + 1 {
            let wanted = entry.inputs.len() + 1;
            let mnemonic = statement.mnemonic();
            return Err(statement.error(format!("{mnemonic} takes {wanted} operands, not {count}")));
        }
        let mut inputs = Vec::with_capacity(entry.inputs.len());
        for (operand, &kind) in statement.operands[1..].iter().zip(entry.inputs) {
            inputs.push(self.input(statement, operand, kind)?);
        }
        if flushes {
            for (slot, kind) in inputs.iter_mut().zip(entry.inputs) {
                if *kind == Kind::B32 {
                    *slot = self.through(statement, "flush.f32", *slot)?;
                }
            }
        }
        let output = self.output(statement, &statement.operands[0], entry.result)?;
        if !flushes && !saturates {
            self.push_lanes(statement, entry, output, &inputs);
            return Ok(());
        }
        let mut result = self.counts.take(entry.result);
        self.push_lanes(statement, entry, result, &inputs);
        if flushes && entry.result == Kind::B32 {
            result = self.through(statement, "flush.f32", result)?;
        }
        if saturates {
            let wide = entry.result == Kind::B64;
            let name = if wide { "saturate.f64" } else { "saturate.f32" };
            result = self.through(statement, name, result)?;
        }
        let name = match entry.result {
            Kind::Predicate => "mov.pred",
            Kind::B16 => "mov.b16",
            Kind::B32 => "mov.b32",
            Kind::B64 => "mov.b64",
        };
        let entry = self.known(statement, name)?;
        self.push_lanes(statement, entry, output, &[result]);
        Ok(())
    }

    /// A fresh slot with the result of an instruction of one operand.
    fn through(
        &mut self,
        statement: &Statement<'_>,
        name: &str,
        slot: u32,
    ) -> Result<u32, LoadError> {
        let entry = self.known(statement, name)?;
        let result = self.counts.take(entry.result);
        self.push_lanes(statement, entry, result, &[slot]);
        Ok(result)
    }

    /// `setp.lt{.and}{.ftz}.f32 p{|q}, a, b{, {!}c}` and `set.lt{.and}{.ftz}.u32.f32 d, a, b{, c}`.
    pub fn comparison(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let is_set = statement.name == "set";
        let mut modifiers = statement.modifiers.clone();
        let flushes = modifiers.contains(&"ftz");
        modifiers.retain(|&modifier| modifier != "ftz");
        let types = if is_set { 2 } else { 1 };
        if modifiers.len() < types + 1 {
            return Err(unknown(statement));
        }
        let compared = modifiers[modifiers.len() - 1];
        if flushes && compared != "f32" {
            return Err(unknown(statement));
        }
        let combine = match modifiers.get(1) {
            Some(&name @ ("and" | "or" | "xor")) => Some(name),
            _ => None,
        };
        if modifiers.len() != types + 1 + usize::from(combine.is_some()) {
            return Err(unknown(statement));
        }
        let entry = self.known(statement, &format!("setp.{}.{compared}", modifiers[0]))?;
        let count = 3 + usize::from(combine.is_some());
        if statement.operands.len() != count {
            let mnemonic = statement.mnemonic();
            return Err(statement.error(format!("{mnemonic} takes {count} operands")));
        }

        let kind = entry.inputs[0];
        let mut a = self.input(statement, &statement.operands[1], kind)?;
        let mut b = self.input(statement, &statement.operands[2], kind)?;
        if flushes {
            a = self.through(statement, "flush.f32", a)?;
            b = self.through(statement, "flush.f32", b)?;
        }
        let c = match combine {
            Some(_) => Some(self.input(statement, &statement.operands[3], Kind::Predicate)?),
            None => None,
        };
        let plain = !is_set && matches!(statement.operands[0], Operand::Register(_));
        let first = if plain && combine.is_none() {
            self.output(statement, &statement.operands[0], Kind::Predicate)?
        } else {
            self.counts.take(Kind::Predicate)
        };
        self.push_lanes(statement, entry, first, &[a, b]);
        if plain && combine.is_none() {
            return Ok(());
        }
        let result = self.combined(statement, combine, first, c)?;
        if is_set {
            return self.set_result(statement, modifiers[modifiers.len() - 2], result);
        }
        let copy = self.known(statement, "mov.pred")?;
        let destinations = match &statement.operands[0] {
            Operand::Pair(p, q) => {
                // The second predicate gets the same for the negated comparison.
                let negated = self.through(statement, "not.pred", first)?;
                let other = self.combined(statement, combine, negated, c)?;
                vec![(&**p, result), (&**q, other)]
            }
            operand => vec![(operand, result)],
        };
        for (operand, slot) in destinations {
            if *operand != Operand::Sink {
                let output = self.output(statement, operand, Kind::Predicate)?;
                self.push_lanes(statement, copy, output, &[slot]);
            }
        }
        Ok(())
    }

    fn combined(
        &mut self,
        statement: &Statement<'a>,
        combine: Option<&str>,
        compared: u32,
        c: Option<u32>,
    ) -> Result<u32, LoadError> {
        let (Some(combine), Some(c)) = (combine, c) else { return Ok(compared) };
        let entry = self.known(statement, &format!("{combine}.pred"))?;
        let result = self.counts.take(Kind::Predicate);
        self.push_lanes(statement, entry, result, &[compared, c]);
        Ok(result)
    }

    /// All ones or zero, or 1.0 or 0.0.
    fn set_result(
        &mut self,
        statement: &Statement<'a>,
        ty: &str,
        predicate: u32,
    ) -> Result<(), LoadError> {
        let yes = match ty {
            "u32" | "s32" => 0xffff_ffff,
            "f32" => 0x3f80_0000,
            _ => return Err(unknown(statement)),
        };
        let yes = self.constant(Constant::Bits(yes), Kind::B32);
        let no = self.constant(Constant::Bits(0), Kind::B32);
        let entry = self.known(statement, "selp.b32")?;
        let output = self.output(statement, &statement.operands[0], Kind::B32)?;
        self.push_lanes(statement, entry, output, &[yes, no, predicate]);
        Ok(())
    }

    /// `mov`, also of vectors to a register and back, and from clocks.
    pub fn mov(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let [to, from] = self.operands::<2>(statement)?;
        let [ty] = statement.modifiers.as_slice() else { return Err(unknown(statement)) };
        let ty = Type::parse(ty).ok_or_else(|| unknown(statement))?;
        let kind = ty.kind();
        match (to, from) {
            (_, Operand::Vector(parts)) => {
                let (name, part) = packing(kind, parts.len()).ok_or_else(|| unknown(statement))?;
                let entry = self.known(statement, &format!("pack.{name}"))?;
                let mut inputs = Vec::new();
                for operand in parts {
                    inputs.push(self.input(statement, operand, part)?);
                }
                let output = self.output(statement, to, kind)?;
                self.push_lanes(statement, entry, output, &inputs);
                Ok(())
            }
            (Operand::Vector(parts), _) => {
                let (name, part) = packing(kind, parts.len()).ok_or_else(|| unknown(statement))?;
                let input = self.input(statement, from, kind)?;
                for (index, operand) in parts.iter().enumerate() {
                    if *operand != Operand::Sink {
                        let entry = self.known(statement, &format!("part{index}.{name}"))?;
                        let output = self.output(statement, operand, part)?;
                        self.push_lanes(statement, entry, output, &[input]);
                    }
                }
                Ok(())
            }
            (_, Operand::Special(name)) if name.starts_with("%clock") || name == "%globaltimer" => {
                let wide = name != "%clock" && name != "%clock_hi";
                if wide != (kind == Kind::B64) {
                    return Err(statement.error(format!("`{name}` is not of {kind}")));
                }
                let d = self.output(statement, to, kind)?;
                self.push(statement, PtxOp::Clock(kind), Slots { d, ..Slots::default() });
                Ok(())
            }
            _ => self.lane_instruction(statement),
        }
    }
}

/// The names of the table for a register of a width that is made of so many parts.
fn packing(kind: Kind, parts: usize) -> Option<(&'static str, Kind)> {
    match (kind, parts) {
        (Kind::B32, 2) => Some(("b32.b16", Kind::B16)),
        (Kind::B64, 2) => Some(("b64.b32", Kind::B32)),
        (Kind::B64, 4) => Some(("b64.b16", Kind::B16)),
        _ => None,
    }
}

/// The error for an opcode, or a combination of modifiers, that is not emulated.
pub(super) fn unknown(statement: &Statement<'_>) -> LoadError {
    statement.error(format!("unknown instruction `{}`", statement.mnemonic()))
}
