//! The operands of an instruction.

use super::body::Body;
use super::scope::Meaning;
use super::token::Token;
use super::{Base, Operand, Symbol};
use crate::error::LoadError;

impl<'a> Body<'_, 'a> {
    /// One operand, also a vector in braces, an address in brackets, or a pair `a|b`.
    pub(super) fn operand(&mut self) -> Result<Operand, LoadError> {
        let token = self.parser.peek();
        match token.token {
            Token::Mark('{') => self.vector(),
            Token::Mark('[') => self.address(),
            Token::Mark('(') => {
                Err(self.parser.error_at(token, "calls of functions are not emulated"))
            }
            _ => {
                let first = self.simple()?;
                if self.parser.accept('|') {
                    let second = self.simple()?;
                    return Ok(Operand::Pair(Box::new(first), Box::new(second)));
                }
                Ok(first)
            }
        }
    }

    fn vector(&mut self) -> Result<Operand, LoadError> {
        self.parser.advance();
        let mut elements = Vec::new();
        loop {
            elements.push(self.simple()?);
            if !self.parser.accept(',') {
                self.parser.expect('}')?;
                return Ok(Operand::Vector(elements));
            }
        }
    }

    /// `[%rd1+16]`, `[name]`, `[name+4]`.
    fn address(&mut self) -> Result<Operand, LoadError> {
        self.parser.advance();
        let token = self.parser.peek();
        let address = match self.simple()? {
            Operand::Register(index) => {
                let offset = self.offset()?;
                Operand::Address(Base::Register(index), offset)
            }
            Operand::Symbol(symbol, offset) => Operand::Address(Base::Symbol(symbol), offset),
            Operand::Integer(value) => Operand::Address(Base::Absolute, value),
            _ => return Err(self.parser.error_at(token, "no address begins like this")),
        };
        self.parser.expect(']')?;
        Ok(address)
    }

    /// `+16`, `+-16` or `-16` behind a base, or nothing.
    fn offset(&mut self) -> Result<i64, LoadError> {
        let plus = self.parser.accept('+');
        let minus = self.parser.accept('-');
        if !plus && !minus {
            return Ok(0);
        }
        let value = self.parser.integer("an offset")? as i64;
        Ok(if minus { value.wrapping_neg() } else { value })
    }

    fn simple(&mut self) -> Result<Operand, LoadError> {
        let token = self.parser.peek();
        match token.token {
            Token::Word("_") => {
                self.parser.advance();
                Ok(Operand::Sink)
            }
            Token::Word(name) => {
                self.parser.advance();
                self.name(name, token.line, token.column)
            }
            Token::Integer(value) => {
                self.parser.advance();
                Ok(Operand::Integer(value as i64))
            }
            Token::Float32(bits) => {
                self.parser.advance();
                Ok(Operand::Float32(bits))
            }
            Token::Float64(bits) => {
                self.parser.advance();
                Ok(Operand::Float64(bits))
            }
            Token::Mark('-') => {
                self.parser.advance();
                match self.parser.advance().token {
                    Token::Integer(value) => Ok(Operand::Integer((value as i64).wrapping_neg())),
                    Token::Float32(bits) => Ok(Operand::Float32(bits ^ 1 << 31)),
                    Token::Float64(bits) => Ok(Operand::Float64(bits ^ 1 << 63)),
                    _ => Err(self.parser.error_at(token, "`-` stands before no number")),
                }
            }
            _ => Err(self.parser.expected("an operand")),
        }
    }

    /// A register, special register, variable, or else a label.
    fn name(&mut self, name: &'a str, line: u32, column: u32) -> Result<Operand, LoadError> {
        if let Some(meaning) = self.scopes.find(name, &mut self.function.registers) {
            return match meaning {
                Meaning::Register(index) => Ok(Operand::Register(index)),
                Meaning::Symbol(symbol) => Ok(Operand::Symbol(symbol, self.offset()?)),
            };
        }
        if name.starts_with('%') {
            let mut special = name.to_owned();
            if let Token::Dot(part @ ("x" | "y" | "z" | "w")) = self.parser.peek().token {
                self.parser.advance();
                special.push('.');
                special.push_str(part);
            }
            return Ok(Operand::Special(special));
        }
        if let Some(symbol) = self.unscoped_variable(name) {
            return Ok(Operand::Symbol(symbol, self.offset()?));
        }
        Ok(Operand::Label(self.scopes.use_label(name, line, column)))
    }

    /// A shared variable of the module, which becomes the function's when it is first named.
    fn unscoped_variable(&mut self, name: &str) -> Option<Symbol> {
        let known = self.function.variables.iter().position(|variable| variable.name == name);
        if let Some(index) = known {
            return Some(Symbol::Shared(index as u32));
        }
        let mut unscoped = self.parser.unscoped.iter();
        let variable = unscoped.find(|variable| variable.name == name)?;
        self.function.variables.push(variable.clone());
        Some(Symbol::Shared((self.function.variables.len() - 1) as u32))
    }
}
