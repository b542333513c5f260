//! Settings: what a section of a recipe is read into. Name, range, default, help and flag of a key stand once, in the
//! declaration of its field; the check of one value is here. Where values come from is the reader's business.
//!
//! ```
//! use vitrine_nn::Table;
//! use vitrine_nn::settings::{Fallback::Toml, Kind, Range, read};
//!
//! vitrine_nn::settings! {
//!     /// Section `[mixer]`.
//!     MixerConfig in "mixer" {
//!         /// length of a token, D
//!         width: usize = Kind::Integer(1, 65_536), Toml("64"), also ["dim"];
//!         /// dropout after each layer
//!         dropout: f64 = Kind::Number(Range::Below(0.0, 1.0)), Toml("0.0");
//!     }
//! }
//!
//! let stated = |dropout: f64| Table::from_iter([("dropout".to_owned(), dropout.into())]);
//! let config: MixerConfig = read(stated(0.1), MixerConfig::KEYS, "the recipe")?;
//! assert_eq!((config.width, config.dropout), (64, 0.1));
//! let error = read::<MixerConfig>(stated(1.0), MixerConfig::KEYS, "the recipe").unwrap_err();
//! assert!(error.to_string().contains("`mixer.dropout = 1.0` is not allowed"));
//! # Ok::<(), vitrine_nn::settings::SettingError>(())
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name, such as `model.heads`.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds if nobody states it.
    pub default: Fallback,
    /// The command-line flag that sets it, if it has its own.
    pub flag: Option<&'static str>,
    /// What it means.
    pub about: &'static str,
    /// Names that others give it; they serve suggestions only.
    pub aliases: &'static [&'static str],
}

/// What holds if nobody states a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// It must be stated.
    Required,
    /// It stays open.
    Open,
    /// This value, written as in TOML.
    Toml(&'static str),
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number from the first to the second, both included.
    Integer(i64, i64),
    /// A list of such.
    Integers(i64, i64),
    /// A number in a range.
    Number(Range),
    /// One number for all channels of an image, or a list with one for each.
    Channels(Range),
    /// Two numbers, the first no more than the second.
    Pair(Range),
    /// `true` or `false`.
    Bool,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// One of the names that the function gives.
    Name(fn() -> Vec<&'static str>),
    /// A text that the function accepts, described in words.
    Text(&'static str, fn(&str) -> bool),
    /// Different texts, one at the least.
    Texts,
    /// One length in pixels, or `[height, width]`, each from 1 to this.
    Size(i64),
}

/// A range of numbers.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// From the first to the second, both included.
    Closed(f64, f64),
    /// Over the first and up to the second, which is included.
    Above(f64, f64),
    /// From the first, which is included, to below the second.
    Below(f64, f64),
    /// Between the two, neither included.
    Open(f64, f64),
}

impl Range {
    fn contains(self, x: f64) -> bool {
        match self {
            Self::Closed(low, high) => low <= x && x <= high,
            Self::Above(low, high) => over(low, x) && x <= high,
            Self::Below(low, high) => low <= x && x < high,
            Self::Open(low, high) => over(low, x) && x < high,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Closed(low, high) => format!("a number from {low} to {high}"),
            Self::Above(low, high) => format!("a number over {low}, up to {high}"),
            Self::Below(low, high) => format!("a number from {low} to below {high}"),
            Self::Open(low, high) => format!("a number over {low} and below {high}"),
        }
    }

    /// The value as a float, if it is a number in this range.
    fn accept(self, value: &Value) -> Option<Value> {
        let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64))?;
        self.contains(number).then_some(Value::Float(number))
    }
}

/// Whether a number is over a bound, also once it is rounded to `f32`.
fn over(low: f64, x: f64) -> bool {
    low < x && (low as f32) < x as f32
}

impl Kind {
    /// What values are allowed, in words that follow "it must be".
    pub fn allowed(self) -> String {
        match self {
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Integers(low, high) => format!("a list of whole numbers from {low} to {high}"),
            Self::Number(range) => range.words(),
            Self::Channels(range) => format!("{}, or a list of such, one a channel", range.words()),
            Self::Pair(range) => format!("[low, high], each {}", range.words()),
            Self::Bool => "true or false".into(),
            Self::Choice(names) => one_of(names),
            Self::Name(names) => one_of(&names()),
            Self::Text(words, _) => words.into(),
            Self::Texts => {
                "a list of different names, such as [\"cat\", \"dog\"] or cat,dog".into()
            }
            Self::Size(high) => {
                format!("a whole number from 1 to {high}, or a pair [height, width] of such")
            }
        }
    }

