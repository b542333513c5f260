//! Measures how many instructions of warps a second the emulator runs, with checks and without:
//! `cargo run --release -p vitrine-ptx-emulator --example speed`, with names of kernels or for all.

use std::time::{Duration, SystemTime};

use vitrine_ptx_emulator::{Checks, DeviceMemory, LaunchConfig, PtxProgram, launch};

/// Each launch is repeated for at least this long.
const LEAST: Duration = Duration::from_millis(400);

/// Time that this process has had a processor: other work on the machine must not count. Where the
/// system does not say it, the time of day.
fn processor_time() -> Duration {
    let schedule = std::fs::read_to_string("/proc/self/schedstat").ok();
    let first = schedule.and_then(|text| text.split(' ').next()?.parse().ok());
    first.map(Duration::from_nanos).unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    })
}

fn main() {
    let text = include_str!("../tests/fixtures/kernels.ptx");
    let program = PtxProgram::load(text).expect("the fixture loads");
    let mut memory = DeviceMemory::new(1 << 30);
    let mut buffer = |bytes: u64| {
        let address = memory.alloc(bytes).expect("room");
        memory.fill(address, &0x3f00_3f00u32.to_le_bytes(), bytes / 4).expect("in bounds");
        address.to_le_bytes()
    };
    let n = 1 << 20;
    let (x, y, z) = (buffer(4 * n), buffer(4 * n), buffer(4 * n));
    let int = |value: i32| value.to_le_bytes();
    // The name, the grid, the block, the parameters.
    type Case = (&'static str, [u32; 3], [u32; 3], Vec<u8>);
    let kernels: [Case; 5] = [
        (
            "axpy",
            [4096, 1, 1],
            [256, 1, 1],
            [&1f32.to_le_bytes()[..], &[0; 4], &x, &y, &int(n as i32)].concat(),
        ),
        (
            "philox",
            [1024, 1, 1],
            [256, 1, 1],
            [&x[..], &[1; 8], &[0; 8], &int(n as i32 / 4)].concat(),
        ),
        ("softmax", [512, 1, 1], [128, 1, 1], [&x[..], &y, &z, &int(2048), &int(512)].concat()),
        ("transpose", [32, 32, 1], [32, 8, 1], [&x[..], &y, &int(1024), &int(1024)].concat()),
        (
            "matmul_bf16",
            [16, 16, 1],
            [128, 1, 1],
            [&x[..], &y, &z, &int(512), &int(512), &int(512)].concat(),
        ),
    ];
    println!("{:12} {:>14} {:>16} {:>16}", "kernel", "instructions", "plain M/s", "checked M/s");
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, grid, block, parameters) in kernels {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let config = LaunchConfig { grid, block };
        let mut speeds = [0.0f64; 2];
        let mut instructions = 0;
        for (speed, checks) in speeds.iter_mut().zip([Checks::none(), Checks::default()]) {
            let start = processor_time();
            let mut total = 0;
            // The system counts this time in steps of some milliseconds.
            while processor_time() - start < LEAST {
                let stats = launch(&mut memory, &program, name, &config, &parameters, &checks)
                    .unwrap_or_else(|fault| panic!("{fault}"));
                instructions = stats.warp_instructions;
                total += instructions;
            }
            *speed = total as f64 / (processor_time() - start).as_secs_f64() / 1e6;
        }
        println!("{name:12} {instructions:>14} {:>16.1} {:>16.1}", speeds[0], speeds[1]);
    }
}
