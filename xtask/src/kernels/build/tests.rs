//! Builds in folders of their own: with stand-ins for nvcc and ptxas, and with the real ones where
//! they are at hand.

use super::*;
use crate::files::scratch;
use crate::kernels::compiler::{Environment, stand_in};
use crate::kernels::rules::RULES;

/// A folder with sources, and one for the outputs.
struct Place {
    folder: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let place = Self { folder: scratch(&format!("kernels-{name}")) };
        place.write("shared.cuh", "// nothing");
        place.write("one.cu", &kernel("one_f32", ""));
        place.write("two.cu", &kernel("two_f32", ".maxntid 128"));
        place
    }

    fn sources(&self) -> PathBuf {
        let sources = self.folder.join("sources");
        fs::create_dir_all(&sources).unwrap();
        sources
    }

    fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.sources().join(name), text).unwrap();
    }

    fn build_with(&self, compiler: &Compiler) -> Result<BuildOutcome> {
        self.build_under(compiler, &RULES)
    }

    fn build_under(&self, compiler: &Compiler, rules: &Rules) -> Result<BuildOutcome> {
        let sources = Sources::read(&self.sources()).unwrap();
        Build { sources: &sources, out: &self.out(), compiler, rules }.run()
    }

    fn build(&self) -> Result<BuildOutcome> {
        self.build_with(&stand_in())
    }

    fn refused(&self) -> String {
        format!("{:#}", self.build().unwrap_err())
    }

    /// The outputs that a person sees, in order.
    fn outputs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.out()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }

    fn index(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.out().join(INDEX)).unwrap()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = files::remove_folder(&self.folder);
    }
}

fn kernel(name: &str, more: &str) -> String {
    format!(".version 9.0\n.entry {name}(.param .u64 a, .param .u32 b) {more}\n{{ ret; }}\n")
}

#[test]
fn a_build_writes_outputs_and_their_index() {
    let place = Place::new("whole");
    let outcome = place.build().unwrap();
    assert_eq!(outcome.compiled, ["one", "two"]);
    assert_eq!(outcome.left_out, [86, 89, 120]);
    let of = |module: &str| {
        ["ptx", "record.json", "sm_100.cubin", "sm_80.cubin", "sm_90.cubin"]
            .map(|end| format!("{module}.{end}"))
    };
    let expected = [&[INDEX.to_owned()][..], &of("one"), &of("two")].concat();
    assert_eq!(place.outputs(), expected);

    let sources = Sources::read(&place.sources()).unwrap();
    let usage =
        serde_json::json!({"registers": 32, "spill_stores": 0, "spill_loads": 0, "stack": 16});
    let module = |name: &str, max_threads: Option<u32>| {
        serde_json::json!({
            "name": name,
            "file": format!("{name}.ptx"),
            "cubins": {
                "80": format!("{name}.sm_80.cubin"),
                "90": format!("{name}.sm_90.cubin"),
                "100": format!("{name}.sm_100.cubin"),
            },
            "kernels": [{
                "name": format!("{name}_f32"),
                "parameters": [8, 4],
                "max_threads": max_threads,
                "static_shared": 1024,
                "targets": {"80": usage, "90": usage, "100": usage},
            }],
        })
    };
    let expected = serde_json::json!({
        "format": 1,
        "source_hash": hexadecimal(sources.hash()),
        "compiler": "13.0.88",
        "ptx_version": "9.0",
        "targets": [80, 90, 100],
        "modules": [module("one", None), module("two", Some(128))],
    });
    assert_eq!(place.index(), expected);
}

#[test]
fn only_what_changed_is_compiled_again() {
    let place = Place::new("again");
    place.build().unwrap();
    assert_eq!(place.build().unwrap().compiled, [""; 0]);
    let calls = fs::read_to_string(place.sources().join("calls")).unwrap();
    assert_eq!(calls.lines().count(), 2, "the compiler was started once a file: {calls}");

    place.write("two.cu", &kernel("two_f32", ".maxntid 64"));
    assert_eq!(place.build().unwrap().compiled, ["two"]);
    assert_eq!(place.index()["modules"][1]["kernels"][0]["max_threads"], 64);

    place.write("shared.cuh", "// changed");
    assert_eq!(place.build().unwrap().compiled, ["one", "two"]);

    fs::remove_file(place.out().join("one.sm_90.cubin")).unwrap();
    assert_eq!(place.build().unwrap().compiled, ["one"]);
    fs::write(place.out().join("two.record.json"), "{").unwrap();
    assert_eq!(place.build().unwrap().compiled, ["two"]);

    let record = place.out().join("two.record.json");
    let mut content: serde_json::Value =
        serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    content["targets"].as_object_mut().unwrap().remove("90");
    fs::write(&record, content.to_string()).unwrap();
    assert_eq!(place.build().unwrap().compiled, ["two"], "it was compiled for other targets");

    let newer = Compiler { identity: "another build".to_owned(), ..stand_in() };
    assert_eq!(place.build_with(&newer).unwrap().compiled, ["one", "two"]);
}

#[test]
fn outputs_of_a_source_that_is_gone_are_removed_and_other_files_stay() {
    let place = Place::new("gone");
    place.build().unwrap();
    fs::write(place.out().join("mine.ptx"), "not ours").unwrap();
    fs::remove_file(place.sources().join("two.cu")).unwrap();
    let outcome = place.build().unwrap();
    assert_eq!(outcome.removed, ["two"]);
    assert_eq!(outcome.compiled, [""; 0]);
    assert!(!place.outputs().iter().any(|name| name.starts_with("two")), "{:?}", place.outputs());
    assert!(place.outputs().contains(&"mine.ptx".to_owned()));
    assert_eq!(place.index()["modules"].as_array().unwrap().len(), 1);
}

