//! Instructions of the lane table, and moves of halves into a register.

use super::Decoder;
use crate::error::LoadError;
use crate::instruction::PtxOp;
use crate::lanes::{Slots, table};
use crate::syntax::{Operand, Statement};

impl<'a> Decoder<'_, 'a> {
    /// An instruction that computes from registers to a register.
    pub fn lane_instruction(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let mnemonic = statement.mnemonic();
        let (name, operands) = match (mnemonic.as_str(), statement.operands.as_slice()) {
            ("mov.b32", [to, Operand::Vector(parts)]) => {
                ("pack.b32", std::iter::once(to).chain(parts).collect())
            }
            (name, operands) => (name, operands.iter().collect::<Vec<_>>()),
        };
        let entry = table().get(name).ok_or_else(|| unknown(statement))?;
        let (count, wanted) = (operands.len(), entry.inputs.len() + 1);
        if count != wanted {
            return Err(statement.error(format!("{mnemonic} takes {wanted} operands, not {count}")));
        }
        let mut inputs = [0; 4];
        for ((slot, operand), &kind) in inputs.iter_mut().zip(&operands[1..]).zip(entry.inputs) {
            *slot = self.input(statement, operand, kind)?;
        }
        let d = self.output(statement, operands[0], entry.result)?;
        let [a, b, c, e] = inputs;
        let op = PtxOp::Lanes(entry.versions.get(self.simd));
        self.push(statement, op, Slots { d, a, b, c, e });
        Ok(())
    }
}

/// The error for an opcode, or a combination of modifiers, that is not emulated.
pub(super) fn unknown(statement: &Statement<'_>) -> LoadError {
    statement.error(format!("unknown instruction `{}`", statement.mnemonic()))
}
