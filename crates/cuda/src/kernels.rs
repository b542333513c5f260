//! Finding the kernels that `cargo xtask kernels` built, checking that they belong to this program, and loading them.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use cust::function::Function;
use cust::module::Module;
use serde::Deserialize;

use crate::error::Error;

/// The sources that this program was built with.
const SOURCES: &[(&str, &str)] = &[
    ("activation.cu", include_str!("../kernels/activation.cu")),
    ("activation.cuh", include_str!("../kernels/activation.cuh")),
    ("attention.cu", include_str!("../kernels/attention.cu")),
    ("attention.cuh", include_str!("../kernels/attention.cuh")),
    ("attention_mma.cu", include_str!("../kernels/attention_mma.cu")),
    ("batch_norm.cu", include_str!("../kernels/batch_norm.cu")),
    ("convolution.cu", include_str!("../kernels/convolution.cu")),
    ("copy.cu", include_str!("../kernels/copy.cu")),
    ("cross_entropy.cu", include_str!("../kernels/cross_entropy.cu")),
    ("element.cuh", include_str!("../kernels/element.cuh")),
    ("elementwise.cu", include_str!("../kernels/elementwise.cu")),
    ("embed.cu", include_str!("../kernels/embed.cu")),
    ("epilogue.cuh", include_str!("../kernels/epilogue.cuh")),
    ("layer_norm.cu", include_str!("../kernels/layer_norm.cu")),
    ("matmul.cu", include_str!("../kernels/matmul.cu")),
    ("optimizer.cu", include_str!("../kernels/optimizer.cu")),
    ("pooling.cu", include_str!("../kernels/pooling.cu")),
    ("product.cuh", include_str!("../kernels/product.cuh")),
    ("product_bf16.cu", include_str!("../kernels/product_bf16.cu")),
    ("product_f32.cu", include_str!("../kernels/product_f32.cu")),
    ("product_kernels.cuh", include_str!("../kernels/product_kernels.cuh")),
    ("product_parts.cu", include_str!("../kernels/product_parts.cu")),
    ("product_tensor.cuh", include_str!("../kernels/product_tensor.cuh")),
    ("product_tf32.cu", include_str!("../kernels/product_tf32.cu")),
    ("random.cuh", include_str!("../kernels/random.cuh")),
    ("reduce.cuh", include_str!("../kernels/reduce.cuh")),
    ("softmax.cu", include_str!("../kernels/softmax.cu")),
    ("sum.cu", include_str!("../kernels/sum.cu")),
    ("tensor_core.cuh", include_str!("../kernels/tensor_core.cuh")),
    ("walk.cuh", include_str!("../kernels/walk.cuh")),
    ("windows.cuh", include_str!("../kernels/windows.cuh")),
];

/// `kernels.json`, as far as it is used here.
#[derive(Deserialize)]
struct Manifest {
    format: u32,
    source_hash: String,
    modules: Vec<ModuleEntry>,
}

#[derive(Deserialize)]
struct ModuleEntry {
    file: String,
    /// Native code: file names by compute capability, such as `80`.
    cubins: HashMap<String, String>,
    kernels: Vec<KernelEntry>,
}

#[derive(Deserialize)]
struct KernelEntry {
    name: String,
    /// Bytes of each parameter.
    parameters: Vec<usize>,
    max_threads: Option<u32>,
    static_shared: u32,
}

/// A kernel that can be launched.
pub(crate) struct Kernel {
    pub(crate) name: String,
    pub(crate) function: Function<'static>,
    pub(crate) parameters: Vec<usize>,
    pub(crate) max_threads: u32,
    pub(crate) static_shared: u32,
}

/// All kernels, loaded into the current context, where they stay: the code of a module is never given back.
pub(crate) struct Kernels(HashMap<String, Kernel>);

impl Kernels {
    /// Loads every module: native code for `capability` where there is some and the driver is a real one, else PTX.
    pub(crate) fn load(
        ordinal: u32,
        capability: (i32, i32),
        emulated: bool,
    ) -> Result<Self, Error> {
        let folder = kernels_folder()?;
        let manifest = read_manifest(&folder)?;
        let mut kernels = HashMap::new();
        for entry in manifest.modules {
            let native = if emulated { None } else { native_code(&entry, capability) };
            let file = folder.join(native.unwrap_or(&entry.file));
            let image = std::fs::read(&file).map_err(|error| broken(&file, error))?;
            let module = match native {
                Some(_) => Module::from_cubin(&image, &[]),
                None => {
                    let text = CString::new(image).map_err(|error| broken(&file, error))?;
                    Module::from_ptx_cstr(&text, &[])
                }
            };
            let module = module.map_err(|error| broken(&file, explain(error, ordinal)))?;
            let module: &'static Module = Box::leak(Box::new(module));
            for kernel in entry.kernels {
                let function = module.get_function(&kernel.name);
                let function = function.map_err(|error| broken(&file, error))?;
                let KernelEntry { name, parameters, max_threads, static_shared } = kernel;
                let max_threads = max_threads.unwrap_or(1024);
                let kernel =
                    Kernel { name: name.clone(), function, parameters, max_threads, static_shared };
                kernels.insert(name, kernel);
            }
        }
        Ok(Self(kernels))
    }

