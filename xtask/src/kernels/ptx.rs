//! Reads what is needed from PTX: its version, and each kernel with its parameters and its
//! instructions.

use anyhow::{Context, Result, bail};

/// A file of PTX, without its comments.
pub struct Ptx {
    text: String,
}

/// A kernel: an `.entry` of the file.
#[derive(Debug, PartialEq)]
pub struct Entry<'a> {
    pub name: &'a str,
    /// The size of each parameter in bytes, in order.
    pub parameters: Vec<u64>,
    /// The most threads a block may have, from `.maxntid` or `.reqntid`.
    pub max_threads: Option<u32>,
    /// What stands between its braces.
    pub body: &'a str,
}

impl Ptx {
    pub fn new(text: &str) -> Self {
        Self { text: without_comments(text) }
    }

    /// The version of the instruction set, such as "9.0".
    pub fn version(&self) -> Result<&str> {
        let line = self.text.lines().find_map(|line| line.trim().strip_prefix(".version "));
        Ok(line.context("the PTX has no .version")?.trim())
    }

    /// The name of a source file, without its folder, by its number.
    pub fn source_file(&self, number: u32) -> Option<&str> {
        let mut files = self.text.lines().filter_map(|line| line.trim().strip_prefix(".file"));
        files.find_map(|line| {
            let (found, path) = line.trim().split_once(char::is_whitespace)?;
            let path = path.split('"').nth(1)?;
            (found.parse() == Ok(number)).then(|| path.rsplit('/').next().unwrap_or(path))
        })
    }

    /// All kernels, in the order of the file.
    pub fn entries(&self) -> Result<Vec<Entry<'_>>> {
        let starts = self.text.split_inclusive(".entry").scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        let starts = starts.filter(|&start| self.text[..start].ends_with(".entry"));
        starts.map(|start| entry(&self.text[start..])).collect()
    }
}

/// Reads a kernel from what follows `.entry`.
fn entry(text: &str) -> Result<Entry<'_>> {
    let brace = text.find('{').context("a kernel has no body")?;
    let head = text[..brace].trim();
    let end = head.find(|c: char| c == '(' || c.is_whitespace()).unwrap_or(head.len());
    let (name, rest) = head.split_at(end);
    let (parameters, directives) = match rest.trim_start().strip_prefix('(') {
        Some(rest) => rest.split_once(')').context("a list of parameters does not end")?,
        None => ("", rest),
    };
    let parameters = parameters.split(',').map(str::trim).filter(|it| !it.is_empty());
    let parameters: Result<_> = parameters.map(parameter_bytes).collect();
    Ok(Entry {
        name,
        parameters: parameters.with_context(|| format!("in the parameters of {name}"))?,
        max_threads: max_threads(directives).with_context(|| format!("in the head of {name}"))?,
        body: body(&text[brace..]).with_context(|| format!("in the body of {name}"))?,
    })
}

/// The size of `.param .align 8 .b8 name[72]`, `.param .u64 .ptr .global .align 4 name` and such.
fn parameter_bytes(declaration: &str) -> Result<u64> {
    let mut words = declaration.split_whitespace().skip_while(|word| *word != ".param").skip(1);
    let mut element = None;
    let mut name = "";
    while let Some(word) = words.next() {
        match word {
            ".align" => {
                words.next();
            }
            ".ptr" | ".global" | ".const" | ".local" | ".shared" | ".generic" => {}
            _ if word.starts_with('.') => element = Some(type_bytes(word)?),
            _ => name = word,
        }
    }
    let element = element.with_context(|| format!("`{declaration}` has no type"))?;
    let Some((_, count)) = name.split_once('[') else { return Ok(element) };
    let count = count.trim_end_matches(']').parse::<u64>();
    Ok(element * count.with_context(|| format!("`{declaration}` has no size"))?)
}

