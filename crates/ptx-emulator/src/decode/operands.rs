//! From operands to register slots, with a check of their widths.

use super::Decoder;
use crate::error::LoadError;
use crate::instruction::{Address, BaseSlot, Value};
use crate::program::Special;
use crate::syntax::{Base, Operand, Statement, Symbol};
use crate::types::{Kind, Space, Type};

impl Decoder<'_, '_> {
    /// The operands, if there are as many as expected.
    pub fn operands<'s, const N: usize>(
        &self,
        statement: &'s Statement<'_>,
    ) -> Result<&'s [Operand; N], LoadError> {
        statement.operands.as_slice().try_into().map_err(|_| {
            let count = statement.operands.len();
            statement.error(format!("{} takes {N} operands, not {count}", statement.mnemonic()))
        })
    }

    pub fn kind(&self, register: u32) -> Kind {
        self.function.registers[register as usize].declared.kind()
    }

    fn wrong_width(&self, statement: &Statement<'_>, register: u32, wanted: Kind) -> LoadError {
        let name = &self.function.registers[register as usize].name;
        let found = self.kind(register);
        let mnemonic = statement.mnemonic();
        statement.error(format!("`{name}` is {found} where {mnemonic} takes {wanted}"))
    }

    /// The slot of a register that is written.
    pub fn output(
        &self,
        statement: &Statement<'_>,
        operand: &Operand,
        kind: Kind,
    ) -> Result<u32, LoadError> {
        match operand {
            Operand::Register(register) if self.kind(*register) == kind => {
                Ok(self.registers[*register as usize])
            }
            Operand::Register(register) => Err(self.wrong_width(statement, *register, kind)),
            _ => Err(statement.error("the result must be a register")),
        }
    }

    /// The slot of a value that is read: a register, or one that holds a constant.
    pub fn input(
        &mut self,
        statement: &Statement<'_>,
        operand: &Operand,
        kind: Kind,
    ) -> Result<u32, LoadError> {
        match operand {
            Operand::Register(register) if self.kind(*register) == kind => {
                Ok(self.registers[*register as usize])
            }
            Operand::Register(register) => Err(self.wrong_width(statement, *register, kind)),
            Operand::Integer(value) => self.integer(statement, *value, kind),
            Operand::Float32(bits) if kind == Kind::B32 => {
                Ok(self.constant(u64::from(*bits), kind))
            }
            Operand::Float64(bits) if kind == Kind::B64 => Ok(self.constant(*bits, kind)),
            Operand::Symbol(symbol, offset) => self.symbol(statement, *symbol, *offset, kind),
            Operand::Special(name) => self.special(statement, name, kind),
            _ => {
                let mnemonic = statement.mnemonic();
                Err(statement.error(format!("an operand of {mnemonic} is no value of {kind}")))
            }
        }
    }

    fn integer(
        &mut self,
        statement: &Statement<'_>,
        value: i64,
        kind: Kind,
    ) -> Result<u32, LoadError> {
        if let Some(ty) = statement.modifiers.last()
            && ["f32", "f64"].contains(ty)
            && kind != Kind::Predicate
        {
            let what = format!("the integer {value} is no operand of {}", statement.mnemonic());
            return Err(statement.error(what));
        }
        let (bits, fits) = match kind {
            Kind::B64 => (value as u64, true),
            Kind::B32 => (value as u64 & 0xffff_ffff, (-(1 << 31)..1 << 32).contains(&value)),
            Kind::B16 => (value as u64 & 0xffff, (-(1 << 15)..1 << 16).contains(&value)),
            Kind::Predicate => (value as u64, (-1..=1).contains(&value)),
        };
        if !fits {
            return Err(statement.error(format!("{value} does not fit {kind}")));
        }
        Ok(self.constant(bits, kind))
    }

    /// The slot of a constant.
    fn constant(&mut self, bits: u64, kind: Kind) -> u32 {
        let counts = &mut self.counts;
        *self.constants.entry((bits, kind)).or_insert_with(|| counts.take(kind))
    }

    fn symbol(
        &mut self,
        statement: &Statement<'_>,
        symbol: Symbol,
        offset: i64,
        kind: Kind,
    ) -> Result<u32, LoadError> {
        if kind != Kind::B64 && kind != Kind::B32 {
            return Err(statement.error("an address takes 32 or 64 bits"));
        }
        let mut bits = self.known_address(symbol, offset) as u64;
        if kind == Kind::B32 {
            bits &= 0xffff_ffff;
        }
        Ok(self.constant(bits, kind))
    }

    fn special(
        &mut self,
        statement: &Statement<'_>,
        name: &str,
        kind: Kind,
    ) -> Result<u32, LoadError> {
        let axis = |part: &str| match part {
            "x" => Some(0),
            "y" => Some(1),
            "z" => Some(2),
            _ => None,
        };
        let (register, part) = name.split_once('.').unwrap_or((name, ""));
        let special = match (register, axis(part)) {
            ("%tid", Some(axis)) => Special::Thread(axis),
            ("%ntid", Some(axis)) => Special::Threads(axis),
            ("%ctaid", Some(axis)) => Special::Block(axis),
            ("%nctaid", Some(axis)) => Special::Blocks(axis),
            _ => {
                let what = format!("`{name}` is neither declared nor a known special register");
                return Err(statement.error(what));
            }
        };
        if kind != Kind::B32 {
            return Err(statement.error(format!("`{name}` is 32 bits wide where {kind} are taken")));
        }
        let counts = &mut self.counts;
        Ok(*self.specials.entry(special).or_insert_with(|| counts.take(kind)))
    }

    /// The address operand for a space.
    pub fn address(
        &mut self,
        statement: &Statement<'_>,
        operand: &Operand,
        space: Space,
    ) -> Result<Address, LoadError> {
        let Operand::Address(base, offset) = operand else {
            return Err(statement.error("an address in brackets is missing"));
        };
        let (base, offset) = match base {
            Base::Absolute => (BaseSlot::Absolute, *offset),
            Base::Register(register) => {
                let slot = self.registers[*register as usize];
                match self.kind(*register) {
                    Kind::B64 => (BaseSlot::Wide(slot), *offset),
                    Kind::B32 if space == Space::Shared => (BaseSlot::Narrow(slot), *offset),
                    _ => return Err(self.wrong_width(statement, *register, Kind::B64)),
                }
            }
            Base::Symbol(symbol) => {
                let fits = match symbol {
                    Symbol::Shared(_) => space == Space::Shared,
                    Symbol::Parameter(_) => space == Space::Parameter,
                };
                if !fits {
                    return Err(statement.error(format!("the variable is not in {space} memory")));
                }
                (BaseSlot::Absolute, self.known_address(*symbol, *offset))
            }
        };
        Ok(Address { space, base, offset })
    }

    fn known_address(&self, symbol: Symbol, offset: i64) -> i64 {
        let base = match symbol {
            Symbol::Shared(index) => self.addresses[index as usize] as i64,
            Symbol::Parameter(index) => i64::from(self.function.parameters[index as usize].offset),
        };
        base.wrapping_add(offset)
    }

    /// The register of a value that may be wider than the memory it is moved to or from.
    pub fn wide_enough(
        &mut self,
        statement: &Statement<'_>,
        operand: &Operand,
        ty: Type,
        written: bool,
    ) -> Result<Value, LoadError> {
        let kind = match operand {
            Operand::Register(register) => {
                let kind = self.kind(*register);
                let width = match kind {
                    Kind::Predicate => 0,
                    Kind::B16 => 2,
                    Kind::B32 => 4,
                    Kind::B64 => 8,
                };
                if width < ty.bytes() {
                    return Err(self.wrong_width(statement, *register, ty.kind()));
                }
                kind
            }
            _ => ty.kind(),
        };
        let slot = if written {
            self.output(statement, operand, kind)?
        } else {
            self.input(statement, operand, kind)?
        };
        Ok(Value { kind, slot })
    }
}
