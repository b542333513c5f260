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
        let op = match statement.modifiers.as_slice() {
            ["async", "commit_group"] => {
                self.operands::<0>(statement)?;
                PtxOp::CopyCommit
            }
            ["async", "wait_all"] => {
                self.operands::<0>(statement)?;
                PtxOp::CopyWait(None)
            }
            ["async", "wait_group"] => {
                let [Operand::Integer(count)] = self.operands::<1>(statement)? else {
                    return Err(statement.error("wait_group takes a constant"));
                };
                let count = u32::try_from(*count)
                    .map_err(|_| statement.error("wait_group takes a number of groups"))?;
                PtxOp::CopyWait(Some(count))
            }
            ["async", "cg", "shared", "global"] => {
                let [to, from, size, source_bytes] = self.operands::<4>(statement)?;
                if *size != Operand::Integer(16) {
                    return Err(statement.error("cp.async.cg copies 16 bytes"));
                }
                let source_bytes = self.input(statement, source_bytes, Kind::B32)?;
                let to = self.address(statement, to, Space::Shared)?;
                let from = self.address(statement, from, Space::Global)?;
                PtxOp::CopyAsync(Box::new(CopyAsync { to, from, source_bytes }))
            }
            _ => return Err(unknown(statement)),
        };
        self.push(statement, op, Slots::default());
        Ok(())
    }
}
