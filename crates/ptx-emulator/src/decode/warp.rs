//! Exchange between the lanes of a warp.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{AtomicOp, Match, PtxOp, Reduce, Shuffle, ShuffleMode, Vote, VoteMode};
use crate::lanes::Slots;
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Type};

impl<'a> Decoder<'_, 'a> {
    pub fn warp(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        match (statement.name, statement.modifiers.as_slice()) {
            ("activemask", ["b32"]) => {
                let [result] = self.operands::<1>(statement)?;
                let d = self.output(statement, result, Kind::B32)?;
                self.push(statement, PtxOp::ActiveMask, Slots { d, ..Slots::default() });
                Ok(())
            }
            ("shfl", ["sync", mode, "b32"]) => {
                let mode = match *mode {
                    "up" => ShuffleMode::Up,
                    "down" => ShuffleMode::Down,
                    "bfly" => ShuffleMode::Butterfly,
                    "idx" => ShuffleMode::Index,
                    _ => return Err(unknown(statement)),
                };
                self.shuffle(statement, mode)
            }
            ("vote", ["sync", mode, ty]) => {
                let mode = match (*mode, *ty) {
                    ("all", "pred") => VoteMode::All,
                    ("any", "pred") => VoteMode::Any,
                    ("uni", "pred") => VoteMode::Uniform,
                    ("ballot", "b32") => VoteMode::Ballot,
                    _ => return Err(unknown(statement)),
                };
                self.vote(statement, mode)
            }
            ("match", [mode @ ("any" | "all"), "sync", ty @ ("b32" | "b64")]) => {
                let kind = if *ty == "b64" { Kind::B64 } else { Kind::B32 };
                self.matching(statement, *mode == "all", kind)
            }
            ("redux", ["sync", op, ty]) => {
                let (op, value_type) = match (*op, *ty) {
                    ("add", "u32" | "s32") => (AtomicOp::Add, Type::U32),
                    ("min", "u32") => (AtomicOp::Min, Type::U32),
                    ("min", "s32") => (AtomicOp::Min, Type::S32),
                    ("max", "u32") => (AtomicOp::Max, Type::U32),
                    ("max", "s32") => (AtomicOp::Max, Type::S32),
                    ("and", "b32") => (AtomicOp::And, Type::B32),
                    ("or", "b32") => (AtomicOp::Or, Type::B32),
                    ("xor", "b32") => (AtomicOp::Xor, Type::B32),
                    _ => return Err(unknown(statement)),
                };
                let [result, value, mask] = self.operands::<3>(statement)?;
                let a = self.input(statement, value, Kind::B32)?;
                let e = self.input(statement, mask, Kind::B32)?;
                let d = self.output(statement, result, Kind::B32)?;
                let op = PtxOp::Reduce(Box::new(Reduce { op, value_type }));
                self.push(statement, op, Slots { d, a, e, ..Slots::default() });
                Ok(())
            }
            _ => Err(unknown(statement)),
        }
    }

    /// The registers of `d|p`, or of `d` alone.
    fn pair(
        &self,
        statement: &Statement<'a>,
        operand: &Operand,
    ) -> Result<(u32, Option<u32>), LoadError> {
        match operand {
            Operand::Pair(value, predicate) => {
                let value = self.output(statement, value, Kind::B32)?;
                Ok((value, Some(self.output(statement, predicate, Kind::Predicate)?)))
            }
            single => Ok((self.output(statement, single, Kind::B32)?, None)),
        }
    }

    fn shuffle(&mut self, statement: &Statement<'a>, mode: ShuffleMode) -> Result<(), LoadError> {
        let [result, value, lane, clamp, mask] = self.operands::<5>(statement)?;
        let (d, in_range) = self.pair(statement, result)?;
        let a = self.input(statement, value, Kind::B32)?;
        let b = self.input(statement, lane, Kind::B32)?;
        let c = self.input(statement, clamp, Kind::B32)?;
        let e = self.input(statement, mask, Kind::B32)?;
        let op = PtxOp::Shuffle(Box::new(Shuffle { mode, in_range }));
        self.push(statement, op, Slots { d, a, b, c, e });
        Ok(())
    }

    fn vote(&mut self, statement: &Statement<'a>, mode: VoteMode) -> Result<(), LoadError> {
        let [result, predicate, mask] = self.operands::<3>(statement)?;
        let kind = if mode == VoteMode::Ballot { Kind::B32 } else { Kind::Predicate };
        let d = self.output(statement, result, kind)?;
        let (predicate, inverted) = match predicate {
            Operand::Negated(register) => (&Operand::Register(*register), !0),
            other => (other, 0),
        };
        let a = self.input(statement, predicate, Kind::Predicate)?;
        let e = self.input(statement, mask, Kind::B32)?;
        let op = PtxOp::Vote(Box::new(Vote { mode, inverted }));
        self.push(statement, op, Slots { d, a, e, ..Slots::default() });
        Ok(())
    }

    fn matching(
        &mut self,
        statement: &Statement<'a>,
        all: bool,
        kind: Kind,
    ) -> Result<(), LoadError> {
        let [result, value, mask] = self.operands::<3>(statement)?;
        let (d, same) = self.pair(statement, result)?;
        if same.is_some() && !all {
            return Err(unknown(statement));
        }
        let a = self.input(statement, value, kind)?;
        let e = self.input(statement, mask, Kind::B32)?;
        let op = PtxOp::Match(Box::new(Match { kind, all, same }));
        self.push(statement, op, Slots { d, a, e, ..Slots::default() });
        Ok(())
    }
}
