//! From statements to instructions, one for each. `lanes` decodes what computes from registers to a register,
//! the other files one group of opcodes each. What none of them knows is a [`LoadError`].

mod control;
mod copy;
mod lanes;
mod matrix;
mod memory;
mod operands;
mod warp;

use std::collections::HashMap;

use crate::error::LoadError;
use crate::instruction::{Instruction, PtxOp};
use crate::lanes::{Simd, Slots};
use crate::program::{PtxKernel, Site, Special};
use crate::registers::SlotCounts;
use crate::syntax::{ParsedFunction, ParsedModule, Statement, Variable};
use crate::types::Kind;

/// Decodes all kernels of a module.
pub(crate) fn kernels(module: &ParsedModule<'_>, simd: Simd) -> Result<Vec<PtxKernel>, LoadError> {
    module.functions.iter().map(|function| kernel(function, simd)).collect()
}

/// What is known while a kernel is decoded.
struct Decoder<'m, 'a> {
    function: &'m ParsedFunction<'a>,
    simd: Simd,
    counts: SlotCounts,
    /// The slot of each declared register.
    registers: Vec<u32>,
    constants: HashMap<(u64, Kind), u32>,
    specials: HashMap<Special, u32>,
    /// The address of each of the function's shared variables.
    addresses: Vec<u64>,
    code: Vec<Instruction>,
    sites: Vec<Site>,
    shared_grain: u32,
    global_grain: u32,
}

fn kernel(function: &ParsedFunction<'_>, simd: Simd) -> Result<PtxKernel, LoadError> {
    let mut counts = SlotCounts::default();
    counts.take(Kind::Predicate);
    let declared = function.registers.iter();
    let registers = declared.map(|register| counts.take(register.declared.kind())).collect();
    let (addresses, shared_bytes) = layout(function)?;
    let mut decoder = Decoder {
        function,
        simd,
        counts,
        registers,
        constants: HashMap::new(),
        specials: HashMap::new(),
        addresses,
        code: Vec::new(),
        sites: Vec::new(),
        shared_grain: 4,
        global_grain: 4,
    };
    for statement in &function.statements {
        decoder.statement(statement)?;
    }
    // Behind the last statement, where a branch may lead too, all lanes end.
    let site = Site { line: function.line, range: (0, 0), location: None };
    decoder.sites.push(decoder.sites.last().copied().unwrap_or(site));
    let slots = Slots::default();
    decoder.code.push(Instruction { op: PtxOp::Exit, guard: 0, inverted: 0, slots });
    let shared = function.variables.iter().zip(&decoder.addresses);
    let shared_variables = shared
        .map(|(variable, &address)| (variable.name.clone(), address as u32, variable.bytes))
        .collect();
    Ok(PtxKernel {
        name: function.name.clone(),
        parameters: function.parameters.clone(),
        max_threads: function.max_threads,
        shared_bytes,
        copies: decoder.code.iter().any(|known| matches!(known.op, PtxOp::CopyAsync(_))),
        code: decoder.code,
        sites: decoder.sites,
        slots: decoder.counts,
        constants: decoder.constants.into_iter().map(|((c, kind), slot)| (c, kind, slot)).collect(),
        specials: decoder.specials.into_iter().collect(),
        shared_grain: decoder.shared_grain,
        global_grain: decoder.global_grain,
        shared_variables,
    })
}

/// Where the shared variables lie, and how many bytes they take.
fn layout(function: &ParsedFunction<'_>) -> Result<(Vec<u64>, u32), LoadError> {
    let mut end = 0u64;
    let mut place = |variable: &Variable| {
        let address = end.next_multiple_of(u64::from(variable.alignment));
        end = address + variable.bytes;
        address
    };
    let addresses = function.variables.iter().map(&mut place).collect();
    if end > 1 << 24 {
        let what = format!("`{}` declares more shared memory than there is", function.name);
        return Err(LoadError::new(function.line, 1, what));
    }
    Ok((addresses, end as u32))
}

impl<'m, 'a> Decoder<'m, 'a> {
    fn statement(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        match statement.name {
            "ld" | "st" => self.access(statement),
            "cvta" => self.address_conversion(statement),
            "bra" | "ret" | "bar" => self.control(statement),
            "shfl" => self.shuffle(statement),
            "cp" => self.copy_async(statement),
            "ldmatrix" | "mma" => self.matrix(statement),
            _ => self.lane_instruction(statement),
        }
    }

    /// Adds the one instruction that a statement becomes.
    fn push(&mut self, statement: &Statement<'_>, op: PtxOp, slots: Slots) {
        let (guard, inverted) = match statement.guard {
            Some((register, negated)) => {
                (self.registers[register as usize], if negated { !0 } else { 0 })
            }
            None => (0, 0),
        };
        self.code.push(Instruction { op, guard, inverted, slots });
        let location = statement.location.map(|index| self.function.locations[index as usize]);
        self.sites.push(Site { line: statement.line, range: statement.range, location });
    }
}
