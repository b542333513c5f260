//! The body of a kernel: declarations, scopes, labels and instructions.

use super::module::Parser;
use super::scope::{Meaning, Scopes};
use super::token::{Located, Token};
use super::{Location, ParsedFunction, Register, Statement, Symbol};
use crate::error::LoadError;
use crate::types::Type;

/// Parses `{ … }` into the function.
pub(super) fn parse<'a>(
    parser: &mut Parser<'a>,
    function: &mut ParsedFunction<'a>,
    scopes: Scopes<'a>,
) -> Result<(), LoadError> {
    parser.expect('{')?;
    let mut body = Body { parser, function, scopes, location: None };
    while body.item()? {}
    let targets = body.scopes.resolve();
    function.targets = targets.map_err(|(name, line, column)| {
        LoadError::new(line, column, format!("`{name}` is not declared"))
    })?;
    Ok(())
}

/// Gives a name its meaning in the current scope.
pub(super) fn declare<'a>(
    parser: &Parser<'a>,
    scopes: &mut Scopes<'a>,
    token: Located<'a>,
    name: &'a str,
    meaning: Meaning,
) -> Result<(), LoadError> {
    if scopes.declare(name, meaning) {
        Ok(())
    } else {
        Err(parser.error_at(token, format!("`{name}` is declared twice")))
    }
}

/// What is known while a body is read.
pub(super) struct Body<'p, 'a> {
    pub parser: &'p mut Parser<'a>,
    pub function: &'p mut ParsedFunction<'a>,
    pub scopes: Scopes<'a>,
    location: Option<u32>,
}

impl<'a> Body<'_, 'a> {
    /// Reads one declaration, label or instruction; false at the function's end.
    fn item(&mut self) -> Result<bool, LoadError> {
        let token = self.parser.peek();
        match token.token {
            Token::Mark('{') => {
                self.parser.advance();
                self.scopes.open();
            }
            Token::Mark('}') => {
                self.parser.advance();
                return Ok(self.scopes.close());
            }
            Token::Mark(';') => {
                self.parser.advance();
            }
            Token::Dot("reg") => self.registers()?,
            Token::Dot("shared") => {
                for (name, variable) in self.parser.variables()? {
                    let index = self.function.variables.len() as u32;
                    self.function.variables.push(variable);
                    let meaning = Meaning::Symbol(Symbol::Shared(index));
                    declare(self.parser, &mut self.scopes, token, name, meaning)?;
                }
            }
            Token::Dot("loc") => self.location()?,
            Token::Dot("pragma") => self.parser.pragma()?,
            Token::Dot("param") => {
                let what = "a call of a function, such as printf, assert or one that was not \
                            inlined; calls are not emulated";
                return Err(self.parser.error_at(token, what));
            }
            Token::Dot(name) => {
                return Err(self.parser.error_at(token, format!("unknown directive `.{name}`")));
            }
            Token::Word(name) if self.parser.peek_second() == Token::Mark(':') => {
                self.parser.advance();
                self.parser.advance();
                self.label(token, name)?;
            }
            Token::Word(_) | Token::Mark('@') => self.instruction()?,
            _ => return Err(self.parser.expected("an instruction")),
        }
        Ok(true)
    }

    /// `.reg .b32 %r<8>;` or `.reg .b32 a, b;`
    fn registers(&mut self) -> Result<(), LoadError> {
        self.parser.advance();
        let token = self.parser.peek();
        let declared = match token.token {
            Token::Dot(name) => Type::parse(name).filter(|found| found.bytes() != 1),
            _ => None,
        };
        let Some(declared) = declared else {
            return Err(self.parser.expected("a register's type"));
        };
        self.parser.advance();
        loop {
            let token = self.parser.peek();
            let name = self.parser.word("a register's name")?;
            if self.parser.accept('<') {
                let count = self.parser.integer("a number of registers")?;
                self.parser.expect('>')?;
                if !self.scopes.declare_range(name, declared, count) {
                    let what = format!("`{name}<…>` is declared twice");
                    return Err(self.parser.error_at(token, what));
                }
            } else {
                let index = self.function.registers.len() as u32;
                self.function.registers.push(Register { name: name.to_owned(), declared });
                let meaning = Meaning::Register(index);
                declare(self.parser, &mut self.scopes, token, name, meaning)?;
            }
            if !self.parser.accept(',') {
                return self.parser.expect(';');
            }
        }
    }

    /// `.loc 1 23 5, function_name $L__info_string0, inlined_at 1 50 3`
    fn location(&mut self) -> Result<(), LoadError> {
        self.parser.advance();
        let file = self.parser.small("a file's number")?;
        let line = self.parser.small("a line")?;
        self.parser.small("a column")?;
        let mut inlined_at = None;
        while self.parser.accept(',') {
            match self.parser.word("`function_name` or `inlined_at`")? {
                "function_name" => {
                    self.parser.word("a label")?;
                    if self.parser.accept('+') {
                        self.parser.integer("an offset")?;
                    }
                }
                "inlined_at" => {
                    let file = self.parser.small("a file's number")?;
                    inlined_at = Some((file, self.parser.small("a line")?));
                    self.parser.small("a column")?;
                }
                _ => return Err(self.parser.expected("`function_name` or `inlined_at`")),
            }
        }
        let location = Location { file, line, inlined_at };
        if self.function.locations.last() != Some(&location) {
            self.function.locations.push(location);
        }
        self.location = Some((self.function.locations.len() - 1) as u32);
        Ok(())
    }

    fn label(&mut self, token: Located<'a>, name: &'a str) -> Result<(), LoadError> {
        if self.scopes.label(name, self.function.statements.len() as u32) {
            Ok(())
        } else {
            Err(self.parser.error_at(token, format!("label `{name}` is declared twice")))
        }
    }

    fn instruction(&mut self) -> Result<(), LoadError> {
        let first = self.parser.peek();
        let guard = if self.parser.accept('@') { Some(self.guard()?) } else { None };
        let name = self.parser.word("an opcode")?;
        let mut modifiers = Vec::new();
        while let Token::Dot(modifier) = self.parser.peek().token {
            modifiers.push(modifier);
            self.parser.advance();
        }
        let mut operands = Vec::new();
        if !self.parser.accept(';') {
            loop {
                operands.push(self.operand()?);
                if !self.parser.accept(',') {
                    break;
                }
            }
            self.parser.expect(';')?;
        }
        let range = (first.start, self.parser.end_of_last());
        let (line, column, location) = (first.line, first.column, self.location);
        let statement =
            Statement { line, column, range, guard, name, modifiers, operands, location };
        self.function.statements.push(statement);
        Ok(())
    }

    fn guard(&mut self) -> Result<(u32, bool), LoadError> {
        let negated = self.parser.accept('!');
        let token = self.parser.peek();
        let name = self.parser.word("a predicate register")?;
        match self.scopes.find(name, &mut self.function.registers) {
            Some(Meaning::Register(index))
                if self.function.registers[index as usize].declared == Type::Pred =>
            {
                Ok((index, negated))
            }
            _ => Err(self.parser.error_at(token, format!("`{name}` is no predicate register"))),
        }
    }
}
