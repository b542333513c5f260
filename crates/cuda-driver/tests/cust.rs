//! The table against the crates that call its functions: `cust`, and the declarations in `cust_raw`.
//! Their sources are read from cargo's registry, as this crate does not depend on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vitrine_cuda_driver::codes::KNOWN_TO_CUST;
use vitrine_cuda_driver::for_each_function;

macro_rules! signatures {
    ($($group:ident { $(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)* })*) => {
        /// Name and argument types of each function, without spaces.
        fn table() -> BTreeMap<&'static str, String> {
            BTreeMap::from([$($((
                stringify!($name),
                without_spaces(concat!($(stringify!($type), ","),*)),
            ),)*)*])
        }
    };
}

for_each_function!(signatures);

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The folder of the package whose folder's name starts so, as `cargo metadata` tells it.
fn package(name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["metadata", "--format-version", "1"]);
    let output = cargo.output().expect("cargo runs, as it runs this test");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {error}");
    let text = String::from_utf8_lossy(&output.stdout);
    let manifest =
        text.split('"').map(Path::new).filter(|path| path.ends_with("Cargo.toml")).find(|path| {
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            folder.to_string_lossy().starts_with(name)
        });
    let manifest = manifest.unwrap_or_else(|| panic!("{name} is not in the workspace's packages"));
    manifest.parent().expect("a file has a folder").to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What `cust_raw` declares: name and argument types of each function, without spaces.
fn declared(source: &str) -> BTreeMap<&str, String> {
    let mut functions = BTreeMap::new();
    for part in source.split("pub fn cu").skip(1) {
        let declaration = &part[..part.find(';').expect("a declaration ends")];
        let Some(arguments) = declaration.trim_end().strip_suffix("-> CUresult") else { continue };
        let (name, arguments) = arguments.split_once('(').expect("arguments follow the name");
        let arguments = arguments.trim_end().trim_end_matches(')').trim_end_matches(',');
        let types: String = arguments
            .split(',')
            .filter_map(|argument| argument.split_once(": "))
            .map(|(_, kind)| without_spaces(&kind.replace("::std::os::raw::", "")) + ",")
            .collect();
        // The two letters before `name` are those that the text was split at.
        let start = name.as_ptr() as usize - source.as_ptr() as usize - 2;
        functions.insert(&source[start..start + name.len() + 2], types);
    }
    functions
}

#[test]
fn signatures_are_those_that_cust_declares() {
    let source = fs::read_to_string(package("cust_raw-").join("src/cuda.rs")).expect("the source");
    let declared = declared(&source);
    assert!(declared.len() > 300, "{} declarations were read", declared.len());
    for (name, types) in table() {
        assert_eq!(declared.get(name), Some(&types), "{name}");
    }
}

#[test]
fn every_function_that_cust_calls_is_there() {
    let source = fs::read_to_string(package("cust_raw-").join("src/cuda.rs")).expect("the source");
    let (declared, table) = (declared(&source), table());
    let mut files = Vec::new();
    rust_files(&package("cust-").join("src"), &mut files);
    let mut called = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words.filter(|word| declared.contains_key(word)) {
            assert!(table.contains_key(word), "{}: {word} is not in the table", file.display());
            called += 1;
        }
    }
    assert!(called > 100, "{called} calls were found");
}

#[test]
fn the_known_codes_are_those_of_its_enum() {
    let source = fs::read_to_string(package("cust_raw-").join("src/cuda.rs")).expect("the source");
    let (_, rest) = source.split_once("pub enum cudaError_enum {").expect("the enum");
    let (members, _) = rest.split_once('}').expect("its end");
    let codes: Vec<i32> = members
        .split(',')
        .filter_map(|member| member.split_once(" = "))
        .map(|(_, code)| code.trim().parse().expect("a number"))
        .collect();
    assert_eq!(codes, KNOWN_TO_CUST);
}
