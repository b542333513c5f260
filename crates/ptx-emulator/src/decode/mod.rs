//! From statements to instructions. `lanes` decodes what computes from registers to a register,
//! the other files one group of opcodes each. What none of them knows is a [`LoadError`].

mod control;
mod conversion;
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
use crate::program::{Constant, LaneTraffic, PtxKernel, Site, Special};
use crate::registers::SlotCounts;
use crate::syntax::{ParsedFunction, ParsedModule, Statement};
use crate::types::{Kind, Space};

/// Most bytes of local memory that a thread may have.
const MAX_LOCAL: u64 = 512 << 10;

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
    constants: HashMap<(Constant, Kind), u32>,
    specials: HashMap<(Special, Kind), u32>,
    /// The address of each of the function's variables in its space.
    addresses: Vec<u64>,
    code: Vec<Instruction>,
    sites: Vec<Site>,
    /// The instruction that each statement begins with.
    starts: Vec<u32>,
    shared_grain: u32,
    global_grain: u32,
}

fn kernel(function: &ParsedFunction<'_>, simd: Simd) -> Result<PtxKernel, LoadError> {
    let mut counts = SlotCounts::default();
    counts.take(Kind::Predicate);
    let declared = function.registers.iter();
    let registers = declared.map(|register| counts.take(register.declared.kind())).collect();
    let layout = Layout::of(function)?;
    let mut decoder = Decoder {
        function,
        simd,
        counts,
        registers,
        constants: HashMap::new(),
        specials: HashMap::new(),
        addresses: layout.addresses,
        code: Vec::new(),
        sites: Vec::new(),
        starts: Vec::with_capacity(function.statements.len()),
        shared_grain: 4,
        global_grain: 4,
    };
    for statement in &function.statements {
        decoder.starts.push(decoder.code.len() as u32);
        decoder.statement(statement)?;
        decoder.finish_sites(statement);
    }
    decoder.finish();
    let shared = function.variables.iter().zip(&decoder.addresses);
    let shared = shared.filter(|(variable, _)| variable.space == Space::Shared);
    let shared_variables = shared
        .map(|(variable, &address)| (variable.name.clone(), address as u32, variable.bytes))
        .collect();
    Ok(PtxKernel {
        name: function.name.clone(),
        parameters: function.parameters.clone(),
        max_threads: function.max_threads,
        shared_bytes: layout.shared,
        copies: decoder.code.iter().any(|known| matches!(known.op, PtxOp::CopyAsync(_))),
        local_bytes: layout.local,
        code: decoder.code,
        sites: decoder.sites,
        slots: decoder.counts,
        constants: decoder.constants.into_iter().map(|((c, kind), slot)| (c, kind, slot)).collect(),
        specials: decoder.specials.into_iter().map(|((s, kind), slot)| (s, kind, slot)).collect(),
        shared_grain: decoder.shared_grain,
        global_grain: decoder.global_grain,
        shared_variables,
    })
}

/// Where shared and local variables lie.
struct Layout {
    addresses: Vec<u64>,
    shared: u32,
    local: u32,
}

impl Layout {
    fn of(function: &ParsedFunction<'_>) -> Result<Layout, LoadError> {
        let (mut shared, mut local) = (0u64, 0u64);
        let mut addresses = vec![0; function.variables.len()];
        for (variable, address) in function.variables.iter().zip(&mut addresses) {
            if !variable.dynamic {
                let end = if variable.space == Space::Shared { &mut shared } else { &mut local };
                *address = end.next_multiple_of(u64::from(variable.alignment));
                *end = *address + variable.bytes;
            }
        }
        // All dynamic variables begin at the same place, behind those of known size.
        let dynamic = function.variables.iter().filter(|variable| variable.dynamic);
        let alignment = dynamic.map(|variable| u64::from(variable.alignment)).max();
        if let Some(alignment) = alignment {
            shared = shared.next_multiple_of(alignment);
        }
        for (variable, address) in function.variables.iter().zip(&mut addresses) {
            if variable.dynamic {
                *address = shared;
            }
        }
        if local > MAX_LOCAL || shared > 1 << 24 {
            let what =
                format!("`{}` declares more shared or local memory than there is", function.name);
            return Err(LoadError::new(function.line, 1, what));
        }
        let (shared, local) = (shared as u32, local.next_multiple_of(16) as u32);
        Ok(Layout { addresses, shared, local })
    }
}

