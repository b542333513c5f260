//! The emulator as its users see it: PTX in, memory and faults out.

mod device;
mod kernels;
mod memory_checks;
mod order_checks;
