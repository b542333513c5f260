//! `cp.async`: copies from global to shared memory that finish later.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{CopyAsync, PtxOp};
use crate::lanes::Slots;
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Space};

impl<'a> Decoder<'_, 'a> {
    pub fn copy_async(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let none = Slots::default();
        match statement.modifiers.as_slice() {
            ["async", "commit_group"] => {
                self.operands::<0>(statement)?;
                self.push(statement, PtxOp::CopyCommit, none);
                Ok(())
            }
            ["async", "wait_all"] => {
                self.operands::<0>(statement)?;
                self.push(statement, PtxOp::CopyWait(None), none);
                Ok(())
            }
            ["async", "wait_group"] => {
                let [Operand::Integer(count)] = self.operands::<1>(statement)? else {
                    return Err(statement.error("wait_group takes a constant"));
                };
                let count = u32::try_from(*count)
                    .map_err(|_| statement.error("wait_group takes a number of groups"))?;
                self.push(statement, PtxOp::CopyWait(Some(count)), none);
                Ok(())
            }
            ["async", cache @ ("ca" | "cg"), "shared" | "shared::cta", "global", rest @ ..] => {
                if !matches!(rest, [] | ["L2::64B" | "L2::128B" | "L2::256B"]) {
                    return Err(unknown(statement));
                }
                self.copy(statement, *cache == "cg")
            }
            _ => Err(unknown(statement)),
        }
    }

    fn copy(&mut self, statement: &Statement<'a>, only_16: bool) -> Result<(), LoadError> {
        let ([to, from, size] | [to, from, size, _]) = statement.operands.as_slice() else {
            return Err(statement.error("cp.async takes three or four operands"));
        };
        let bytes = match size {
            Operand::Integer(16) => 16,
            Operand::Integer(bytes @ (4 | 8)) if !only_16 => *bytes as u32,
            _ => return Err(statement.error("cp.async copies 4, 8 or 16 bytes, with .cg only 16")),
        };
        let (mut source_bytes, mut ignore_source) = (None, None);
        if let Some(last) = statement.operands.get(3) {
            match last {
                Operand::Register(register) if self.kind(*register) == Kind::Predicate => {
                    ignore_source = Some(self.input(statement, last, Kind::Predicate)?);
                }
                _ => source_bytes = Some(self.input(statement, last, Kind::B32)?),
            }
        }
        let to = self.address(statement, to, Space::Shared)?;
        let from = self.address(statement, from, Space::Global)?;
        let copy = CopyAsync { to, from, bytes, source_bytes, ignore_source };
        self.push(statement, PtxOp::CopyAsync(Box::new(copy)), Slots::default());
        Ok(())
    }
}
