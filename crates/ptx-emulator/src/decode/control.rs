//! Branches, ends and barriers.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::PtxOp;
use crate::lanes::Slots;
use crate::syntax::{Operand, Statement};
use crate::types::Kind;

impl<'a> Decoder<'_, 'a> {
    pub fn control(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let none = Slots::default();
        match (statement.name, statement.modifiers.as_slice()) {
            ("bra", [] | ["uni"]) => {
                let [target] = self.operands::<1>(statement)?;
                let Operand::Label(label) = target else {
                    return Err(statement.error("a label is missing"));
                };
                let target = self.function.targets[*label as usize];
                self.push(statement, PtxOp::Branch(target), none);
            }
            ("ret", []) => {
                self.operands::<0>(statement)?;
                self.push(statement, PtxOp::Exit, none);
            }
            ("bar", ["warp", "sync"]) => {
                let [mask] = self.operands::<1>(statement)?;
                let e = self.input(statement, mask, Kind::B32)?;
                self.push(statement, PtxOp::WarpSync, Slots { e, ..none });
            }
            ("bar", ["sync"]) => {
                let [Operand::Integer(0)] = self.operands::<1>(statement)? else {
                    return Err(statement.error("only barrier 0, of the whole block, is known"));
                };
                self.push(statement, PtxOp::Barrier, none);
            }
            _ => return Err(unknown(statement)),
        }
        Ok(())
    }
}