#[test]
fn a_failure_names_the_file_and_leaves_no_index() {
    let place = Place::new("failure");
    place.build().unwrap();
    place.write("two.cu", "syntax error here");
    let error = place.refused();
    assert!(error.contains("1 of 1 files did not compile"), "{error}");
    assert!(error.contains("two.cu: nvcc failed (exit status: 2)\nsyntax error here"), "{error}");
    assert!(!place.outputs().iter().any(|name| name == INDEX || name.starts_with("two.")));
    assert!(!place.out().join(WORK).exists());

    place.write("two.cu", &kernel("two_f32", "// refused by sm_90"));
    place.write("one.cu", "syntax error there");
    let error = place.refused();
    assert!(error.contains("2 of 2 files"), "{error}");
    assert!(error.contains("two.cu: ptxas failed") && error.contains("one.cu: nvcc"), "{error}");

    place.write("one.cu", &kernel("one_f32", ""));
    place.write("two.cu", &kernel("two_f32", ""));
    assert_eq!(place.build().unwrap().compiled, ["one", "two"]);
}

#[test]
fn rules_hold_also_for_what_is_not_compiled_again() {
    let place = Place::new("rules");
    place.write("two.cu", &kernel("two_f32", "// spills 8 on sm_90"));
    place.write("one.cu", ".version 9.0\n.entry one_f32() { trap; }");
    for _ in 0..2 {
        let error = place.refused();
        assert!(error.contains("findings in the kernels: 2"), "{error}");
        assert!(error.contains("two.cu: two_f32 spills on sm_90: 8 bytes"), "{error}");
        assert!(error.contains("one.cu: one_f32 stops the context"), "{error}");
        assert!(!place.out().join(INDEX).exists());
    }

    // Outputs that were allowed when they were made.
    place.write("one.cu", &kernel("one_f32", ""));
    place.write("two.cu", ".version 9.0\n.entry two_f32() { add.f64 %fd1, %fd1, %fd1; }");
    let lax = Rules { f64: &[("two_f32", "a test")] };
    assert_eq!(place.build_under(&stand_in(), &lax).unwrap().compiled, ["one", "two"]);
    assert!(place.out().join(INDEX).exists());
    assert!(place.refused().contains("findings in the kernels: 1"));
    assert!(!place.out().join(INDEX).exists());

    place.write("one.cu", &kernel("same_f32", ""));
    place.write("two.cu", &kernel("same_f32", ""));
    let error = place.refused();
    assert!(error.contains("two.cu: same_f32 is also in one.cu"), "{error}");
}

#[test]
fn warnings_are_passed_on() {
    let place = Place::new("warnings");
    place.write("one.cu", &kernel("one_f32", "// warning: unused"));
    let warnings = place.build().unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("one.cu: .entry") && warnings[0].contains("unused"));
}

const CUDA: &str = r#"
#include "scale.cuh"

extern "C" __global__ void __launch_bounds__(128)
copy_f32(const float* from, float* to, int count) {
    __shared__ float row[128];
    int at = blockIdx.x * 128 + threadIdx.x;
    row[threadIdx.x] = at < count ? from[at] : 0.0f;
    __syncthreads();
    if (at < count) to[at] = scaled(row[127 - threadIdx.x]);
}
"#;

#[test]
fn the_real_compiler_is_understood() {
    let environment = Environment::of_this_process();
    let compiler = environment.search().unwrap().compiler;
    let Some(compiler) = compiler.filter(|_| environment.has_host_compiler()) else {
        eprintln!("LEFT OUT: nvcc or g++ is not here; `cargo xtask kernels` says what to do");
        return;
    };
    let place = Place::new("real");
    fs::remove_dir_all(place.sources()).unwrap();
    place.write("copy.cu", CUDA);
    place.write("scale.cuh", "static __device__ float scaled(float x) { return 2.0f * x; }");
    let outcome = place.build_with(&compiler).unwrap();
    assert_eq!(outcome.compiled, ["copy"]);
    assert!(outcome.index.targets.contains(&80));
    let kernel = &outcome.index.modules[0].kernels[0];
    assert_eq!(kernel.name, "copy_f32");
    assert_eq!(kernel.parameters, [8, 8, 4]);
    assert_eq!(kernel.max_threads, Some(128));
    assert_eq!(kernel.static_shared, 512);
    assert!(kernel.targets.values().all(|usage| usage.registers > 0 && usage.spills() == 0));
    assert_eq!(place.build_with(&compiler).unwrap().compiled, [""; 0]);

    place.write("copy.cu", &CUDA.replace("2.0f", "2").replace("0.0f", "0.0f * 2.0"));
    place.write("scale.cuh", "static __device__ float scaled(float x) { return x * sqrt(2.0); }");
    let error = format!("{:#}", place.build_with(&compiler).unwrap_err());
    assert!(error.contains("copy.cu: copy_f32 computes in f64"), "{error}");
    place.write("scale.cuh", "static __device__ float scaled(float x) { return y; }");
    let error = format!("{:#}", place.build_with(&compiler).unwrap_err());
    assert!(error.contains("copy.cu: nvcc failed") && error.contains("\"y\""), "{error}");
}