    /// The value in its own type (a whole number becomes a float where a number is meant), or `None` if it is not
    /// allowed.
    fn accept(self, value: &Value) -> Option<Value> {
        let whole = |value: &Value, low: i64, high: i64| {
            value.as_integer().is_some_and(|number| low <= number && number <= high)
        };
        let named = |accepts: &dyn Fn(&str) -> bool| value.as_str().is_some_and(accepts);
        let allowed = match self {
            Self::Integer(low, high) => whole(value, low, high),
            Self::Integers(low, high) => value.as_array().is_some_and(|list| {
                !list.is_empty() && list.iter().all(|number| whole(number, low, high))
            }),
            Self::Number(range) => return range.accept(value),
            Self::Channels(range) => {
                let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let numbers: Option<Vec<Value>> = list.iter().map(|v| range.accept(v)).collect();
                return numbers.filter(|numbers| !numbers.is_empty()).map(Value::Array);
            }
            Self::Pair(range) => {
                let pair: Vec<Value> =
                    value.as_array()?.iter().map(|v| range.accept(v)).collect::<Option<_>>()?;
                let rising = pair.len() == 2 && pair[0].as_float() <= pair[1].as_float();
                return rising.then_some(Value::Array(pair));
            }
            Self::Bool => value.is_bool(),
            Self::Choice(names) => named(&|name| names.contains(&name)),
            Self::Name(names) => named(&|name| names().contains(&name)),
            Self::Text(_, accepts) => named(&accepts),
            Self::Texts => {
                let named = value.as_str().map(|text| text.split(',').map(Value::from).collect());
                let list: Vec<Value> = named.or_else(|| value.as_array().cloned())?;
                let new = |(i, text): (usize, &Value)| {
                    text.as_str().is_some_and(|text| !text.is_empty()) && !list[..i].contains(text)
                };
                let allowed = !list.is_empty() && list.iter().enumerate().all(new);
                return allowed.then_some(Value::Array(list));
            }
            Self::Size(high) => match value {
                Value::Array(pair) => {
                    pair.len() == 2 && pair.iter().all(|side| whole(side, 1, high))
                }
                side => whole(side, 1, high),
            },
        };
        allowed.then(|| value.clone())
    }

    /// Whether the value is a text, which a command line gives without quotes.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Choice(_) | Self::Name(_) | Self::Text(..))
    }
}

fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl Key {
    /// The section's name.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within the section.
    pub fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// Checks a value of this key. `origin` says where it was given.
    pub fn check(&self, value: &Value, origin: &str) -> Result<Value, SettingError> {
        self.kind.accept(value).ok_or_else(|| {
            let vanishes = value.as_float().is_some_and(|x| x != 0.0 && x as f32 == 0.0);
            let note = if vanishes { "; in f32 this one is 0" } else { "" };
            SettingError::value(origin, self.name, value, self.kind.allowed() + note)
        })
    }

    /// The value that holds if nobody states one.
    pub fn fallback(&self) -> Option<Value> {
        match self.default {
            Fallback::Toml(text) => {
                let table: Table = format!("value = {text}").parse().ok()?;
                self.kind.accept(table.get("value")?)
            }
            Fallback::Required | Fallback::Open => None,
        }
    }
}

/// What can be wrong with a setting, in words that name the key, the value and what is allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum SettingError {
    /// No section has this key.
    #[error("{origin}: unknown key `{key}`{}", hint(.suggestion))]
    UnknownKey { origin: String, key: String, suggestion: Option<String> },
    /// A value is of the wrong type or outside its range.
    #[error("{origin}: `{key} = {value}` is not allowed: it must be {allowed}")]
    Value { origin: String, key: String, value: String, allowed: String },
    /// Two keys contradict each other.
    #[error("`{key} = {value}` is not allowed: {reason}")]
    Conflict { key: &'static str, value: String, reason: String },
    /// A key without a default was not given.
    #[error(
        "the recipe states no `{key}` ({about}): state it, or start from another recipe with `base = \"d2l\"`{}",
        if key.starts_with("model.") { ", or name a `model.preset`" } else { "" }
    )]
    Missing { key: &'static str, about: &'static str },
    /// Settings could not be written as TOML or read back from it.
    #[error("cannot convert settings to or from TOML: {message}")]
    Convert { message: String },
}

/// Longer values are cut in a message.
const LONGEST_VALUE: usize = 60;

impl SettingError {
    /// A value that is not allowed.
    pub fn value(origin: &str, key: &str, value: impl ToString, allowed: String) -> Self {
        let value = shown(&value.to_string(), LONGEST_VALUE);
        Self::Value { origin: origin.into(), key: shown(key, LONGEST_VALUE), value, allowed }
    }

