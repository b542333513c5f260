//! How a kernel is launched, and what is checked as it runs.

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block in each direction.
    pub block: [u32; 3],
}

/// What one launch did, counted exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions, each counted once for each warp that ran it.
    pub warp_instructions: u64,
    /// Instructions, each counted once for each thread that ran it.
    pub thread_instructions: u64,
}

/// What is checked, and how execution is varied. Bounds, alignment, asynchronous copies, barriers
/// and deadlocks are always checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Reads of memory that nobody wrote.
    pub uninitialised: bool,
    /// Accesses of one block's threads to shared memory that nothing orders.
    pub shared_races: bool,
    /// Accesses of different blocks to global memory that nothing orders.
    pub global_races: bool,
    /// With a seed, results of `.approx` instructions are off by up to the bounds that the PTX ISA
    /// manual states (see [`crate::APPROXIMATIONS`]); without, they are the exact ones rounded.
    pub approximate: Option<u64>,
    /// With a seed, blocks, warps and diverged parts of a warp run in a pseudo-random order. Right
    /// programs give the same result for every seed.
    pub schedule: Option<u64>,
    /// The most instructions that the warps of a block may run, so that a program that waits for
    /// something forever ends.
    pub max_instructions: u64,
}

impl Default for Checks {
    /// All checks on, full precision, blocks and warps in order.
    fn default() -> Checks {
        Checks {
            uninitialised: true,
            shared_races: true,
            global_races: true,
            approximate: None,
            schedule: None,
            max_instructions: 1 << 30,
        }
    }
}

impl Checks {
    /// Only what cannot be switched off.
    pub fn none() -> Checks {
        Checks {
            uninitialised: false,
            shared_races: false,
            global_races: false,
            ..Checks::default()
        }
    }
}
