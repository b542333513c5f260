//! Controls: if the kernels of an operation did nothing, its cases would fail. Each is tried in a process of its own,
//! which loads kernels that return at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use vitrine_cuda::{Allocator, CudaBackend, Options};
use vitrine_tensor::{DType, Device};

/// The operation whose cases the child process runs.
const OP: &str = "VITRINE_CONTROL_OP";

/// Modules, and an operation that needs each.
const MODULES: [(&str, &str); 14] = [
    ("activation", "activate"),
    ("attention", "attention"),
    ("batch_norm", "batch_norm_grad"),
    ("copy", "fill"),
    ("cross_entropy", "cross_entropy"),
    ("elementwise", "binary"),
    ("convolution", "unfold"),
    ("embed", "embed_tokens"),
    ("layer_norm", "layer_norm_grad"),
    ("optimizer", "sgd"),
    ("pooling", "max_pool"),
    ("product_f32", "linear"),
    ("softmax", "softmax"),
    ("sum", "sum"),
];

/// Copies what the emulated device loads, with the kernels of one module made to return at once.
fn without(module: &str, to: &Path) {
    for entry in fs::read_dir(vitrine_cuda::kernels_folder().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "kernels.json" || name.ends_with(".ptx") {
            let mut text = fs::read_to_string(&path).unwrap();
            if name == format!("{module}.ptx") {
                let whole = text.clone();
                text = text.replace("\n{\n", "\n{\n ret;\n");
                assert_ne!(text, whole, "{module} has no kernel");
            }
            fs::write(to.join(name), text).unwrap();
        }
    }
}

#[test]
fn operations_whose_kernels_do_nothing_fail_their_cases() {
    if std::env::var("VITRINE_CUDA_DRIVER").as_deref() != Ok("emulated") {
        return;
    }
    for (module, op) in MODULES {
        let folder = tempfile::tempdir().unwrap();
        without(module, folder.path());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("VITRINE_KERNELS", folder.path())
            .env(OP, op)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stdout);
        let [cases, failed] = figures(&output).unwrap_or_else(|| panic!("{op}: {output}"));
        // Cases without elements pass.
        assert!(2 * failed > cases, "{op}: of {cases} cases {failed} failed");
    }
}

/// The cases, and those that failed, behind the mark that the child prints.
fn figures(output: &str) -> Option<[usize; 2]> {
    let line = output.lines().find_map(|line| line.strip_prefix("control: "))?;
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    Some([numbers.next()?, numbers.next()?])
}

/// Runs the cases of an operation for the test above; alone it has nothing to do.
#[test]
fn child() {
    let Ok(op) = std::env::var(OP) else { return };
    let options = Options { allocator: Allocator::Exact, ..Options::default() };
    let device = Device::new(CudaBackend::new(0, &options).unwrap());
    let report = vitrine_testkit::run(&device, DType::F32, |case| case.op == op);
    let failed: BTreeSet<&str> = report.failures.iter().map(|f| f.case.as_str()).collect();
    println!("\ncontrol: {} {}", report.cases, failed.len());
}
