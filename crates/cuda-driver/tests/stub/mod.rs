//! Builds the stub of a driver library from `libcuda.c` with the C compiler; the tests are elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Compiles the stub with these macros defined and returns the library's path. `None`, with a
/// printed reason, where there is no C compiler.
pub fn build(name: &str, defines: &[&str]) -> Option<PathBuf> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub/libcuda.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join(format!("{name}.so"));
    // Tests run beside each other: each compiles under a name of its own.
    static BUILT: AtomicUsize = AtomicUsize::new(0);
    let number = BUILT.fetch_add(1, Ordering::Relaxed);
    let fresh = folder.join(format!("{name}.{}.{number}.so", std::process::id()));
    let mut command = Command::new(&compiler);
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]);
    command.args(defines.iter().map(|define| format!("-D{define}")));
    match command.arg(source).arg("-o").arg(&fresh).status() {
        Ok(status) => assert!(status.success(), "{command:?}: {status}"),
        Err(error) => {
            println!("skipped: the C compiler {compiler:?} does not start ({error})");
            return None;
        }
    }
    std::fs::rename(&fresh, &library).expect("the library gets its name");
    Some(library)
}
