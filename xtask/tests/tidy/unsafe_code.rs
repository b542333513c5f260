//! `unsafe`: only in the places listed here, and each use with its reason beside it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::repository::File;

/// Where `unsafe` may stand. A new place needs a reason that a reviewer accepts.
const PLACES: &[&str] = &[
    "benches/src/peak.rs",
    "crates/cuda-driver/",
    "crates/cuda/",
    "crates/nn/src/linalg.rs",
    "crates/ptx-emulator/src/",
    "crates/tensor/src/cpu/",
    "crates/tensor/src/simd.rs",
];

/// How many lines of code may lie between the reason and the keyword.
const REACH: usize = 3;

/// Checks the place and the reason of each `unsafe` in a Rust file.
pub fn check(file: &File) -> Vec<String> {
    let tokens = match file.text.parse::<TokenStream>() {
        Ok(tokens) => tokens,
        Err(error) => return vec![format!("{}: {error}", file.path)],
    };
    let mut numbers = Vec::new();
    unsafe_lines(tokens, &mut numbers);

    let lines: Vec<&str> = file.text.lines().collect();
    let listed = PLACES.iter().any(|place| file.path.starts_with(place));
    let mut findings = Vec::new();
    for number in numbers {
        let here = format!("{}:{number}", file.path);
        if !listed {
            let table = "the table PLACES in xtask/tests/tidy/unsafe_code.rs";
            findings.push(format!("{here}: `unsafe` outside of {table}"));
        }
        if !has_reason(&lines, number) {
            findings.push(format!("{here}: `unsafe` without a `// SAFETY:` that gives the reason"));
        }
    }
    findings
}

/// The lines that hold the keyword as code: not in a comment, a text, or a function's type.
fn unsafe_lines(tokens: TokenStream, found: &mut Vec<usize>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => unsafe_lines(group.stream(), found),
            TokenTree::Ident(word) if *word == "unsafe" && !is_type(&tokens[index + 1..]) => {
                found.push(word.span().start().line);
            }
            _ => {}
        }
    }
}

/// Whether `unsafe` begins a type such as `unsafe extern "C" fn(u8)`: a declaration has a name.
fn is_type(after: &[TokenTree]) -> bool {
    let mut after = after.iter();
    loop {
        match after.next() {
            Some(TokenTree::Ident(word)) if *word == "extern" => {}
            Some(TokenTree::Literal(_)) => {}
            Some(TokenTree::Ident(word)) if *word == "fn" => break,
            _ => return false,
        }
    }
    let next = after.next();
    matches!(next, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}

/// Looks for the reason on the line itself and upwards: comments and attributes are free, and a
/// few lines of code may come between, for instance the start of the statement.
fn has_reason(lines: &[&str], number: usize) -> bool {
    let mut code = 0;
    for line in lines[..number].iter().rev() {
        if line.contains("// SAFETY:") || line.contains("# Safety") {
            return true;
        }
        let line = line.trim_start();
        if !line.starts_with("//") && !line.starts_with("#[") {
            code += 1;
        }
        if code > REACH {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(text: &str) -> Vec<String> {
        check(&File::sample("crates/tensor/src/cpu/gemm.rs", text))
    }

    #[test]
    fn a_reason_beside_it_passes() {
        for text in [
            "// SAFETY: the index was checked.\nlet x = unsafe { f() };",
            "// SAFETY: checked.\nlet x =\n    g(\n    unsafe { f() });",
            "/// # Safety\n/// `p` is valid.\n#[inline]\n#[cold]\npub unsafe fn f(p: *const u8) {}",
        ] {
            assert_eq!(inside(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_missing_reason_is_found() {
        for text in [
            "let x = unsafe { f() };",
            "unsafe impl Send for X {}",
            "/// Adds.\nunsafe fn f() {}",
            "unsafe extern \"C\" fn f() {}",
            "m! { unsafe { f() } }",
            "// SAFETY: far away.\nlet a = 1;\nlet b = 2;\nlet c = 3;\nlet d = unsafe { f() };",
        ] {
            assert_eq!(inside(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn another_place_is_found() {
        let text = "// SAFETY: checked.\nlet x = unsafe { f() };";
        let findings = check(&File::sample("crates/nn/src/linear.rs", text));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("crates/nn/src/linear.rs:2:"), "{findings:?}");
    }

    #[test]
    fn the_word_alone_is_no_use() {
        let text = "// unsafe\nlet a = \"unsafe { f() }\"; /* unsafe */\n\
                    type F = unsafe extern \"C\" fn(u8); type G = unsafe fn();\n\
                    #![deny(unsafe_op_in_unsafe_fn)]";
        assert_eq!(check(&File::sample("crates/nn/src/lib.rs", text)), [""; 0]);
    }

    #[test]
    fn a_file_that_is_no_rust_is_found() {
        assert_eq!(inside("fn f( {").len(), 1);
    }
}
