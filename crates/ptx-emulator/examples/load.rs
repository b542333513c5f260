//! Loads PTX files and says what their kernels need.

fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        match vitrine_ptx_emulator::Program::load(&text) {
            Ok(program) => {
                for kernel in program.kernels() {
                    let (shared, local) = (kernel.shared_bytes(), kernel.local_bytes());
                    println!("{}: shared {shared}, local {local}", kernel.name());
                }
            }
            Err(error) => println!("{path}: {error}"),
        }
    }
}