    /// Settings that TOML does not take, or that it does not hold.
    pub fn convert(error: impl ToString) -> Self {
        Self::Convert { message: error.to_string() }
    }

    /// Two keys that contradict each other.
    pub fn conflict(key: &'static str, value: impl ToString, reason: String) -> Self {
        Self::Conflict { key, value: shown(&value.to_string(), LONGEST_VALUE), reason }
    }
}

/// Somebody's text as it may stand in a message: cut after so many characters, and without those that a terminal
/// obeys, such as line ends, escapes and changes of the direction of writing.
pub fn shown(text: &str, longest: usize) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == longest => return shown + "…",
            c if obeyed(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// What follows a name that nobody knows.
pub fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// A section's table with defaults for what it does not state, each value checked, in the order of the keys. `origin`
/// says where it was given.
pub fn resolve(mut table: Table, keys: &[Key], origin: &str) -> Result<Table, SettingError> {
    let mut resolved = Table::new();
    for key in keys {
        let stated = table.remove(key.leaf()).map(|value| key.check(&value, origin)).transpose()?;
        match stated.or_else(|| key.fallback()) {
            Some(value) => drop(resolved.insert(key.leaf().into(), value)),
            None if key.default == Fallback::Required => {
                return Err(SettingError::Missing { key: key.name, about: key.about });
            }
            None => {}
        }
    }
    match table.keys().next() {
        None => Ok(resolved),
        Some(leaf) => {
            let section = keys.first().map_or("", Key::section);
            let (origin, key) = (origin.to_owned(), format!("{section}.{leaf}"));
            Err(SettingError::UnknownKey { origin, key, suggestion: None })
        }
    }
}

/// The settings of a section from its table, as [`resolve`] gives it.
pub fn read<T: DeserializeOwned>(
    table: Table,
    keys: &[Key],
    origin: &str,
) -> Result<T, SettingError> {
    let resolved = resolve(table, keys, origin)?;
    resolved.try_into().map_err(SettingError::convert)
}

/// Settings as a table, in the order of their fields.
pub fn table(settings: &impl Serialize) -> Result<Table, SettingError> {
    Table::try_from(settings).map_err(SettingError::convert)
}

/// Checks each value of settings that were made in code.
pub fn check(settings: &impl Serialize, keys: &[Key]) -> Result<(), SettingError> {
    let table = table(settings)?;
    keys.iter().try_for_each(|key| match table.get(key.leaf()) {
        Some(value) => key.check(value, "the settings").map(|_| ()),
        None => Ok(()),
    })
}

/// Declares a struct that a section of a recipe is read into, and its table `KEYS`.
///
/// A field's documentation is the help of its key. After the type come what it takes ([`settings::Kind`](Kind)) and
/// what holds if nobody states it ([`settings::Fallback`](Fallback)), then its flag and the names that others give it,
/// if any.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $name:ident in $section:literal {
            $(
                $(#[doc = $about:literal])+
                $(#[serde($($serde:tt)*)])?
                $field:ident: $type:ty = $kind:expr, $default:expr
                $(, flag $flag:literal)? $(, also [$($alias:literal),+])?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $about])+ $(#[serde($($serde)*)])? pub $field: $type,)*
        }

        impl $name {
            /// The keys of this section, in order.
            pub const KEYS: &'static [$crate::settings::Key] = &[$($crate::settings::Key {
                name: concat!($section, ".", stringify!($field)),
                kind: $kind,
                default: $default,
                flag: [$(Some($flag),)? None][0],
                about: concat!($($about),+).trim_ascii_start(),
                aliases: &[$($($alias),+)?],
            }),*];
        }
    };
}

/// Declares an enum whose variants have names in a recipe.
#[macro_export]
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// The names in a recipe, in order of declaration.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name in a recipe.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

/// (height, width) in pixels; in a recipe one number for a square, or `[height, width]`. For `#[serde(with = …)]`.
pub mod size {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Square(usize),
        Pair([usize; 2]),
    }

    /// The shorter form.
    pub fn serialize<S: Serializer>(size: &(usize, usize), to: S) -> Result<S::Ok, S::Error> {
        let form =
            if size.0 == size.1 { Form::Square(size.0) } else { Form::Pair([size.0, size.1]) };
        form.serialize(to)
    }

    /// Either form.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(usize, usize), D::Error> {
        Ok(match Form::deserialize(from)? {
            Form::Square(side) => (side, side),
            Form::Pair([height, width]) => (height, width),
        })
    }

    /// The text in a recipe.
    pub fn text((height, width): (usize, usize)) -> String {
        if height == width { height.to_string() } else { format!("[{height}, {width}]") }
    }
}
