//! What a kernel may not do: a short list, each entry with its reason, and the kernels that may all
//! the same.

use super::index::IndexedKernel;
use super::ptx::{self, Entry, Instruction, Ptx};
use super::ptxas::Usage;

/// The kernels that may do what is banned, each with the reason, which is shown with each build. A
/// name that ends in `*` stands for all that begin like it.
pub struct Rules {
    /// Kernels that may compute in `f64`.
    pub f64: &'static [(&'static str, &'static str)],
}

/// The rules as they are in force.
pub const RULES: Rules = Rules {
    f64: &[
        ("convert_*", "f64 holds every value of the types that are converted"),
        ("cross_entropy_mean", "one block adds the batch's losses, as the CPU does"),
        ("sum_squares_*", "the square of a large f32 is none"),
        ("clip_norm_*", "the norm is the root of such a sum"),
    ],
};

impl Rules {
    /// What is wrong with the instructions of a kernel: each thing once, at its first place.
    pub fn check_instructions(&self, ptx: &Ptx, entry: &Entry) -> Vec<String> {
        let name = entry.name;
        let may_use_f64 = self.f64.iter().any(|(kernels, _)| covers(kernels, name));
        let (mut seen, mut findings) = (Vec::new(), Vec::new());
        if name.starts_with("_Z") {
            findings.push(format!("{name} has a C++ name: declare it extern \"C\""));
        }
        for Instruction { text, place } in ptx::instructions(entry.body) {
            let Some((what, advice)) = finding(text, may_use_f64) else { continue };
            if seen.contains(&what) {
                continue;
            }
            let opcode = text.split_whitespace().next().unwrap_or_default();
            let place = place.and_then(|(file, line)| Some((ptx.source_file(file)?, line)));
            let place = place.map_or(String::new(), |(file, line)| format!(" at {file}:{line}"));
            findings.push(format!("{name} {what} (`{opcode}`{place}): {advice}"));
            seen.push(what);
        }
        findings
    }

    /// The exceptions, one a line.
    pub fn exceptions(&self) -> impl Iterator<Item = String> {
        let exceptions = self.f64.iter();
        exceptions.map(|(kernel, reason)| format!("{kernel} may compute in f64: {reason}"))
    }
}

/// Registers that went to memory on some target: the kernel keeps too much at once. None may.
pub fn check_spills(kernel: &IndexedKernel) -> Vec<String> {
    let spilling = kernel.targets.iter().filter(|(_, usage)| usage.spills() > 0);
    let finding = |(target, usage): (&u32, &Usage)| {
        let (name, stores, loads) = (&kernel.name, usage.spill_stores, usage.spill_loads);
        format!("{name} spills on sm_{target}: {stores} bytes of stores and {loads} of loads")
    };
    spilling.map(finding).collect()
}

fn covers(kernels: &str, name: &str) -> bool {
    kernels.strip_suffix('*').map_or(kernels == name, |start| name.starts_with(start))
}

/// What is wrong with an instruction, and what to do about it.
fn finding(instruction: &str, may_use_f64: bool) -> Option<(String, &'static str)> {
    let opcode = instruction.split_whitespace().next()?;
    let (what, advice) = match opcode.split('.').next()? {
        "call" => return Some(call(instruction)),
        // What is on the device is lost then, and nobody learns why.
        "trap" | "brkpt" => ("stops the context", "check arguments on the host"),
        // The layout of its fragments is not stated anywhere, so nobody can emulate it.
        "wmma" => ("uses wmma, which the emulator cannot run", "use mma.sync and ldmatrix"),
        // Most often because of a literal without its `f`. Consumer processors do 1/64 as many
        // such operations a second.
        _ if opcode.split('.').any(|part| part == "f64") && !may_use_f64 => (
            "computes in f64",
            "write literals as 1.0f, or let it off in xtask/src/kernels/rules.rs",
        ),
        _ => return None,
    };
    Some((what.to_owned(), advice))
}

