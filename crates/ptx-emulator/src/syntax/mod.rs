//! PTX text as a tree: what was declared, and statements with resolved names. What an instruction
//! does is decided in `decode`.

mod body;
mod module;
mod operand;
mod scope;
mod token;

use std::collections::BTreeMap;

use crate::error::LoadError;
use crate::types::Type;

/// All of one PTX text.
#[derive(Debug, Default)]
pub(crate) struct ParsedModule<'a> {
    pub functions: Vec<ParsedFunction<'a>>,
    /// Names of source files by their number in `.loc`.
    pub files: BTreeMap<u32, String>,
}

/// A variable in shared memory.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub name: String,
    pub bytes: u64,
    pub alignment: u32,
}

/// One parameter of a kernel, and where it lies among the parameters' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelParameter {
    pub(crate) name: String,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

impl KernelParameter {
    /// Its name in the PTX text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Offset in bytes.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }
}

/// A kernel's declarations and statements.
#[derive(Debug, Default)]
pub(crate) struct ParsedFunction<'a> {
    pub name: String,
    pub line: u32,
    pub parameters: Vec<KernelParameter>,
    pub max_threads: Option<u32>,
    pub registers: Vec<Register>,
    /// Shared variables.
    pub variables: Vec<Variable>,
    pub statements: Vec<Statement<'a>>,
    /// What [`Operand::Label`] refers to: the statement that a label stands before.
    pub targets: Vec<u32>,
    pub locations: Vec<Location>,
}

/// A declared register.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    pub name: String,
    pub declared: Type,
}

/// A place in the CUDA source, from `.loc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub file: u32,
    pub line: u32,
    /// File and line that the function around it was inlined at.
    pub inlined_at: Option<(u32, u32)>,
}

/// One instruction.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub line: u32,
    pub column: u32,
    /// The first and the last byte of its text.
    pub range: (usize, usize),
    /// The predicate register in front, and whether it is negated.
    pub guard: Option<(u32, bool)>,
    pub name: &'a str,
    pub modifiers: Vec<&'a str>,
    pub operands: Vec<Operand>,
    /// Index into [`ParsedFunction::locations`].
    pub location: Option<u32>,
}

impl Statement<'_> {
    pub(crate) fn error(&self, what: impl Into<String>) -> LoadError {
        LoadError::new(self.line, self.column, what)
    }

    /// The opcode with its modifiers.
    pub(crate) fn mnemonic(&self) -> String {
        let mut text = self.name.to_owned();
        for modifier in &self.modifiers {
            text.push('.');
            text.push_str(modifier);
        }
        text
    }
}

/// What an address begins with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Base {
    Register(u32),
    Symbol(Symbol),
    Absolute,
}

/// A declared variable or parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    /// Index into [`ParsedFunction::variables`].
    Shared(u32),
    /// Index into [`ParsedFunction::parameters`].
    Parameter(u32),
}

/// An operand with its names resolved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Register(u32),
    /// `%tid.x`, with its dot.
    Special(String),
    Integer(i64),
    Float32(u32),
    Float64(u64),
    /// The address of a variable, and what is added to it.
    Symbol(Symbol, i64),
    /// Index into [`ParsedFunction::targets`].
    Label(u32),
    Address(Base, i64),
    Vector(Vec<Operand>),
    /// `%r1|%p1`: two results.
    Pair(Box<Operand>, Box<Operand>),
    /// `_`: a result that is not kept.
    Sink,
}

/// Parses a PTX text.
pub(crate) fn parse(text: &str) -> Result<ParsedModule<'_>, LoadError> {
    module::parse(text)
}
