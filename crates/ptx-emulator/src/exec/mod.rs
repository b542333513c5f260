//! Runs kernels: the launch, its blocks one after another, and the warps of a block in turns.

mod access;
mod barrier;
mod copy;
mod exchange;
mod global_races;
mod interpreter;
mod lane_access;
mod matrix;
mod shared;
mod shared_races;
mod span;
mod warp;

use crate::fault::{Fault, FaultKind, FaultSite};
use crate::lanes::{Simd, scramble};
use crate::launch::{Checks, LaunchConfig, Stats};
use crate::memory::DeviceMemory;
use crate::program::{PtxKernel, PtxProgram, Special};
use crate::registers::LANES;
use crate::types::Kind;

use global_races::GlobalRaces;
use interpreter::TurnEnd;
use shared::SharedMemory;
use shared_races::SharedRaces;
use warp::Warp;

/// The most threads in a block.
const MAX_THREADS: u32 = 1024;
/// The most bytes of shared memory for a block on any device: that of compute capability 9.0.
const MAX_SHARED: u32 = 227 << 10;
/// Instructions that a warp runs before others of its block get their turn.
const SLICE: u64 = 1 << 16;

/// Runs a kernel to its end.
///
/// # Errors
///
/// The first fault. What the kernel did until then stays in memory.
pub fn launch(
    memory: &mut DeviceMemory,
    program: &PtxProgram,
    kernel: &str,
    config: &LaunchConfig,
    params: &[u8],
    checks: &Checks,
) -> Result<Stats, Fault> {
    let Some(found) = program.kernel(kernel) else {
        return Err(Fault::launch(kernel, "the program has no kernel of this name"));
    };
    validate(found, config, params).map_err(|what| Fault::launch(kernel, what))?;
    let mut machine = RunningLaunch::new(memory, program, found, config, params, checks);
    let mut warps = machine.warps();
    let [x, y, _] = config.grid;
    let blocks: u64 = config.grid.iter().map(|&count| u64::from(count)).product();
    let order = Order::new(blocks, checks.schedule);
    for turn in 0..blocks {
        let number = order.at(turn) as u32;
        machine.block = [number % x, number / x % y, number / x / y];
        machine.block_number = number;
        machine.run_block(&mut warps)?;
    }
    let stats = machine.stats;
    if let Some(races) = machine.global_races {
        machine.memory.pages = races.into_pages();
    }
    Ok(stats)
}

fn validate(kernel: &PtxKernel, config: &LaunchConfig, params: &[u8]) -> Result<(), String> {
    let LaunchConfig { grid, block } = *config;
    let limits = [(1 << 31) - 1, 65535, 65535];
    if grid.iter().zip(limits).any(|(&count, limit)| count == 0 || count > limit) {
        return Err(format!("a grid of {grid:?} blocks is not possible"));
    }
    if grid.iter().map(|&count| u64::from(count)).product::<u64>() >= (1 << 31) - 1 {
        return Err(format!("a grid of {grid:?} blocks is more than is emulated"));
    }
    let threads = block.iter().map(|&count| u64::from(count)).product::<u64>();
    if threads == 0 || threads > u64::from(MAX_THREADS) || block[2] > 64 {
        return Err(format!("a block of {block:?} threads is not possible"));
    }
    if let Some(most) = kernel.max_threads
        && threads > u64::from(most)
    {
        return Err(format!("a block of {threads} threads, where the kernel takes {most}"));
    }
    let shared = kernel.shared_bytes;
    if shared > MAX_SHARED {
        return Err(format!("{shared} bytes of shared memory, where a block has {MAX_SHARED}"));
    }
    let wanted = kernel.param_bytes() as usize;
    if params.len() != wanted {
        let given = params.len();
        return Err(format!("{given} bytes of parameters, where the kernel takes {wanted}"));
    }
    Ok(())
}

/// The order of blocks or warps: theirs, or a permutation that depends on a seed.
struct Order {
    count: u64,
    /// Factor and summand of a permutation of the numbers below `count`.
    step: u64,
    offset: u64,
}

impl Order {
    fn new(count: u64, seed: Option<u64>) -> Order {
        let Some(seed) = seed else { return Order { count, step: 1, offset: 0 } };
        let draw = scramble(seed);
        let mut step = draw % count.max(1);
        while gcd(step, count) != 1 {
            step += 1;
        }
        Order { count, step, offset: scramble(draw) % count.max(1) }
    }

