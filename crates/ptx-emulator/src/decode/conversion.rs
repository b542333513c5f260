//! `cvt`.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{Convert, PtxOp};
use crate::lanes::convert::Conversion;
use crate::lanes::rounding::Rounding;
use crate::lanes::{Slots, table};
use crate::syntax::{Operand, Statement};
use crate::types::Type;

impl<'a> Decoder<'_, 'a> {
    /// A conversion of the table where the registers are as wide as the types, else a general one.
    pub fn conversion(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        if let Some(entry) = table().get(&statement.mnemonic()) {
            let mut kinds = vec![entry.result];
            kinds.extend(entry.inputs);
            let fits = kinds.len() == statement.operands.len()
                && statement.operands.iter().zip(kinds).all(|(operand, kind)| match operand {
                    Operand::Register(register) => self.kind(*register) == kind,
                    _ => false,
                });
            if fits || entry.inputs.len() > 1 {
                return self.lane_instruction(statement);
            }
        }
        let conversion = parse(statement)?;
        let [to, from] = self.operands::<2>(statement)?;
        let (wanted, given) = (conversion.to, conversion.from);
        let from = self.wide_enough(statement, from, given.bytes(), given.kind(), false)?;
        let to = self.wide_enough(statement, to, wanted.bytes(), wanted.kind(), true)?;
        let narrow = |ty: Type, kind| ty.is_float() && ty.kind() != kind;
        if narrow(wanted, to.kind) || narrow(given, from.kind) {
            let mnemonic = statement.mnemonic();
            return Err(statement.error(format!("a register is too wide for {mnemonic}")));
        }
        let slots = Slots { d: to.slot, a: from.slot, ..Slots::default() };
        let op = PtxOp::Convert(Box::new(Convert { conversion, to: to.kind, from: from.kind }));
        self.push(statement, op, slots);
        Ok(())
    }
}

fn parse(statement: &Statement<'_>) -> Result<Conversion, LoadError> {
    let [modifiers @ .., to, from] = statement.modifiers.as_slice() else {
        return Err(unknown(statement));
    };
    let ty = |name: &str| Type::parse(name).ok_or_else(|| unknown(statement));
    let mut conversion = Conversion {
        to: ty(to)?,
        from: ty(from)?,
        rounding: None,
        to_integer: false,
        saturate: false,
        relu: false,
        flush: false,
    };
    for modifier in modifiers {
        let (rounding, to_integer) = match *modifier {
            "rn" => (Rounding::Nearest, false),
            "rna" => (Rounding::NearestAway, false),
            "rz" => (Rounding::Zero, false),
            "rm" => (Rounding::Down, false),
            "rp" => (Rounding::Up, false),
            "rni" => (Rounding::Nearest, true),
            "rzi" => (Rounding::Zero, true),
            "rmi" => (Rounding::Down, true),
            "rpi" => (Rounding::Up, true),
            "ftz" => {
                conversion.flush = true;
                continue;
            }
            "sat" => {
                conversion.saturate = true;
                continue;
            }
            "relu" if matches!(conversion.to, Type::F16 | Type::Bf16) => {
                conversion.relu = true;
                continue;
            }
            _ => return Err(unknown(statement)),
        };
        if conversion.rounding.is_some() {
            return Err(unknown(statement));
        }
        conversion.rounding = Some(rounding);
        conversion.to_integer = to_integer;
    }
    let mnemonic = statement.mnemonic();
    conversion.check().map_err(|why| statement.error(format!("`{mnemonic}` {why}")))?;
    Ok(conversion)
}
