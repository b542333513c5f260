//! What the peers written in Rust share: sizes of the models, arguments, the clock, and the line of JSON.
//!
//! The keys are those of `vitrine bench --json`. Nothing here belongs to Vitrine's workspace, and the few lines of
//! parsing stand in for a library, so that a peer builds nothing but its framework.

use std::process::exit;
use std::time::Instant;

/// The exit code of a peer that cannot do what it was asked for.
const NOT_AVAILABLE: i32 = 3;
/// The exit code of a command line that makes no sense.
const USAGE: i32 = 2;

pub const LEARNING_RATE: f64 = 0.1;

/// A Vision Transformer with a class token, and the number of parameters that it must have.
pub struct Sizes {
    pub image: usize,
    pub patch: usize,
    pub channels: usize,
    pub width: usize,
    pub mlp_width: usize,
    pub heads: usize,
    pub blocks: usize,
    pub classes: usize,
    pub dropout: f64,
    pub attention_bias: bool,
    pub parameters: usize,
}

const D2L: Sizes = Sizes {
    image: 96,
    patch: 16,
    channels: 1,
    width: 512,
    mlp_width: 2048,
    heads: 8,
    blocks: 2,
    classes: 10,
    dropout: 0.1,
    attention_bias: false,
    parameters: 6_457_866,
};

const VIT_S16: Sizes = Sizes {
    image: 224,
    patch: 16,
    channels: 3,
    width: 384,
    mlp_width: 1536,
    heads: 6,
    blocks: 12,
    classes: 1000,
    dropout: 0.0,
    attention_bias: true,
    parameters: 22_050_664,
};

impl Sizes {
    /// Patches along one side.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }

    pub fn patches(&self) -> usize {
        self.side() * self.side()
    }

    /// Tensors among the parameters, with queries, keys and values in one: each must have a gradient.
    pub fn tensors(&self) -> usize {
        let attention = if self.attention_bias { 4 } else { 2 };
        let (patch, tokens, norm, linear) = (2, 2, 2, 2);
        patch + tokens + self.blocks * (attention + 2 * norm + 2 * linear) + norm + linear
    }

    /// Numbers in a patch.
    pub fn patch_length(&self) -> usize {
        self.channels * self.patch * self.patch
    }
}

/// What the command line asks for.
pub struct Given {
    pub sizes: Sizes,
    pub threads: usize,
    pub steps: usize,
    pub warmup: usize,
    pub batch_size: usize,
    pub bf16: bool,
    pub forward: bool,
}

impl Given {
    /// Reads the command line; a mistake ends the program with a message.
    pub fn from_command_line() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut given = Self {
            sizes: D2L,
            threads: cores,
            steps: 20,
            warmup: 2,
            batch_size: 128,
            bf16: false,
            forward: false,
        };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            if flag == "--forward" {
                given.forward = true;
                continue;
            }
            let Some(value) = words.next() else { refuse(&flag, "") };
            match (flag.as_str(), value.as_str()) {
                ("--model", "d2l") => given.sizes = D2L,
                ("--model", "vit_s16") => given.sizes = VIT_S16,
                ("--precision", "f32") => given.bf16 = false,
                ("--precision", "bf16") => given.bf16 = true,
                ("--threads", number) => given.threads = positive(&flag, number),
                ("--steps", number) => given.steps = positive(&flag, number),
                ("--warmup", number) => given.warmup = positive(&flag, number),
                ("--batch-size", number) => given.batch_size = positive(&flag, number),
                _ => refuse(&flag, &value),
            }
        }
        given
    }

    /// Times `step`, which must end only when its work is done, and prints the line.
    pub fn report(&self, program: &str, mut step: impl FnMut()) {
        for _ in 0..self.warmup {
            step();
        }
        let mut times: Vec<f64> = (0..self.steps)
            .map(|_| {
                let start = Instant::now();
                step();
                1000.0 * start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        let median = match times.len() % 2 {
            0 => (times[middle - 1] + times[middle]) / 2.0,
            _ => times[middle],
        };
        let what = if self.forward { "forward" } else { "train-step" };
        let precision = if self.bf16 { "bf16" } else { "f32" };
        let Self { threads, batch_size, steps, .. } = self;
        let per_second = 1000.0 * *batch_size as f64 / median;
        let peak = peak_rss_mb().map_or("null".into(), |mebibytes| format!("{mebibytes:.1}"));
        println!(
            "{{\"program\": \"{program}\", \"what\": \"{what}\", \"precision\": \"{precision}\", \
             \"threads\": {threads}, \"batch_size\": {batch_size}, \"steps\": {steps}, \
             \"median_ms\": {median:.3}, \"min_ms\": {:.3}, \"images_per_second\": {per_second:.1}, \
             \"peak_rss_mb\": {peak}}}",
            times[0],
        );
    }
}

/// Ends the program because this peer cannot do what it was asked for.
pub fn not_available(why: &str) -> ! {
    eprintln!("{why}");
    exit(NOT_AVAILABLE)
}

fn positive(flag: &str, number: &str) -> usize {
    match number.parse() {
        Ok(value) if value > 0 => value,
        _ => refuse(flag, number),
    }
}

fn refuse(flag: &str, value: &str) -> ! {
    eprintln!(
        "cannot read `{flag} {value}`; the arguments are --model d2l|vit_s16, --threads N, --steps N, --warmup N, \
         --batch-size N, --precision f32|bf16, --forward"
    );
    exit(USAGE)
}

/// The most memory that this process has had, in MiB, where the system tells.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}
