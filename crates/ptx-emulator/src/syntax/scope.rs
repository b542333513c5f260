//! Names in a function: nested `{ }` scopes with registers, variables and labels.

use std::collections::HashMap;

use super::{Register, Symbol};
use crate::types::Type;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    Register(u32),
    Symbol(Symbol),
}

#[derive(Default)]
struct Scope<'a> {
    parent: Option<usize>,
    names: HashMap<&'a str, Meaning>,
    /// `%r<8>` declares `%r0` to `%r7`: the type and the count by the common part.
    ranges: HashMap<&'a str, (Type, u64)>,
    /// The statement that each label stands before.
    labels: HashMap<&'a str, u32>,
}

/// A label that was used, to be resolved at the function's end.
struct Use<'a> {
    name: &'a str,
    scope: usize,
    line: u32,
    column: u32,
}

/// The scopes of one function.
pub(super) struct Scopes<'a> {
    all: Vec<Scope<'a>>,
    current: usize,
    uses: Vec<Use<'a>>,
}

impl<'a> Scopes<'a> {
    pub fn new() -> Scopes<'a> {
        Scopes { all: vec![Scope::default()], current: 0, uses: Vec::new() }
    }

    pub fn open(&mut self) {
        self.all.push(Scope { parent: Some(self.current), ..Scope::default() });
        self.current = self.all.len() - 1;
    }

    /// Leaves the innermost scope; false if it is the function's own.
    pub fn close(&mut self) -> bool {
        match self.all[self.current].parent {
            Some(parent) => {
                self.current = parent;
                true
            }
            None => false,
        }
    }

    /// Gives a name a meaning in the current scope; false if it has one there.
    pub fn declare(&mut self, name: &'a str, meaning: Meaning) -> bool {
        self.all[self.current].names.insert(name, meaning).is_none()
    }

    /// Declares `prefix0` up to `prefix(count-1)`; false if the prefix is taken.
    pub fn declare_range(&mut self, prefix: &'a str, declared: Type, count: u64) -> bool {
        self.all[self.current].ranges.insert(prefix, (declared, count)).is_none()
    }

    /// Declares a label before a statement; false if the scope has it.
    pub fn label(&mut self, name: &'a str, statement: u32) -> bool {
        self.all[self.current].labels.insert(name, statement).is_none()
    }

    /// The meaning of a name from the innermost scope outwards. Registers of a range get their
    /// number when they are first named.
    pub fn find(&mut self, name: &'a str, registers: &mut Vec<Register>) -> Option<Meaning> {
        let mut at = Some(self.current);
        while let Some(index) = at {
            let scope = &mut self.all[index];
            if let Some(&meaning) = scope.names.get(name) {
                return Some(meaning);
            }
            if let Some((prefix, number)) = split_number(name)
                && let Some(&(declared, count)) = scope.ranges.get(prefix)
                && number < count
            {
                let meaning = Meaning::Register(registers.len() as u32);
                registers.push(Register { name: name.to_owned(), declared });
                scope.names.insert(name, meaning);
                return Some(meaning);
            }
            at = scope.parent;
        }
        None
    }

    /// Notes that a label is used here; gives the index of its target in what `resolve` returns.
    pub fn use_label(&mut self, name: &'a str, line: u32, column: u32) -> u32 {
        self.uses.push(Use { name, scope: self.current, line, column });
        (self.uses.len() - 1) as u32
    }

    /// The targets of all labels that were used, or the first name that is none.
    pub fn resolve(&self) -> Result<Vec<u32>, (&'a str, u32, u32)> {
        let target = |used: &Use<'a>| {
            self.place(used.name, used.scope).ok_or((used.name, used.line, used.column))
        };
        self.uses.iter().map(target).collect()
    }

    fn place(&self, name: &str, scope: usize) -> Option<u32> {
        let mut at = Some(scope);
        while let Some(index) = at {
            if let Some(&statement) = self.all[index].labels.get(name) {
                return Some(statement);
            }
            at = self.all[index].parent;
        }
        None
    }
}

/// `%r12` as `%r` and 12. A number with a leading zero names no register of a range.
fn split_number(name: &str) -> Option<(&str, u64)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (prefix, number) = name.split_at(name.len() - digits);
    let plain = number == "0" || !number.starts_with('0');
    if plain { Some((prefix, number.parse().ok()?)) } else { None }
}
