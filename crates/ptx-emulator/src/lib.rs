//! Runs PTX on the CPU and checks it as it runs, like compute-sanitizer does. For tests: CUDA kernels
//! run where there is no GPU, and their bugs have names.
//!
//! ```
//! use vitrine_ptx_emulator::{Checks, FaultKind, LaunchConfig, DeviceMemory, PtxProgram, launch};
//!
//! // Each thread adds one to its element.
//! let program = PtxProgram::load(
//!     ".version 9.0
//!      .target sm_80
//!      .address_size 64
//!      .visible .entry increment(.param .u64 data)
//!      {
//!          .reg .b32 %r<3>;
//!          .reg .b64 %rd<4>;
//!          ld.param.u64 %rd1, [data];
//!          mov.u32 %r1, %tid.x;
//!          mul.wide.u32 %rd2, %r1, 4;
//!          add.s64 %rd3, %rd1, %rd2;
//!          ld.global.u32 %r2, [%rd3];
//!          add.s32 %r2, %r2, 1;
//!          st.global.u32 [%rd3], %r2;
//!          ret;
//!      }",
//! )?;
//! let mut memory = DeviceMemory::new(1 << 20);
//! let data = memory.alloc(64 * 4)?;
//! memory.fill(data, &7u32.to_le_bytes(), 64)?;
//! let config = LaunchConfig { grid: [1, 1, 1], block: [64, 1, 1] };
//! let parameters = data.to_le_bytes();
//! let checks = Checks::default();
//! let stats = launch(&mut memory, &program, "increment", &config, &parameters, &checks)?;
//! let mut first = [0; 4];
//! memory.read(data, &mut first)?;
//! assert_eq!(u32::from_le_bytes(first), 8);
//! assert_eq!(stats.warp_instructions, 2 * 8);
//!
//! // With one thread more, the last element is behind the buffer.
//! let config = LaunchConfig { block: [65, 1, 1], ..config };
//! let fault =
//!     launch(&mut memory, &program, "increment", &config, &parameters, &checks).unwrap_err();
//! assert!(matches!(fault.kind(), FaultKind::OutOfBounds { bytes: 4, .. }));
//! assert_eq!(fault.site().unwrap().thread, [64, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it takes
//!
//! PTX as nvcc 13.0 emits it for compute capability 8.0 (`-O3 -arch=compute_80 -ptx -lineinfo`), and
//! of that what the kernels of this repository use: arithmetic, branches, loads and stores of global
//! and shared memory and of parameters, `bar.sync 0`, `bar.warp.sync`, `shfl.sync.bfly`, `cp.async.cg`,
//! `ldmatrix` and `mma.sync`. Not among them are atomics and fences, votes, barriers of some warps,
//! local memory, generic addresses, variables in global and constant memory, shared memory whose size
//! the launch gives, calls of functions that were not inlined, and debug code (`-G`). An instruction, a
//! modifier or a directive that is not known is a [`LoadError`]: nothing is guessed. The lists of what
//! is known are the tables in `src/lanes` and the `match` of each file in `src/decode`.
//!
//! # What is checked
//!
//! Always: accesses out of bounds (of an allocation in global memory, of the size of shared and
//! parameter memory) and use of freed memory; alignment; reads and writes of shared memory that a
//! `cp.async` has not been waited for; barriers that threads of a warp or a block reach at different
//! instructions; deadlocks; member masks without the lane itself; a limit of instructions. With
//! [`Checks`] also:
//!
//! - reads of global or shared memory that nobody wrote, byte by byte, and shuffles from lanes that do
//!   not take part;
//! - races in shared memory. Two accesses by different threads of a block, of which one writes, must
//!   be ordered: by the barrier of the block or, within a warp, by `bar.warp.sync` or `shfl` that both
//!   lanes ran. This holds also through third lanes. Lanes of one warp are not ordered by running the
//!   same instructions; but a row that `ldmatrix` read may be overwritten by the same warp;
//! - races in global memory between the blocks of a launch, which make its result depend on their
//!   order.
//!
//! Two writes of the same value are no race.
//!
//! A [`Fault`] names the kernel, the block and the thread (of a race both), the lines in PTX and
//! CUDA, the instruction, the address and the nearest allocation. Running with a few seeds in
//! [`Checks::schedule`] finds what depends on the order of blocks, warps and diverged lanes.
//!
//! # What is modelled, and what is not
//!
//! - Arithmetic is exact to the bit where PTX defines it; NaN results have the bits that devices
//!   give. Integer division by zero gives all ones.
//! - `.approx` instructions give the exact result rounded once. With [`Checks::approximate`] they are
//!   off by up to the bounds that the PTX ISA manual states ([`APPROXIMATIONS`]), pseudo-randomly:
//!   tolerances of tests should hold under a few seeds.
//! - `mma.sync` multiplies exactly and adds in `f32`, in the order of `k`, with one rounding to
//!   nearest each. Tensor cores add several products at once and round otherwise: results agree up
//!   to rounding errors only. A permutation of `k` that both factors share goes unseen.
//! - Lanes of a warp diverge and meet again as on devices from compute capability 7.0 on. A lane that
//!   waits in a loop for what another one writes never ends (see [`Checks::max_instructions`]).
//! - Memory has no caches and no order of its own: an access takes effect at once, in every thread's
//!   view.
//! - Blocks run one after another.
//! - Not checked: registers that are read before they are written, and races in global memory
//!   between threads of one block.
//! - Time is not modelled at all: speed here says nothing.
//!
//! # How it is built
//!
//! `syntax` parses, `decode` makes instructions whose operands are slots of registers, `lanes` has the
//! arithmetic (loops over the 32 lanes of a warp, compiled for AVX2 and AVX-512 too and chosen at run
//! time), `exec` runs blocks and warps and holds the checks, `memory` is the device's memory. The
//! example `speed` measures.

// Loops over the lanes of a warp index several arrays at once, and vectorise as they are written.
#![allow(clippy::needless_range_loop)]

mod decode;
mod error;
mod exec;
mod fault;
mod instruction;
mod lanes;
mod launch;
mod memory;
mod program;
mod registers;
mod shadow;
mod syntax;
mod types;

pub use error::{LoadError, OutOfMemory};
pub use exec::launch;
pub use fault::{Access, Conflict, Fault, FaultKind, FaultSite};
pub use lanes::{APPROXIMATIONS, Approximation};
pub use launch::{Checks, LaunchConfig, Stats};
pub use memory::{AccessError, DeviceMemory, Nearest};
pub use program::{PtxKernel, PtxProgram};
pub use syntax::KernelParameter;
pub use types::Space;