fn type_bytes(name: &str) -> Result<u64> {
    let bits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    match (name.as_bytes().get(1), bits) {
        (Some(b'b' | b'u' | b's' | b'f'), "8" | "16" | "32" | "64" | "128") => {
            Ok(bits.parse::<u64>()? / 8)
        }
        _ => bail!("`{name}` is no type of a known size"),
    }
}

/// The number in `.maxntid 16, 16, 1`: the product.
fn max_threads(directives: &str) -> Result<Option<u32>> {
    let found = directives.split_once(".maxntid").or_else(|| directives.split_once(".reqntid"));
    let Some((_, after)) = found else { return Ok(None) };
    let numbers = after.split('.').next().unwrap_or(after).split(',').map(str::trim);
    let product = numbers.map(str::parse::<u32>).product::<Result<u32, _>>();
    Ok(Some(product.context("the number of threads is no number")?))
}

/// What stands between the first brace and the one that belongs to it.
fn body(text: &str) -> Result<&str> {
    let mut depth = 0;
    for (place, _) in text.match_indices(['{', '}']) {
        depth += if text[place..].starts_with('{') { 1 } else { -1 };
        if depth == 0 {
            return Ok(&text[1..place]);
        }
    }
    bail!("a brace is not closed")
}

/// An instruction, from its opcode on: without label and predicate.
#[derive(Debug, PartialEq)]
pub struct Instruction<'a> {
    pub text: &'a str,
    /// The number of the source file and the line in it, if the file has line information.
    pub place: Option<(u32, u32)>,
}

/// The instructions of a body.
///
/// Braces also stand around the operands of vector instructions: pieces of those come along, and
/// no opcode looks like one.
pub fn instructions(body: &str) -> impl Iterator<Item = Instruction<'_>> {
    let mut place = None;
    body.split([';', '{', '}']).filter_map(move |mut statement| {
        loop {
            statement = statement.trim();
            let line = statement.lines().next()?;
            let skipped = if line.starts_with('.') {
                place = location(line).or(place);
                line.len()
            } else if let Some(length) = label(line) {
                length
            } else if line.starts_with('@') {
                line.find(char::is_whitespace)?
            } else {
                return Some(Instruction { text: statement, place });
            };
            statement = &statement[skipped..];
        }
    })
}

