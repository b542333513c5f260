//! Directives at the outermost level: versions, variables, kernels, files, debug sections.

use super::body;
use super::scope::{Meaning, Scopes};
use super::token::{Located, Token, tokens};
use super::{KernelParameter, ParsedFunction, ParsedModule, Symbol, Variable};
use crate::error::LoadError;
use crate::types::Type;

/// Most bytes that one shared variable may have.
const MAX_VARIABLE: u64 = 1 << 24;

pub(super) fn parse(text: &str) -> Result<ParsedModule<'_>, LoadError> {
    let tokens = tokens(text)?;
    let mut parser =
        Parser { tokens, at: 0, module: ParsedModule::default(), unscoped: Vec::new() };
    parser.module()?;
    Ok(parser.module)
}

/// The tokens, how far they are read, and what was found.
pub(super) struct Parser<'a> {
    tokens: Vec<Located<'a>>,
    at: usize,
    pub module: ParsedModule<'a>,
    /// Shared variables of the module: each kernel that names one gets its own.
    pub unscoped: Vec<Variable>,
}

impl<'a> Parser<'a> {
    pub fn peek(&self) -> Located<'a> {
        self.tokens[self.at]
    }

    pub fn peek_second(&self) -> Token<'a> {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    pub fn advance(&mut self) -> Located<'a> {
        let token = self.tokens[self.at];
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// The end of the token that was read last, in bytes.
    pub fn end_of_last(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].end
    }

    pub fn error_at(&self, token: Located<'a>, what: impl Into<String>) -> LoadError {
        LoadError::new(token.line, token.column, what)
    }

    /// An error that says what is there in place of what was expected.
    pub fn expected(&self, what: &str) -> LoadError {
        let token = self.peek();
        let found = match token.token {
            Token::Word(word) => format!("`{word}`"),
            Token::Dot(word) => format!("`.{word}`"),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end of the text".to_owned(),
            Token::Text(_) => "a text in quotes".to_owned(),
            Token::Integer(_) | Token::Float32(_) | Token::Float64(_) => "a number".to_owned(),
        };
        self.error_at(token, format!("expected {what}, found {found}"))
    }

    pub fn accept(&mut self, mark: char) -> bool {
        let found = self.peek().token == Token::Mark(mark);
        if found {
            self.advance();
        }
        found
    }

    pub fn accept_dot(&mut self, name: &str) -> bool {
        let found = self.peek().token == Token::Dot(name);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect(&mut self, mark: char) -> Result<(), LoadError> {
        if self.accept(mark) { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    pub fn word(&mut self, what: &str) -> Result<&'a str, LoadError> {
        match self.peek().token {
            Token::Word(word) => {
                self.advance();
                Ok(word)
            }
            _ => Err(self.expected(what)),
        }
    }

    pub fn integer(&mut self, what: &str) -> Result<u64, LoadError> {
        match self.peek().token {
            Token::Integer(value) => {
                self.advance();
                Ok(value)
            }
            _ => Err(self.expected(what)),
        }
    }

    pub fn small(&mut self, what: &str) -> Result<u32, LoadError> {
        let token = self.peek();
        u32::try_from(self.integer(what)?)
            .map_err(|_| self.error_at(token, format!("{what} has more than 32 bits")))
    }

    fn module(&mut self) -> Result<(), LoadError> {
        loop {
            let token = self.peek();
            match token.token {
                Token::End => return Ok(()),
                Token::Dot("version") => {
                    self.advance();
                    match self.advance().token {
                        Token::Float64(_) | Token::Integer(_) => {}
                        _ => return Err(self.error_at(token, ".version without a number")),
                    }
                }
                Token::Dot("target") => {
                    self.advance();
                    self.word("a target such as sm_80")?;
                    while self.accept(',') {
                        self.word("a target's option")?;
                    }
                }
                Token::Dot("address_size") => {
                    self.advance();
                    if self.integer("an address size")? != 64 {
                        return Err(self.error_at(token, "only addresses of 64 bits are known"));
                    }
                }
                Token::Dot("file") => self.file()?,
                Token::Dot("section") => self.section()?,
                Token::Dot(_) => self.declaration()?,
                _ => return Err(self.expected("a directive")),
            }
        }
    }

    fn file(&mut self) -> Result<(), LoadError> {
        self.advance();
        let number = self.small("a file's number")?;
        let Token::Text(path) = self.peek().token else {
            return Err(self.expected("a file's name"));
        };
        self.advance();
        while self.accept(',') {
            self.integer("a time stamp or size")?;
        }
        self.module.files.insert(number, path.to_owned());
        Ok(())
    }

    /// Debug information: nothing in it is needed.
    fn section(&mut self) -> Result<(), LoadError> {
        self.advance();
        if !matches!(self.advance().token, Token::Dot(_)) {
            return Err(self.expected("a section's name"));
        }
        self.expect('{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.advance().token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                Token::End => return Err(self.expected("`}` at the section's end")),
                _ => {}
            }
        }
        Ok(())
    }

    pub fn pragma(&mut self) -> Result<(), LoadError> {
        self.advance();
        while matches!(self.peek().token, Token::Text(_)) {
            self.advance();
            self.accept(',');
        }
        self.expect(';')
    }

    /// `.visible .entry …`, `.shared …`.
    fn declaration(&mut self) -> Result<(), LoadError> {
        loop {
            let token = self.peek();
            match token.token {
                Token::Dot("visible" | "weak") => {
                    self.advance();
                }
                Token::Dot("entry") => {
                    self.advance();
                    return self.entry();
                }
                Token::Dot("func") => return Err(self.error_at(token, NOT_INLINED)),
                Token::Dot("shared") => {
                    let variables = self.variables()?;
                    self.unscoped.extend(variables.into_iter().map(|(_, variable)| variable));
                    return Ok(());
                }
                Token::Dot(name) => {
                    return Err(self.error_at(token, format!("unknown directive `.{name}`")));
                }
                _ => return Err(self.expected("a declaration")),
            }
        }
    }

    /// `.shared .align 4 .b8 x[24], y;`
    pub fn variables(&mut self) -> Result<Vec<(&'a str, Variable)>, LoadError> {
        self.advance();
        let (element, alignment) = self.type_and_alignment()?;
        let mut found: Vec<(&'a str, Variable)> = Vec::new();
        loop {
            let token = self.peek();
            let name = self.word("a variable's name")?;
            let bytes = self.dimensions()?.checked_mul(u64::from(element.bytes()));
            let Some(bytes) = bytes.filter(|&bytes| bytes <= MAX_VARIABLE) else {
                let what = format!("`{name}` is larger than {MAX_VARIABLE} bytes");
                return Err(self.error_at(token, what));
            };
            found.push((name, Variable { name: name.to_owned(), bytes, alignment }));
            if !self.accept(',') {
                break;
            }
        }
        self.expect(';')?;
        Ok(found)
    }

    /// `.align 16 .b8`: the type, and the alignment in bytes.
    fn type_and_alignment(&mut self) -> Result<(Type, u32), LoadError> {
        let mut alignment = None;
        let mut element = None;
        while let Token::Dot(name) = self.peek().token {
            let token = self.advance();
            if name == "align" {
                let value = self.small("an alignment")?;
                if !value.is_power_of_two() || value > 4096 {
                    return Err(self.error_at(token, format!("{value} is no alignment")));
                }
                alignment = Some(value);
            } else if let Some(found) = Type::parse(name).filter(|found| found.bytes() > 0) {
                element = Some(found);
            } else {
                return Err(self.error_at(token, format!("`.{name}` is not known here")));
            }
        }
        match element {
            Some(element) => Ok((element, alignment.unwrap_or(element.bytes()))),
            None => Err(self.expected("a type")),
        }
    }

    /// `[4][8]` as 32.
    fn dimensions(&mut self) -> Result<u64, LoadError> {
        let mut count = 1u64;
        while self.accept('[') {
            let token = self.peek();
            let size = self.integer("an array's size")?;
            count = count
                .checked_mul(size)
                .ok_or_else(|| self.error_at(token, "the array is too large"))?;
            self.expect(']')?;
        }
        Ok(count)
    }

    fn entry(&mut self) -> Result<(), LoadError> {
        let token = self.peek();
        let name = self.word("a kernel's name")?;
        if self.module.functions.iter().any(|known| known.name == name) {
            return Err(self.error_at(token, format!("kernel `{name}` is defined twice")));
        }
        let mut function =
            ParsedFunction { name: name.to_owned(), line: token.line, ..ParsedFunction::default() };
        let mut scopes = Scopes::new();
        if self.accept('(') && !self.accept(')') {
            loop {
                self.parameter(&mut function, &mut scopes)?;
                if !self.accept(',') {
                    break;
                }
            }
            self.expect(')')?;
        }
        self.performance_directives(&mut function)?;
        body::parse(self, &mut function, scopes)?;
        self.module.functions.push(function);
        Ok(())
    }

    fn parameter(
        &mut self,
        function: &mut ParsedFunction<'a>,
        scopes: &mut Scopes<'a>,
    ) -> Result<(), LoadError> {
        if !self.accept_dot("param") {
            return Err(self.expected("`.param`"));
        }
        let (element, alignment) = self.type_and_alignment()?;
        let token = self.peek();
        let name = self.word("a parameter's name")?;
        let count = self.dimensions()?;
        let last = function.parameters.last();
        let end = last.map_or(0, |last| last.offset + last.bytes);
        let offset = end.next_multiple_of(alignment);
        let bytes = count.checked_mul(u64::from(element.bytes()));
        // 32764 bytes is the most that any compute capability takes.
        let bytes = bytes.filter(|&bytes| bytes + u64::from(offset) <= 32764);
        let Some(bytes) = bytes else {
            return Err(self.error_at(token, "parameters of more than 32764 bytes"));
        };
        let symbol = Symbol::Parameter(function.parameters.len() as u32);
        body::declare(self, scopes, token, name, Meaning::Symbol(symbol))?;
        let name = name.to_owned();
        function.parameters.push(KernelParameter { name, offset, bytes: bytes as u32 });
        Ok(())
    }

    /// `.maxntid 256, 1, 1` and what else may stand between a kernel's head and its body.
    fn performance_directives(
        &mut self,
        function: &mut ParsedFunction<'a>,
    ) -> Result<(), LoadError> {
        while let Token::Dot(name) = self.peek().token {
            let token = self.peek();
            match name {
                "maxntid" | "reqntid" => {
                    self.advance();
                    let mut threads = self.small("a number of threads")?;
                    while self.accept(',') {
                        threads = threads.saturating_mul(self.small("a number of threads")?);
                    }
                    function.max_threads = Some(threads);
                }
                "minnctapersm" | "maxnreg" => {
                    self.advance();
                    self.small("a number")?;
                }
                "pragma" => self.pragma()?,
                _ => {
                    return Err(self.error_at(token, format!("unknown directive `.{name}`")));
                }
            }
        }
        Ok(())
    }
}

const NOT_INLINED: &str = "a device function that was not inlined; calls are not emulated, so \
                           mark it __forceinline__";
