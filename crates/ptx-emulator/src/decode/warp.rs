//! Exchange between the lanes of a warp.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::PtxOp;
use crate::lanes::Slots;
use crate::syntax::{Operand, Statement};
use crate::types::Kind;

impl<'a> Decoder<'_, 'a> {
    /// `shfl.sync.bfly.b32 d|p, a, b, c, mask`, also without `p`.
    pub fn shuffle(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        if statement.modifiers != ["sync", "bfly", "b32"] {
            return Err(unknown(statement));
        }
        let [result, value, lane, clamp, mask] = self.operands::<5>(statement)?;
        let (result, in_range) = match result {
            Operand::Pair(result, predicate) => {
                (&**result, Some(self.output(statement, predicate, Kind::Predicate)?))
            }
            single => (single, None),
        };
        let d = self.output(statement, result, Kind::B32)?;
        let a = self.input(statement, value, Kind::B32)?;
        let b = self.input(statement, lane, Kind::B32)?;
        let c = self.input(statement, clamp, Kind::B32)?;
        let e = self.input(statement, mask, Kind::B32)?;
        self.push(statement, PtxOp::Shuffle(in_range), Slots { d, a, b, c, e });
        Ok(())
    }
}
