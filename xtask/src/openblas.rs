//! Is the system's OpenBLAS here? It decides whether the `linalg` feature is switched on.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{self, Command, Stdio};

use crate::process::output_of;

/// What it comes with on Debian and its relatives.
pub const PACKAGE: &str = "libopenblas-dev";

/// One BLAS and one LAPACK function, under the names that `ndarray-linalg` links against.
const PROBE: &str = "
void cblas_dgemm(void);
void dgeqrf_(void);
int main(void) { return cblas_dgemm == 0 || dgeqrf_ == 0; }
";

/// Whether a program that uses OpenBLAS compiles, links and starts on this machine.
///
/// A pkg-config entry is no proof: the library's development link, or its runtime, may be gone.
pub fn found() -> bool {
    let program = env::temp_dir().join(format!("vitrine-openblas-probe-{}", process::id()));
    let starts = compiles(&program) && output_of(&mut Command::new(&program)).is_some();
    // Whether the file exists depends on how far the probe came.
    let _ = std::fs::remove_file(&program);
    starts
}

fn compiles(program: &Path) -> bool {
    // The same order as the build of `openblas-src`: pkg-config's flags, else the bare name.
    let flags = output_of(Command::new("pkg-config").args(["--libs", "openblas"]));
    let flags = flags.unwrap_or_else(|| "-lopenblas".to_owned());

    let compiler = Command::new("cc")
        .args(["-w", "-x", "c", "-", "-x", "none", "-o"])
        .arg(program)
        .args(flags.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut compiler) = compiler else { return false };
    // A compiler that does not read its input fails by itself, and its exit status says so.
    if let Some(mut input) = compiler.stdin.take() {
        let _ = input.write_all(PROBE.as_bytes());
    }
    compiler.wait().is_ok_and(|status| status.success())
}
