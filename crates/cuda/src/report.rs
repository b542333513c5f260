//! What each kernel of a CUDA device does in a step, beside the least time that its bytes and operations allow.

use std::fmt;

use serde::Serialize;
use vitrine_tensor::Result;
use vitrine_tensor::backend::Storage;

use crate::backend::CudaBackend;
use crate::limits::Limits;
use crate::profile::{KernelFigures, Work};

/// Figures of all kernels in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelReport {
    /// The device that the work was done or counted on.
    pub device: String,
    /// Whether the kernels were run; if not they were counted only, and there are no times.
    pub timed: bool,
    /// Figures by kernel.
    pub kernels: Vec<KernelRow>,
}

/// The figures of a kernel in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelRow {
    /// Its name.
    pub kernel: String,
    /// Launches.
    pub launches: f64,
    /// Bytes of the tensors that it reads and writes, each once.
    pub bytes: f64,
    /// Floating-point operations of its formula.
    pub operations: f64,
    /// The least time for them on an H100, in microseconds.
    pub h100_floor_us: f64,
    /// The least time for them on the device, in microseconds.
    pub floor_us: Option<f64>,
    /// The time that it took, in microseconds.
    pub time_us: Option<f64>,
}

impl CudaBackend {
    /// What each kernel did since [`CudaBackend::start_profile`], on average over `steps` steps, with times if the
    /// kernels were `timed`. Waits for the device.
    pub fn kernel_report(&self, steps: usize, timed: bool) -> Result<KernelReport> {
        let (figures, here) = (self.finish_profile()?, self.limits()?);
        let each = |total: f64| total / steps.max(1) as f64;
        let row = |figures: KernelFigures| {
            let Work { bytes, operations } = figures.work;
            let bf16 = figures.kernel.contains("bf16");
            let floor = |limits: Limits| each(1e6 * limits.floor(bytes, operations, bf16));
            KernelRow {
                h100_floor_us: floor(Limits::H100),
                floor_us: timed.then(|| floor(here)),
                time_us: timed.then(|| each(1e3 * figures.milliseconds)),
                launches: each(figures.launches as f64),
                bytes: each(bytes as f64),
                operations: each(operations as f64),
                kernel: figures.kernel,
            }
        };
        let kernels = figures.into_iter().map(row).collect();
        Ok(KernelReport { device: self.name(), timed, kernels })
    }
}

/// A table in Markdown, the kernels with the largest floor first.
impl fmt::Display for KernelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| kernel | launches | MB | GFLOP | floor on an H100, µs |")?;
        writeln!(
            f,
            "{}",
            if self.timed { " floor here, µs | time, µs | of the limit |" } else { "" }
        )?;
        writeln!(f, "|---|---|---|---|---|{}", if self.timed { "---|---|---|" } else { "" })?;
        let mut rows: Vec<&KernelRow> = self.kernels.iter().collect();
        rows.sort_by(|a, b| b.h100_floor_us.total_cmp(&a.h100_floor_us));
        for row in &rows {
            let KernelRow { kernel, launches, bytes, operations, h100_floor_us, .. } = row;
            let (megabytes, billions) = (bytes / 1e6, operations / 1e9);
            write!(
                f,
                "| `{kernel}` | {launches} | {megabytes:.2} | {billions:.2} | {h100_floor_us:.1} |"
            )?;
            if let (Some(floor), Some(time)) = (row.floor_us, row.time_us) {
                write!(f, " {floor:.1} | {time:.1} | {:.0} % |", 100.0 * floor / time)?;
            }
            writeln!(f)?;
        }
        let sum = |of: fn(&KernelRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>();
        write!(
            f,
            "| all | {} | {:.2} | {:.2} | {:.1} |",
            sum(|row| row.launches),
            sum(|row| row.bytes) / 1e6,
            sum(|row| row.operations) / 1e9,
            sum(|row| row.h100_floor_us)
        )?;
        if self.timed {
            let floor = sum(|row| row.floor_us.unwrap_or(0.0));
            let time = sum(|row| row.time_us.unwrap_or(0.0));
            write!(f, " {floor:.1} | {time:.1} | {:.0} % |", 100.0 * floor / time)?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_largest_floor_first_and_the_sum_last() {
        let row = |kernel: &str, floor, time| KernelRow {
            kernel: kernel.into(),
            launches: 2.0,
            bytes: 3e6,
            operations: 4e9,
            h100_floor_us: floor,
            floor_us: time,
            time_us: time.map(|time| 2.0 * time),
        };
        let report = |timed, time| KernelReport {
            device: "cuda:0".into(),
            timed,
            kernels: vec![row("small", 1.0, time), row("large", 5.0, time)],
        };
        let text = report(false, None).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| `large` | 2 | 3.00 | 4.00 | 5.0 |");
        assert_eq!(lines[4], "| all | 4 | 6.00 | 8.00 | 6.0 |");
        let text = report(true, Some(10.0)).to_string();
        assert!(text.ends_with("| 6.0 | 20.0 | 40.0 | 50 % |\n"), "{text}");
    }
}
