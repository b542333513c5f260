//! Cuts PTX text into tokens. What they mean is decided by the parser.

use crate::error::LoadError;

/// One token; texts are slices of the source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    /// A name or an opcode: letters, digits, `_`, `$`, and `%` in front.
    Word(&'a str),
    /// A directive or modifier, without its dot: `.f32`, `.L2::128B`.
    Dot(&'a str),
    /// An integer of up to 64 bits.
    Integer(u64),
    /// `0f3F800000`.
    Float32(u32),
    /// `0d3FF0000000000000`, or a decimal number such as `9.0`.
    Float64(u64),
    /// A text in quotes, without them.
    Text(&'a str),
    /// Any other character.
    Mark(char),
    /// After the last token.
    End,
}

/// A token, where it begins and where it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located<'a> {
    pub token: Token<'a>,
    pub line: u32,
    pub column: u32,
    /// Offset in bytes behind the token.
    pub end: usize,
    /// Offset in bytes of its first character.
    pub start: usize,
}

/// All tokens of the text, with [`Token::End`] last.
pub(crate) fn tokens(text: &str) -> Result<Vec<Located<'_>>, LoadError> {
    let mut lexer = Lexer { text, position: 0, line: 1, line_start: 0 };
    let mut found = Vec::with_capacity(text.len() / 4);
    loop {
        let token = lexer.next()?;
        found.push(token);
        if token.token == Token::End {
            return Ok(found);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    position: usize,
    line: u32,
    line_start: usize,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$'
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.position + ahead).copied().unwrap_or(0)
    }

    fn column(&self, at: usize) -> u32 {
        (at - self.line_start) as u32 + 1
    }

    fn error(&self, at: usize, what: impl Into<String>) -> LoadError {
        LoadError::new(self.line, self.column(at), what)
    }

    fn newline(&mut self) {
        self.line += 1;
        self.line_start = self.position + 1;
    }

    /// Skips white space and comments.
    fn skip_blank(&mut self) -> Result<(), LoadError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => self.newline(),
                (b' ' | b'\t' | b'\r', _) => {}
                (b'/', b'/') => {
                    while !matches!(self.peek(0), b'\n') && self.position < self.text.len() {
                        self.position += 1;
                    }
                    continue;
                }
                (b'/', b'*') => {
                    let start = self.position;
                    while (self.peek(0), self.peek(1)) != (b'*', b'/') {
                        if self.position >= self.text.len() {
                            return Err(
                                self.error(start.max(self.line_start), "comment without end")
                            );
                        }
                        if self.peek(0) == b'\n' {
                            self.newline();
                        }
                        self.position += 1;
                    }
                    self.position += 1;
                }
                _ => return Ok(()),
            }
            self.position += 1;
        }
    }

    fn next(&mut self) -> Result<Located<'a>, LoadError> {
        self.skip_blank()?;
        let start = self.position;
        let (line, column) = (self.line, self.column(start));
        let first = self.peek(0);
        let token = if start >= self.text.len() {
            Token::End
        } else if first == b'%' || first == b'$' || first == b'_' || first.is_ascii_alphabetic() {
            self.position += 1;
            Token::Word(self.rest_of_name(start))
        } else if first == b'.' && (is_name(self.peek(1))) {
            self.position += 1;
            Token::Dot(self.rest_of_modifier(start + 1))
        } else if first.is_ascii_digit() {
            self.number()?
        } else if first == b'"' {
            self.text_in_quotes()?
        } else {
            let mark = self.text[start..].chars().next().unwrap_or('\0');
            if !mark.is_ascii() {
                return Err(self.error(start, format!("`{mark}` has no meaning here")));
            }
            self.position += 1;
            Token::Mark(mark)
        };
        Ok(Located { token, line, column, start, end: self.position })
    }

    fn rest_of_name(&mut self, start: usize) -> &'a str {
        while is_name(self.peek(0)) {
            self.position += 1;
        }
        &self.text[start..self.position]
    }

    /// A modifier may have parts, as in `L2::128B`.
    fn rest_of_modifier(&mut self, start: usize) -> &'a str {
        loop {
            if is_name(self.peek(0)) {
                self.position += 1;
            } else if self.peek(0) == b':' && self.peek(1) == b':' && is_name(self.peek(2)) {
                self.position += 2;
            } else {
                return &self.text[start..self.position];
            }
        }
    }

    fn text_in_quotes(&mut self) -> Result<Token<'a>, LoadError> {
        let start = self.position;
        self.position += 1;
        while self.peek(0) != b'"' {
            if self.position >= self.text.len() || self.peek(0) == b'\n' {
                return Err(self.error(start, "text without its closing quote"));
            }
            self.position += 1;
        }
        self.position += 1;
        Ok(Token::Text(&self.text[start + 1..self.position - 1]))
    }

    fn number(&mut self) -> Result<Token<'a>, LoadError> {
        let start = self.position;
        while self.peek(0).is_ascii_alphanumeric() {
            self.position += 1;
        }
        let integer = &self.text[start..self.position];
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            self.position += 1;
            while self.peek(0).is_ascii_digit() {
                self.position += 1;
            }
            let text = &self.text[start..self.position];
            let value: f64 = text.parse().map_err(|_| self.error(start, not_a_number(text)))?;
            return Ok(Token::Float64(value.to_bits()));
        }
        self.integer(integer).ok_or_else(|| self.error(start, not_a_number(integer)))
    }

    fn integer(&self, text: &str) -> Option<Token<'a>> {
        let lower = text.to_ascii_lowercase();
        if let Some(digits) = lower.strip_prefix("0f") {
            let whole = digits.len() == 8;
            return whole.then(|| u32::from_str_radix(digits, 16).ok().map(Token::Float32))?;
        }
        if let Some(digits) = lower.strip_prefix("0d") {
            let whole = digits.len() == 16;
            return whole.then(|| u64::from_str_radix(digits, 16).ok().map(Token::Float64))?;
        }
        let digits = lower.strip_suffix('u').unwrap_or(&lower);
        let (digits, radix) = if let Some(digits) = digits.strip_prefix("0x") {
            (digits, 16)
        } else if let Some(digits) = digits.strip_prefix("0b") {
            (digits, 2)
        } else if digits.len() > 1 && digits.starts_with('0') {
            (&digits[1..], 8)
        } else {
            (digits, 10)
        };
        u64::from_str_radix(digits, radix).ok().map(Token::Integer)
    }
}