    /// The kernel of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Kernel> {
        self.0.get(name)
    }
}

/// The native code that runs on a card of this capability: the same major version, and the highest minor one that is
/// not above the card's (CUDA C++ Programming Guide, "Binary compatibility").
fn native_code(module: &ModuleEntry, (major, minor): (i32, i32)) -> Option<&String> {
    let targets = module.cubins.keys().filter_map(|target| target.parse::<i32>().ok());
    let best = targets.filter(|target| target / 10 == major && target % 10 <= minor).max()?;
    module.cubins.get(&best.to_string())
}

/// The folder that kernels are loaded from.
pub fn kernels_folder() -> Result<PathBuf, Error> {
    let mut tried = Vec::new();
    if let Some(folder) = std::env::var_os("VITRINE_KERNELS") {
        tried.push(PathBuf::from(folder));
    } else {
        let program = std::env::current_exe().ok();
        tried.extend(program.as_deref().and_then(Path::parent).map(|p| p.join("kernels")));
        // Where `cargo xtask kernels` puts them.
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        tried.push(target.unwrap_or_else(workspace).join("kernels"));
    }
    match tried.iter().find(|folder| folder.join("kernels.json").is_file()) {
        Some(folder) => Ok(folder.clone()),
        None => Err(Error::MissingKernels { tried }),
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, Error> {
    let file = folder.join("kernels.json");
    let text = std::fs::read_to_string(&file).map_err(|error| broken(&file, error))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| broken(&file, error))?;
    if manifest.format != 1 {
        return Err(broken(&file, format!("format {} is not known", manifest.format)));
    }
    let expected = source_hash(SOURCES);
    if manifest.source_hash != expected {
        let (folder, found) = (folder.to_owned(), manifest.source_hash);
        return Err(Error::StaleKernels { folder, found, expected });
    }
    Ok(manifest)
}

/// FNV-1a over names and texts; `cargo xtask kernels` computes the same.
fn source_hash(sources: &[(&str, &str)]) -> String {
    let bytes = sources.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]);
    let bytes = bytes.flat_map(|part| part.iter().copied().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn broken(file: &Path, error: impl ToString) -> Error {
    Error::Kernels { file: file.to_owned(), message: error.to_string() }
}

/// The driver's answer to a module, with what can be done about it.
fn explain(error: cust::error::CudaError, ordinal: u32) -> String {
    use cust::error::CudaError::{InvalidPtx, NoBinaryForGpu, UnknownError};
    #[cfg(feature = "emulator")]
    if let Some(unknown) = vitrine_cuda_driver::emulator::last_fault() {
        return format!("{error}: {unknown}");
    }
    match error {
        InvalidPtx | NoBinaryForGpu | UnknownError => {
            format!(
                "the driver of cuda:{ordinal} refuses it ({error}); it needs CUDA 13.0, which comes with driver 580"
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_those_in_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".cu") || name.ends_with(".cuh"))
            .collect();
        files.sort();
        assert_eq!(SOURCES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), files);
    }

    #[test]
    fn the_hash_is_that_of_the_kernels_task() {
        // FNV-1a of nothing is its offset basis; the other value stands in xtask's test too.
        assert_eq!(source_hash(&[]), "cbf29ce484222325");
        assert_eq!(source_hash(&[("a.cu", "x"), ("b.cuh", "y")]), "a85588d63d7a0d63");
    }

    #[test]
    fn kernels_that_are_absent_or_of_other_sources_are_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |text: &str, parts: &[&str]| {
            std::fs::write(folder.path().join("kernels.json"), text).unwrap();
            let error = read_manifest(folder.path()).err().expect("it is refused").to_string();
            for part in [parts, &["cargo xtask kernels"]].concat() {
                assert!(error.contains(part), "no {part:?} in {error}");
            }
        };
        refused(
            r#"{"format": 1, "source_hash": "0123456789abcdef", "modules": []}"#,
            &["0123456789abcdef", &source_hash(SOURCES)],
        );
        refused(r#"{"format": 2, "source_hash": "", "modules": []}"#, &["format 2"]);
        refused("{", &["kernels.json"]);
        let missing = Error::MissingKernels { tried: vec!["/a".into(), "/b".into()] }.to_string();
        assert!(missing.contains("/a, nor in /b; build them with `cargo xtask kernels`"));
    }

    #[test]
    fn native_code_is_of_the_same_major_version() {
        let cubins = ["80", "86", "90"].map(|t| (t.to_owned(), format!("copy.sm_{t}.cubin")));
        let module =
            ModuleEntry { file: "copy.ptx".into(), cubins: cubins.into(), kernels: Vec::new() };
        let chosen = |capability| native_code(&module, capability).map(String::as_str);
        assert_eq!(chosen((8, 0)), Some("copy.sm_80.cubin"));
        assert_eq!(chosen((8, 9)), Some("copy.sm_86.cubin"));
        assert_eq!(chosen((9, 0)), Some("copy.sm_90.cubin"));
        assert_eq!(chosen((10, 0)), None);
    }
}