    fn at(&self, turn: u64) -> u64 {
        // Both factors are below 2³², as there are fewer blocks.
        (turn * self.step + self.offset) % self.count
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One launch as it runs: everything but the warps.
struct RunningLaunch<'a> {
    memory: &'a mut DeviceMemory,
    program: &'a PtxProgram,
    kernel: &'a PtxKernel,
    config: &'a LaunchConfig,
    parameters: &'a [u8],
    checks: &'a Checks,
    block: [u32; 3],
    block_number: u32,
    shared: SharedMemory,
    shared_races: Option<SharedRaces>,
    global_races: Option<GlobalRaces>,
    stats: Stats,
    /// Instructions that the block ran.
    steps: u64,
    /// State of the pseudo-random schedule.
    draw: u64,
    /// The allocation that was used last.
    recent: usize,
    simd: Simd,
}

impl<'a> RunningLaunch<'a> {
    fn new(
        memory: &'a mut DeviceMemory,
        program: &'a PtxProgram,
        kernel: &'a PtxKernel,
        config: &'a LaunchConfig,
        parameters: &'a [u8],
        checks: &'a Checks,
    ) -> RunningLaunch<'a> {
        let bytes = kernel.shared_bytes as usize;
        let shared_races = checks.shared_races && bytes > 0;
        let shared_races = shared_races.then(|| SharedRaces::new(bytes, kernel.shared_grain));
        let global_races = (checks.global_races && config.grid != [1, 1, 1]).then(|| {
            let pages = std::mem::take(&mut memory.pages);
            GlobalRaces::new(memory.allocations(), kernel.global_grain, pages)
        });
        RunningLaunch {
            program,
            kernel,
            config,
            parameters,
            checks,
            block: [0; 3],
            block_number: 0,
            shared: SharedMemory::new(bytes),
            shared_races,
            global_races,
            stats: Stats::default(),
            steps: 0,
            draw: checks.schedule.unwrap_or(0),
            recent: 0,
            simd: program.simd,
            memory,
        }
    }

    fn threads(&self) -> u32 {
        self.config.block.iter().product()
    }

    /// The warps of a block, with all registers that never change.
    fn warps(&self) -> Vec<Warp> {
        let count = self.threads().div_ceil(LANES as u32);
        let warps = (0..count).map(|index| {
            let mut warp = Warp::new(index, self.kernel, self.checks.approximate);
            warp.registers.fill(Kind::Predicate, 0, 1);
            for &(bits, kind, slot) in &self.kernel.constants {
                warp.registers.fill(kind, slot, bits);
            }
            for &(special, slot) in &self.kernel.specials {
                for lane in 0..LANES {
                    let value = self.special(special, index, lane as u32);
                    warp.registers.set_lane(Kind::B32, slot, lane, u64::from(value));
                }
            }
            warp
        });
        warps.collect()
    }

    /// The value of a special register; that of the block's index is set for each block.
    fn special(&self, special: Special, warp: u32, lane: u32) -> u32 {
        let config = self.config;
        match special {
            Special::Thread(axis) => {
                self.thread_index(warp * LANES as u32 + lane)[usize::from(axis)]
            }
            Special::Threads(axis) => config.block[usize::from(axis)],
            Special::Block(axis) => self.block[usize::from(axis)],
            Special::Blocks(axis) => config.grid[usize::from(axis)],
        }
    }

    /// The index of a thread from its number in the block.
    fn thread_index(&self, thread: u32) -> [u32; 3] {
        let [x, y, _] = self.config.block;
        [thread % x, thread / x % y, thread / x / y]
    }

    fn run_block(&mut self, warps: &mut [Warp]) -> Result<(), Fault> {
        self.shared.reset(self.checks.uninitialised);
        if let Some(races) = &mut self.shared_races {
            races.new_block();
        }
        if let Some(races) = &mut self.global_races {
            races.new_block(self.block_number);
        }
        self.steps = 0;
        let threads = self.threads();
        for warp in warps.iter_mut() {
            warp.reset(threads);
            for &(special, slot) in &self.kernel.specials {
                if let Special::Block(axis) = special {
                    let value = u64::from(self.block[usize::from(axis)]);
                    warp.registers.fill(Kind::B32, slot, value);
                }
            }
        }
        loop {
            let mut ran = false;
            self.draw = scramble(self.draw);
            let order = Order::new(warps.len() as u64, self.checks.schedule.map(|_| self.draw));
            for turn in 0..warps.len() as u64 {
                let index = order.at(turn) as usize;
                if !warps[index].is_runnable() {
                    continue;
                }
                ran = true;
                if self.run_warp(&mut warps[index])? == TurnEnd::Stopped {
                    self.complete_barrier(warps)?;
                }
            }
            if warps.iter().all(Warp::is_finished) {
                return Ok(());
            }
            assert!(ran, "warps that cannot go on wait at the barrier, which was complete then");
        }
    }

    /// How many instructions a warp may run in its turn.
    fn slice(&mut self) -> u64 {
        if self.checks.schedule.is_none() {
            return SLICE;
        }
        self.draw = scramble(self.draw);
        1 + self.draw % 256
    }

    /// A fault of one thread at an instruction.
    #[cold]
    fn fault(&self, warp: u32, pc: u32, lane: usize, kind: FaultKind) -> Fault {
        let site = &self.kernel.sites[pc as usize];
        let place =
            |(file, line)| (self.program.file(file).unwrap_or("an unknown file").to_owned(), line);
        let location = site.location.as_ref();
        let text = self.program.text.get(site.range.0..site.range.1).unwrap_or("");
        let site = FaultSite {
            block: self.block,
            thread: self.thread_index(warp * LANES as u32 + lane as u32),
            line: site.line,
            instruction: text.split_whitespace().collect::<Vec<_>>().join(" "),
            source: location.map(|location| place((location.file, location.line))),
            inlined_at: location.and_then(|location| location.inlined_at.map(place)),
        };
        Fault::new(&self.kernel.name, kind, Some(site))
    }

    /// The line of an instruction, in PTX and in CUDA.
    fn place_of(&self, pc: u32) -> (u32, Option<(String, u32)>) {
        let site = &self.kernel.sites[pc as usize];
        let source = site.location.map(|location| {
            let file = self.program.file(location.file).unwrap_or("an unknown file");
            (file.to_owned(), location.line)
        });
        (site.line, source)
    }
}
