//! The emulator as its users see it: PTX in, memory and faults out.

mod approximations;
mod device;
mod divergence;
mod floats;
mod ill_formed;
mod integers;
mod kernels;
mod memory_checks;
mod order_checks;
mod single;
mod warps;