impl<'m, 'a> Decoder<'m, 'a> {
    fn statement(&mut self, statement: &Statement<'a>) -> Result<(), LoadError> {
        match statement.name {
            "ld" | "st" | "ldu" => self.access(statement),
            "atom" | "red" => self.atomic(statement),
            "cvta" | "isspacep" => self.address_conversion(statement),
            "bra" | "brx" | "ret" | "exit" | "trap" | "nanosleep" | "membar" | "fence"
            | "prefetch" | "prefetchu" | "pmevent" => self.control(statement),
            "bar" | "barrier" => self.barrier(statement),
            "shfl" | "vote" | "match" | "redux" | "activemask" => self.warp(statement),
            "cp" => self.copy_async(statement),
            "ldmatrix" | "movmatrix" | "mma" => self.matrix(statement),
            "mov" => self.mov(statement),
            "cvt" => self.conversion(statement),
            "setp" | "set" => self.comparison(statement),
            _ => self.lane_instruction(statement),
        }
    }

    /// Adds an instruction under the statement's guard.
    fn push(&mut self, statement: &Statement<'_>, op: PtxOp, slots: Slots) {
        let (guard, inverted) = match statement.guard {
            Some((register, negated)) => {
                (self.registers[register as usize], if negated { !0 } else { 0 })
            }
            None => (0, 0),
        };
        self.code.push(Instruction { op, guard, inverted, slots });
    }

    /// Notes where the instructions of a statement come from.
    fn finish_sites(&mut self, statement: &Statement<'_>) {
        let location = statement.location.map(|index| self.function.locations[index as usize]);
        for index in self.sites.len()..self.code.len() {
            let first = index == *self.starts.last().unwrap_or(&0) as usize;
            let site = Site {
                line: statement.line,
                range: statement.range,
                location,
                first,
                operations: if first { operations(statement) } else { 0 },
                traffic: if first { traffic(&self.code[index].op) } else { None },
            };
            self.sites.push(site);
        }
    }

    /// Resolves branches, and ends the code with an exit.
    fn finish(&mut self) {
        let end = self.code.len() as u32;
        let start = |statement: u32| *self.starts.get(statement as usize).unwrap_or(&end);
        for instruction in &mut self.code {
            match &mut instruction.op {
                PtxOp::Branch(target) => *target = start(*target),
                PtxOp::BranchTable(targets) => {
                    for target in targets {
                        *target = start(*target);
                    }
                }
                _ => {}
            }
        }
        let last = self.sites.last().copied();
        let none = Site {
            line: self.function.line,
            range: (0, 0),
            location: None,
            first: false,
            operations: 0,
            traffic: None,
        };
        let site = Site { first: false, operations: 0, traffic: None, ..last.unwrap_or(none) };
        let slots = Slots::default();
        self.code.push(Instruction { op: PtxOp::Exit, guard: 0, inverted: 0, slots });
        self.sites.push(site);
    }
}

/// Floating-point operations of one lane.
fn operations(statement: &Statement<'_>) -> u32 {
    let Some(ty) = statement.modifiers.last() else { return 0 };
    let numbers = match *ty {
        "f16x2" | "bf16x2" => 2,
        "f16" | "bf16" | "f32" | "f64" => 1,
        _ => return 0,
    };
    match statement.name {
        "fma" | "mad" => 2 * numbers,
        "add" | "sub" | "mul" | "div" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2"
        | "ex2" | "tanh" | "min" | "max" => numbers,
        // m16n8kK: 2 · 16 · 8 · K operations by 32 lanes.
        "mma" => match statement.modifiers.get(2) {
            Some(&"m16n8k16") => 128,
            Some(&"m16n8k8") => 64,
            Some(&"m16n8k4") => 32,
            _ => 0,
        },
        _ => 0,
    }
}

/// Bytes that one lane moves.
fn traffic(op: &PtxOp) -> Option<LaneTraffic> {
    let (space, loaded, stored) = match op {
        PtxOp::Load(access) => (access.address.space, access.bytes(), 0),
        PtxOp::Store(access) => (access.address.space, 0, access.bytes()),
        PtxOp::Atomic(atomic) => {
            let bytes = atomic.value_type.bytes();
            (atomic.address.space, bytes, bytes)
        }
        // The write to shared memory is not counted: it does not pass through the lanes.
        PtxOp::CopyAsync(copy) => (Space::Global, copy.bytes, 0),
        // 32 lanes get 8 rows of 16 bytes a matrix.
        PtxOp::LoadMatrix(load) => (Space::Shared, 4 * load.results.len() as u32, 0),
        _ => return None,
    };
    Some(LaneTraffic { space, loaded, stored })
}
