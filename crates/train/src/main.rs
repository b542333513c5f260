//! The `vitrine` program: reads its arguments, runs one command, prints one message where it fails.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}