/// The same for a call, by the name of what is called: `call.uni (result), name, (…)`.
fn call(instruction: &str) -> (String, &'static str) {
    let mut words = instruction.split(|c: char| c.is_whitespace() || ",()".contains(c));
    let name = words.rfind(|word| {
        !word.is_empty() && !word.starts_with("param") && !word.starts_with("retval")
    });
    match name.unwrap_or("a function") {
        // It takes a stack, and a buffer that nobody reads.
        "vprintf" => ("calls printf".to_owned(), "take it out"),
        "__assertfail" => ("calls assert".to_owned(), "check arguments on the host"),
        // Arguments of a call go through memory, and the emulator knows no calls.
        name => (format!("calls {name}"), "declare it __forceinline__"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F64: Rules = Rules { f64: &[("k", "it sums up")] };

    fn findings(rules: &Rules, name: &str, body: &str) -> Vec<String> {
        let ptx = Ptx::new(&format!(".entry {name}() {{ {body} }}"));
        rules.check_instructions(&ptx, &ptx.entries().unwrap()[0])
    }

    #[test]
    fn plain_instructions_pass() {
        let body = "mov.u32 %r1, %tid.x; // call trap wmma\n @%p1 bra $L; \n$L:\n ret;";
        assert_eq!(findings(&RULES, "k", body), [""; 0]);
    }

    #[test]
    fn banned_instructions_are_found_with_what_to_do() {
        let printf = "call.uni (retval0), \n vprintf, \n ( \n param0, \n param1 \n );";
        for (body, words) in [
            (printf, "k calls printf (`call.uni`): "),
            ("call.uni \n __assertfail, \n ( param0 );", "k calls assert ("),
            ("{ .reg .b32 t; call.uni (retval0), _Z1ffi, (param0); }", "k calls _Z1ffi ("),
            ("@%p1 trap;", "k stops the context"),
            ("brkpt;", "k stops the context"),
            ("wmma.load.a.sync.aligned.row.m16n16k16.bf16 {%r1}, [%rd1];", "use mma.sync"),
            ("cvt.f64.f32 %fd1, %f1; \n cvt.f64.f32 %fd2, %f2;", "k computes in f64"),
        ] {
            let findings = findings(&RULES, "k", body);
            assert_eq!(findings.len(), 1, "{body}: {findings:?}");
            assert!(findings[0].contains(words), "{findings:?}");
        }
        assert!(findings(&RULES, "_Z1kv", "ret;")[0].contains("extern \"C\""));
    }

    #[test]
    fn a_finding_has_a_place() {
        let text = ".entry k() { .loc 2 7 3\n trap; .loc 2 9 3\n trap; }\n.file 2 \"/a/b.cuh\"";
        let ptx = Ptx::new(text);
        let findings = RULES.check_instructions(&ptx, &ptx.entries().unwrap()[0]);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].starts_with("k stops the context (`trap` at b.cuh:7): "),
            "{findings:?}"
        );
        // Without line information there is the instruction alone.
        assert!(self::findings(&RULES, "k", "trap;")[0].contains(" (`trap`): "));
    }

    #[test]
    fn a_kernel_may_be_let_off() {
        let body = "add.f64 %fd1, %fd1, %fd2; trap;";
        assert_eq!(findings(&F64, "k", body).len(), 1);
        assert_eq!(findings(&F64, "other", body).len(), 2);
        assert_eq!(F64.exceptions().collect::<Vec<_>>(), ["k may compute in f64: it sums up"]);
    }

    #[test]
    fn a_name_may_stand_for_many() {
        assert!(covers("sum_f32", "sum_f32") && !covers("sum_f32", "sum_f32_total"));
        assert!(covers("sum_*", "sum_f32") && !covers("sum_*", "product_sum_f32"));
    }

    #[test]
    fn spills_are_found() {
        let usage = Usage { spill_stores: 8, spill_loads: 16, ..Usage::default() };
        let kernel = IndexedKernel {
            name: "k".to_owned(),
            parameters: vec![],
            max_threads: None,
            static_shared: 0,
            targets: [(80, Usage::default()), (90, usage)].into(),
        };
        let words = "k spills on sm_90: 8 bytes of stores and 16 of loads";
        assert_eq!(check_spills(&kernel), [words]);
    }
}
