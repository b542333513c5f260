//! `ldmatrix` and `mma`.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{Factor, LoadMatrix, Multiply, PtxOp};
use crate::lanes::Slots;
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Space};

impl<'a> Decoder<'_, 'a> {
    pub fn matrix(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let op = match (statement.name, statement.modifiers.as_slice()) {
            ("ldmatrix", ["sync", "aligned", "m8n8", "x4", rest @ .., "shared", "b16"])
                if matches!(rest, [] | ["trans"]) =>
            {
                let [results, address] = self.operands::<2>(statement)?;
                let results = self.outputs(statement, results)?;
                let address = self.address(statement, address, Space::Shared)?;
                let transposed = !rest.is_empty();
                PtxOp::LoadMatrix(Box::new(LoadMatrix { address, transposed, results }))
            }
            (
                "mma",
                ["sync", "aligned", "m16n8k16", "row", "col", "f32", "bf16", "bf16", "f32"],
            ) => self.multiply(statement, Factor::Bf16)?,
            ("mma", ["sync", "aligned", "m16n8k8", "row", "col", "f32", "tf32", "tf32", "f32"]) => {
                self.multiply(statement, Factor::Tf32)?
            }
            _ => return Err(unknown(statement)),
        };
        self.push(statement, op, Slots::default());
        Ok(())
    }

    fn multiply(&mut self, statement: &Statement<'a>, factor: Factor) -> Result<PtxOp, LoadError> {
        let [d, a, b, c] = self.operands::<4>(statement)?;
        let (a, b) = (self.inputs(statement, a)?, self.inputs(statement, b)?);
        let (c, d) = (self.inputs(statement, c)?, self.outputs(statement, d)?);
        Ok(PtxOp::Multiply(Box::new(Multiply { factor, a, b, c, d })))
    }

    /// The slots of a vector of registers that are read.
    fn inputs<const N: usize>(
        &mut self,
        statement: &Statement<'a>,
        operand: &Operand,
    ) -> Result<[u32; N], LoadError> {
        let mut slots = [0; N];
        for (slot, element) in slots.iter_mut().zip(elements::<N>(statement, operand)?) {
            *slot = self.input(statement, element, Kind::B32)?;
        }
        Ok(slots)
    }

    /// The slots of a vector of registers that are written.
    fn outputs<const N: usize>(
        &self,
        statement: &Statement<'a>,
        operand: &Operand,
    ) -> Result<[u32; N], LoadError> {
        let mut slots = [0; N];
        for (slot, element) in slots.iter_mut().zip(elements::<N>(statement, operand)?) {
            *slot = self.output(statement, element, Kind::B32)?;
        }
        Ok(slots)
    }
}

/// The elements of a vector operand.
fn elements<'s, const N: usize>(
    statement: &Statement<'_>,
    operand: &'s Operand,
) -> Result<&'s [Operand], LoadError> {
    match operand {
        Operand::Vector(elements) if elements.len() == N => Ok(elements),
        _ => Err(statement.error(format!("a vector of {N} registers is missing"))),
    }
}
