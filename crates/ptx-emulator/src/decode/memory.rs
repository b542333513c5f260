//! Loads, stores, and conversions of addresses.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{LoadStore, PtxOp};
use crate::lanes::{Slots, table};
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Space, Type};

impl<'a> Decoder<'_, 'a> {
    /// `ld` and `st`.
    pub fn access(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let [space, modifiers @ .., ty] = statement.modifiers.as_slice() else {
            return Err(unknown(statement));
        };
        let loads = statement.name == "ld";
        let space = match *space {
            "global" => Space::Global,
            "shared" => Space::Shared,
            "param" if loads => Space::Parameter,
            _ => return Err(unknown(statement)),
        };
        let count = match modifiers {
            // Memory has no caches here, so `.nc` makes no difference.
            [] | ["nc"] => 1,
            ["v2"] | ["nc", "v2"] => 2,
            ["v4"] | ["nc", "v4"] => 4,
            _ => return Err(unknown(statement)),
        };
        let ty = Type::parse(ty).filter(|ty| ty.bytes() > 0).ok_or_else(|| unknown(statement))?;
        if ty.bytes() * count > 16 {
            return Err(unknown(statement));
        }
        let [first, second] = self.operands::<2>(statement)?;
        let (data, address) = if loads { (first, second) } else { (second, first) };
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
            let found = self.wide_enough(statement, operand, ty, loads)?;
            if ty.is_float() && found.kind != ty.kind() {
                let what = format!("a register is too wide for {}", statement.mnemonic());
                return Err(statement.error(what));
            }
            *value = Some(found);
        }
        let address = self.address(statement, address, space)?;
        // In what pieces a memory is accessed, for the checks of races.
        match space {
            Space::Shared => self.shared_grain = self.shared_grain.min(ty.bytes()),
            Space::Global => self.global_grain = self.global_grain.min(ty.bytes()),
            Space::Parameter => {}
        }
        let access = Box::new(LoadStore { address, element: ty.bytes(), count, values });
        let op = if loads { PtxOp::Load(access) } else { PtxOp::Store(access) };
        self.push(statement, op, Slots::default());
        Ok(())
    }

    /// `cvta.to.global.u64`: addresses in global memory are the same in all forms.
    pub fn address_conversion(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        if statement.modifiers != ["to", "global", "u64"] {
            return Err(unknown(statement));
        }
        let [to, from] = self.operands::<2>(statement)?;
        let a = self.input(statement, from, Kind::B64)?;
        let d = self.output(statement, to, Kind::B64)?;
        let entry = table().get("mov.b64").expect("the table has moves of 64 bits");
        let op = PtxOp::Lanes(entry.versions.get(self.simd));
        self.push(statement, op, Slots { d, a, ..Slots::default() });
        Ok(())
    }
}