/// The file's number and the line in `.loc 1 18 44`.
fn location(line: &str) -> Option<(u32, u32)> {
    let mut words = line.strip_prefix(".loc")?.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The length of the label that a line begins with, its colon included.
fn label(line: &str) -> Option<usize> {
    let end = line.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')?;
    (end > 0 && line[end..].starts_with(':')).then_some(end + 1)
}

/// The text without `// …` and `/* … */`; quoted texts, such as file names, stay as they are.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find(['"', '/']) {
        kept.push_str(&rest[..place]);
        rest = &rest[place..];
        let length = if rest.starts_with("//") {
            rest.find('\n')
        } else if rest.starts_with("/*") {
            rest.find("*/").map(|place| place + 2)
        } else {
            let end = rest[1..].find('"').filter(|_| rest.starts_with('"'));
            let length = end.map_or(1, |end| end + 2);
            kept.push_str(&rest[..length]);
            Some(length)
        };
        rest = &rest[length.unwrap_or(rest.len())..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nvcc 13.0.88 writes it, cut down.
    const SAMPLE: &str = r#"
// Cuda compilation tools, release 13.0, V13.0.88
.version 9.0
.target sm_80
.address_size 64

	// .globl	with_struct
.extern .shared .align 16 .b8 sm[];
.global .align 4 .b8 __cudart_i2opi_f[4] = {65, 144, 67, 60};

.visible .entry with_struct(
	.param .u64 with_struct_param_0,
	.param .align 8 .b8 with_struct_param_1[72],
	.param .align 16 .b8 with_struct_param_2[16],
	.param .u8 with_struct_param_3,
	.param .u16 with_struct_param_4,
	.param .f64 with_struct_param_5,
	.param .u64 .ptr .global .align 4 with_struct_param_6,
	.param .b32 with_struct_param_7
)
.maxntid 16, 16, 1
.minnctapersm 2
{
	.reg .pred 	%p<3>;
	.loc	1 18 0
	{ // callseq 0, 0
	.param .b64 param0;
	}
$L__BB0_1:
	.pragma "nounroll";
	@!%p1 bra 	$L__BB0_1;
	@%p2 ld.shared::cta.u32 	%r1, [%r2];
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
	{%f1, %f2}, {%r1, %r2}, {%r3}, {%f3, %f4};
	ret;

}
	// .globl	nothing
.visible .entry nothing()
{
	ret;
}
	.file	1 "/tmp//a/s.cu"
"#;

    #[test]
    fn kernels_are_read_with_their_parameters() {
        let ptx = Ptx::new(SAMPLE);
        assert_eq!(ptx.version().unwrap(), "9.0");
        let entries = ptx.entries().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].name, "with_struct");
        assert_eq!(entries[0].parameters, [8, 72, 16, 1, 2, 8, 8, 4]);
        assert_eq!(entries[0].max_threads, Some(256));
        let bare = Entry { name: "nothing", parameters: vec![], max_threads: None, body: "" };
        assert_eq!(entries[1], Entry { body: entries[1].body, ..bare });
        assert_eq!(entries[1].body.trim(), "ret;");
    }

    #[test]
    fn instructions_begin_with_their_opcode() {
        let ptx = Ptx::new(SAMPLE);
        let entries = ptx.entries().unwrap();
        let opcodes =
            instructions(entries[0].body).map(|it| it.text.split_whitespace().next().unwrap());
        let opcodes: Vec<_> =
            opcodes.filter(|word| word.starts_with(char::is_alphabetic)).collect();
        let mma = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";
        assert_eq!(opcodes, ["bra", "ld.shared::cta.u32", mma, "ret"]);
    }

    #[test]
    fn instructions_have_a_place_in_the_source() {
        let ptx = Ptx::new(SAMPLE);
        let entries = ptx.entries().unwrap();
        assert!(instructions(entries[0].body).all(|it| it.place == Some((1, 18))));
        assert!(instructions(entries[1].body).all(|it| it.place.is_none()));
        assert_eq!((ptx.source_file(1), ptx.source_file(2)), (Some("s.cu"), None));
        let inlined = ".loc 2 33 5, function_name $L__info_string0, inlined_at 1 20 3";
        assert_eq!(location(inlined), Some((2, 33)));
    }

    #[test]
    fn a_head_may_be_short() {
        let read = |text: &str| {
            let ptx = Ptx::new(text);
            let entries = ptx.entries().unwrap();
            (entries[0].name.to_owned(), entries[0].max_threads, entries[0].parameters.clone())
        };
        assert_eq!(read(".entry k{ret;}"), ("k".to_owned(), None, vec![]));
        assert_eq!(read(".entry k\n.maxntid 128\n{ret;}"), ("k".to_owned(), Some(128), vec![]));
        assert_eq!(read(".entry k(.param .b8 p[3]) .reqntid 32, 2 {}").1, Some(64));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, words) in [
            (".entry k(.param .u64 p)", "no body"),
            (".entry k(.param .u64 p {}", "parameters does not end"),
            (".entry k(.param .v99 p) {}", "in the parameters of k"),
            (".entry k(.param .b8 p[x]) {}", "has no size"),
            (".entry k(.param p) {}", "has no type"),
            (".entry k() .maxntid x {}", "in the head of k"),
            (".entry k() { {", "in the body of k"),
        ] {
            let error = format!("{:#}", Ptx::new(text).entries().unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Ptx::new("// .version 9.0").version().is_err());
    }

    #[test]
    fn comments_go_and_quoted_texts_stay() {
        let text = "a /* b\n */ c // d\n\"// e\" / f";
        assert_eq!(without_comments(text), "a  c \n\"// e\" / f");
        assert_eq!(without_comments("a // b"), "a ");
        assert_eq!(without_comments("a /* b"), "a ");
        assert_eq!(without_comments("a \"b"), "a \"b");
    }
}
