//! `ldmatrix`, `movmatrix` and `mma`.

use super::Decoder;
use super::lanes::unknown;
use crate::error::LoadError;
use crate::instruction::{Factor, LoadMatrix, Multiply, PtxOp};
use crate::lanes::Slots;
use crate::syntax::{Operand, Statement};
use crate::types::{Kind, Space};

impl<'a> Decoder<'_, 'a> {
    pub fn matrix(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        let modifiers = statement.modifiers.as_slice();
        match (statement.name, modifiers) {
            (
                "ldmatrix",
                ["sync", "aligned", "m8n8", count @ ("x1" | "x2" | "x4"), rest @ .., space, "b16"],
            ) if matches!(*space, "shared" | "shared::cta") && matches!(rest, [] | ["trans"]) => {
                let count = usize::from(count.as_bytes()[1] - b'0');
                self.load_matrix(statement, count, !rest.is_empty())
            }
            ("movmatrix", ["sync", "aligned", "m8n8", "trans", "b16"]) => {
                let [result, value] = self.operands::<2>(statement)?;
                let a = self.input(statement, value, Kind::B32)?;
                let d = self.output(statement, result, Kind::B32)?;
                self.push(statement, PtxOp::TransposeMatrix, Slots { d, a, ..Slots::default() });
                Ok(())
            }
            ("mma", ["sync", "aligned", shape, "row", "col", "f32", factors, same, "f32"])
                if factors == same =>
            {
                let (factor, k) = match (*factors, *shape) {
                    ("bf16", "m16n8k16") => (Factor::Bf16, 16),
                    ("bf16", "m16n8k8") => (Factor::Bf16, 8),
                    ("f16", "m16n8k16") => (Factor::F16, 16),
                    ("f16", "m16n8k8") => (Factor::F16, 8),
                    ("tf32", "m16n8k8") => (Factor::Tf32, 8),
                    ("tf32", "m16n8k4") => (Factor::Tf32, 4),
                    _ => return Err(unknown(statement)),
                };
                self.multiply(statement, factor, k)
            }
            _ => Err(unknown(statement)),
        }
    }

    /// The elements of a vector operand; a single one may stand without braces.
    fn elements<'s>(
        &self,
        statement: &Statement<'a>,
        operand: &'s Operand,
        count: usize,
    ) -> Result<&'s [Operand], LoadError> {
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() == count {
            Ok(elements)
        } else {
            let found = elements.len();
            Err(statement.error(format!("a vector of {count} registers is taken, not of {found}")))
        }
    }

    fn load_matrix(
        &mut self,
        statement: &Statement<'a>,
        count: usize,
        transposed: bool,
    ) -> Result<(), LoadError> {
        let [results, address] = self.operands::<2>(statement)?;
        let elements = self.elements(statement, results, count)?;
        let results = elements
            .iter()
            .map(|operand| self.output(statement, operand, Kind::B32))
            .collect::<Result<Vec<_>, _>>()?;
        let address = self.address(statement, address, Space::Shared)?;
        let load = LoadMatrix { address, transposed, results };
        self.push(statement, PtxOp::LoadMatrix(Box::new(load)), Slots::default());
        Ok(())
    }

    fn multiply(
        &mut self,
        statement: &Statement<'a>,
        factor: Factor,
        k: u32,
    ) -> Result<(), LoadError> {
        let [d, a, b, c] = self.operands::<4>(statement)?;
        // A 32-bit register holds two bf16 or f16, or one tf32; 32 lanes share the elements.
        let each = if factor == Factor::Tf32 { 1 } else { 2 };
        let counts = [16 * k / 32 / each, 8 * k / 32 / each];
        let mut inputs = [Vec::new(), Vec::new(), Vec::new()];
        for ((slots, operand), count) in
            inputs.iter_mut().zip([a, b, c]).zip([counts[0], counts[1], 4])
        {
            for element in self.elements(statement, operand, count as usize)? {
                slots.push(self.input(statement, element, Kind::B32)?);
            }
        }
        let [a, b, c] = inputs;
        let mut sums = [0; 4];
        for (slot, element) in sums.iter_mut().zip(self.elements(statement, d, 4)?) {
            *slot = self.output(statement, element, Kind::B32)?;
        }
        let c = [c[0], c[1], c[2], c[3]];
        let multiply = Multiply { factor, k, a, b, c, d: sums };
        self.push(statement, PtxOp::Multiply(Box::new(multiply)), Slots::default());
        Ok(())
    }
}
