//! Source files: a header line, a bounded size, no loose ends, names that say something.

use crate::repository::File;

const MAX_LINES: usize = 600;
const MAX_COLUMNS: usize = 120;

/// Marks of unfinished work, and checks that do not run. Spelt in two halves, so that this file
/// passes its own rule.
const LOOSE_ENDS: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("db", "g!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ig", "nore"),
    concat!("```ig", "nore"),
];

/// Module names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// All rules for one source file.
pub fn check(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let mut found = |line: usize, what: String| {
        findings.push(format!("{}:{line}: {what}", file.path));
    };
    let rust = file.path.ends_with(".rs");

    if rust && !has_header(&file.text) {
        found(1, "the first line must be `//!` and say what lives here".to_owned());
    }
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        found(lines, format!("{lines} lines; split it by subject, {MAX_LINES} are the limit"));
    }
    if let Some(name) = empty_name(&file.path) {
        found(1, format!("`{name}` says nothing; name the file after its subject"));
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        if let Some(mark) = LOOSE_ENDS.iter().find(|mark| contains_word(line, mark)) {
            found(number, format!("`{mark}` marks a loose end"));
        }
        if rust && let Some(name) = inline_module(line).filter(|name| says_nothing(name)) {
            found(number, format!("`mod {name}` says nothing; name it after its subject"));
        }
        if rust && is_too_long(line) {
            found(number, format!("longer than {MAX_COLUMNS} columns"));
        }
    }
    findings
}

fn has_header(text: &str) -> bool {
    let first = text.lines().next().and_then(|line| line.strip_prefix("//!"));
    first.is_some_and(|words| !words.trim().is_empty())
}

fn says_nothing(name: &str) -> bool {
    EMPTY_NAMES.contains(&name)
}

/// A folder or file stem in the path that says nothing.
fn empty_name(path: &str) -> Option<&str> {
    path.split('/')
        .map(|part| part.split('.').next().unwrap_or(part))
        .find(|part| says_nothing(part))
}

/// The name in a line such as `pub(crate) mod name {`.
fn inline_module(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("mod ")?;
    let is_item = before.trim().is_empty() || before.trim_start().starts_with("pub");
    is_item.then(|| after.split([' ', ';', '{']).next().unwrap_or(after))
}

/// A URL or a text in quotes may run over.
fn is_too_long(line: &str) -> bool {
    line.chars().count() > MAX_COLUMNS && !line.contains("://") && !line.contains('"')
}

/// Whether `word` stands in `line` and is not the end or the start of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + word.len()..]);
        let joins_before = word.starts_with(part_of_name) && before.ends_with(part_of_name);
        let joins_after = word.ends_with(part_of_name) && after.starts_with(part_of_name);
        !joins_before && !joins_after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&File::sample(path, text))
    }

    fn body(line: &str) -> Vec<String> {
        findings("crates/x/src/lib.rs", &format!("//! A crate.\n{line}\n"))
    }

    #[test]
    fn a_plain_file_passes() {
        assert_eq!(body("pub mod attention;"), [""; 0]);
        assert_eq!(findings("docs/golden.py", "x = 1\n"), [""; 0]);
    }

    #[test]
    fn a_missing_header_is_found() {
        for text in ["", "use std::fs;\n", "// A crate.\n", "//!\n//! Too late.\n", "\n//! Late.\n"]
        {
            assert_eq!(findings("crates/x/src/lib.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(body(&"\n".repeat(MAX_LINES - 2)).is_empty());
        assert_eq!(body(&"\n".repeat(MAX_LINES)).len(), 1);
        assert_eq!(findings("docs/golden.py", &"\n".repeat(MAX_LINES + 1)).len(), 1);
    }

    #[test]
    fn loose_ends_are_found() {
        for line in [
            concat!("    to", "do!()"),
            concat!("    std::db", "g!(x);"),
            concat!("// TO", "DO: later"),
            concat!("// FIX", "ME"),
            concat!("#[ig", "nore = \"slow\"]"),
            concat!("/// ```ig", "nore"),
        ] {
            assert_eq!(body(line).len(), 1, "{line}");
        }
        assert_eq!(findings("docs/golden.py", concat!("# XX", "X\n")).len(), 1);
    }

    #[test]
    fn longer_names_are_no_loose_ends() {
        for line in ["let ignore = true;", concat!("const AUTO", "DOC: u8 = 0;")] {
            assert!(body(line).is_empty(), "{line}");
        }
        assert!(!contains_word(concat!("my_to", "do!()"), LOOSE_ENDS[0]));
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        for path in ["crates/x/src/utils.rs", "crates/x/tests/common/mod.rs", "docs/misc.py"] {
            assert_eq!(findings(path, "//! A file.\n").len(), 1, "{path}");
        }
        for line in ["mod helpers {", "pub(crate) mod utils;"] {
            assert_eq!(body(line).len(), 1, "{line}");
        }
        assert!(body("let modulus = 3; // mod utils is a bad name").is_empty());
    }

    #[test]
    fn long_lines_are_found() {
        assert_eq!(body(&format!("// {}", "x".repeat(118))).len(), 1);
        assert!(body(&format!("// {}", "×".repeat(117))).is_empty());
        assert!(body(&format!("// https://example.org/{}", "x".repeat(118))).is_empty());
        assert!(body(&format!("let x = \"{}\";", "x".repeat(118))).is_empty());
    }
}