fn not_a_number(text: &str) -> String {
    format!("`{text}` is not a number of PTX, or has more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Token<'_>> {
        tokens(text).unwrap().into_iter().map(|located| located.token).collect()
    }

    #[test]
    fn an_instruction_is_cut_into_words_modifiers_and_marks() {
        let expected = [
            Token::Mark('@'),
            Token::Mark('!'),
            Token::Word("%p1"),
            Token::Word("ld"),
            Token::Dot("global"),
            Token::Dot("L2::128B"),
            Token::Dot("v4"),
            Token::Dot("f32"),
            Token::Mark('{'),
            Token::Word("%f1"),
            Token::Mark('}'),
            Token::Mark(','),
            Token::Mark('['),
            Token::Word("%rd1"),
            Token::Mark('+'),
            Token::Integer(16),
            Token::Mark(']'),
            Token::Mark(';'),
            Token::End,
        ];
        assert_eq!(all("@!%p1 ld.global.L2::128B.v4.f32 {%f1}, [%rd1+16]; // end"), expected);
    }

    #[test]
    fn numbers_of_each_form() {
        let expected = [
            Token::Integer(255),
            Token::Integer(5),
            Token::Integer(8),
            Token::Integer(1),
            Token::Float32(0x3f80_0000),
            Token::Float64(1.0f64.to_bits()),
            Token::Float64(9.5f64.to_bits()),
            Token::End,
        ];
        assert_eq!(all("0xFFU 0b101 010 1 0f3F800000 0d3FF0000000000000 9.5"), expected);
    }

    #[test]
    fn lines_and_columns_are_counted_across_comments() {
        let found = tokens("a\n/* two\nlines */ b").unwrap();
        assert_eq!((found[0].line, found[0].column), (1, 1));
        assert_eq!((found[1].line, found[1].column), (3, 10));
    }

    #[test]
    fn what_has_no_meaning_is_refused_with_its_place() {
        for (text, line, column) in
            [("a é", 1, 3), ("\n 0f3F8", 2, 2), ("\"open", 1, 1), ("/* open", 1, 1), ("12ab", 1, 1)]
        {
            let error = tokens(text).unwrap_err();
            assert_eq!((error.line(), error.column()), (line, column), "{error}");
        }
    }
}
