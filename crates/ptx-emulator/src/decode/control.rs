//! Branches, ends, barriers and fences.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{Barrier, BarrierKind, FenceScope, PtxOp};
use crate::lanes::Slots;
use crate::syntax::{LabelTarget, Operand, Statement};
use crate::types::Kind;

impl<'a> Decoder<'_, 'a> {
    pub fn control(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let none = Slots::default();
        match (statement.name, statement.modifiers.as_slice()) {
            ("bra", [] | ["uni"]) => {
                let [target] = self.operands::<1>(statement)?;
                let target = self.label(statement, target)?;
                self.push(statement, PtxOp::Branch(target), none);
            }
            ("brx", ["idx"] | ["idx", "uni"]) => {
                let [index, table] = self.operands::<2>(statement)?;
                let a = self.input(statement, index, Kind::B32)?;
                let Operand::Label(label) = table else {
                    return Err(statement.error("a table of labels is missing"));
                };
                let LabelTarget::Table(targets) = &self.function.targets[*label as usize] else {
                    return Err(statement.error("a label in place of a table of labels"));
                };
                let op = PtxOp::BranchTable(targets.clone().into_boxed_slice());
                self.push(statement, op, Slots { a, ..none });
            }
            ("ret", [] | ["uni"]) | ("exit", []) => {
                self.operands::<0>(statement)?;
                self.push(statement, PtxOp::Exit, none);
            }
            ("trap", []) => self.push(statement, PtxOp::Trap, none),
            ("nanosleep", ["u32"]) | ("pmevent", []) => {
                let [operand] = self.operands::<1>(statement)?;
                self.input(statement, operand, Kind::B32)?;
                self.push(statement, PtxOp::Nothing, none);
            }
            ("prefetch" | "prefetchu", _) => self.push(statement, PtxOp::Nothing, none),
            ("membar", ["cta"]) => self.push(statement, PtxOp::Fence(FenceScope::Block), none),
            ("membar", ["gl" | "sys"]) => {
                self.push(statement, PtxOp::Fence(FenceScope::Device), none);
            }
            ("fence", [] | ["cta"] | ["sc" | "acq_rel" | "acquire" | "release", "cta"]) => {
                self.push(statement, PtxOp::Fence(FenceScope::Block), none);
            }
            (
                "fence",
                ["gpu" | "sys"]
                | ["sc" | "acq_rel" | "acquire" | "release", "gpu" | "sys" | "cluster"],
            ) => self.push(statement, PtxOp::Fence(FenceScope::Device), none),
            _ => return Err(unknown(statement)),
        }
        Ok(())
    }

    /// `bar` and `barrier`, for blocks and (`bar.warp.sync`) for warps.
    pub fn barrier(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let mut modifiers = statement.modifiers.clone();
        if modifiers == ["warp", "sync"] && statement.name == "bar" {
            let [mask] = self.operands::<1>(statement)?;
            let a = self.input(statement, mask, Kind::B32)?;
            self.push(statement, PtxOp::WarpSync, Slots { a, ..Slots::default() });
            return Ok(());
        }
        if modifiers.first() == Some(&"cta") {
            modifiers.remove(0);
        }
        // All are taken as aligned: the lanes of a warp meet at the same instruction.
        modifiers.retain(|&modifier| modifier != "aligned");
        let kind = match modifiers.as_slice() {
            ["sync"] => BarrierKind::Sync,
            ["arrive"] => BarrierKind::Arrive,
            ["red", "popc", "u32"] => BarrierKind::Count,
            ["red", "and", "pred"] => BarrierKind::And,
            ["red", "or", "pred"] => BarrierKind::Or,
            _ => return Err(unknown(statement)),
        };
        let reduces = !matches!(kind, BarrierKind::Sync | BarrierKind::Arrive);
        let mut operands = statement.operands.as_slice();
        let mut slots = Slots::default();
        let mut inverted = 0;
        if reduces {
            let ([result, rest @ ..], [.., predicate]) = (operands, operands) else {
                return Err(unknown(statement));
            };
            let result_kind = if kind == BarrierKind::Count { Kind::B32 } else { Kind::Predicate };
            slots.d = self.output(statement, result, result_kind)?;
            let predicate = match predicate {
                Operand::Negated(register) => {
                    inverted = !0;
                    &Operand::Register(*register)
                }
                other => other,
            };
            slots.c = self.input(statement, predicate, Kind::Predicate)?;
            operands = rest.split_last().map_or(&[], |(_, rest)| rest);
        }
        let threads = match operands {
            [number] if kind != BarrierKind::Arrive => {
                slots.a = self.input(statement, number, Kind::B32)?;
                None
            }
            [number, threads] => {
                slots.a = self.input(statement, number, Kind::B32)?;
                Some(self.input(statement, threads, Kind::B32)?)
            }
            _ => return Err(statement.error("the barrier has a wrong number of operands")),
        };
        let op = PtxOp::Barrier(Box::new(Barrier { kind, threads, inverted }));
        self.push(statement, op, slots);
        Ok(())
    }
}
