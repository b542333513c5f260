//! One line about the machine that a run is on, for reports, and what Linux tells of memory.

use std::fs;

/// Processor, cores, memory and system, as far as the system tells, such as
/// `Intel(R) Xeon(R) CPU @ 2.80GHz · 2 cores · 7.8 GiB · linux x86_64`.
pub fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut parts = Vec::from_iter(processor(&read("/proc/cpuinfo")));
    if let Ok(cores) = std::thread::available_parallelism() {
        parts.push(if cores.get() == 1 { "1 core".into() } else { format!("{cores} cores") });
    }
    let memory = mebibytes(&read("/proc/meminfo"), "MemTotal:");
    parts.extend(memory.map(|mebibytes| format!("{:.1} GiB", mebibytes / 1024.0)));
    parts.push(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    parts.join(" · ")
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty() && name != "unknown").then_some(name)
}

/// A number in MiB from a text of Linux's with lines such as `MemTotal:  8150000 kB`.
pub(crate) fn mebibytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some  CPU @ 2.0GHz\nflags\t: fpu\n";
        assert_eq!(processor(cpuinfo).as_deref(), Some("Some CPU @ 2.0GHz"));
        let status = "VmPeak:\t  999999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  100 kB\n";
        assert_eq!(mebibytes(status, "VmHWM:"), Some(200.0));
        assert_eq!(mebibytes("MemTotal:        1048576 kB\n", "MemTotal:"), Some(1024.0));
    }

    #[test]
    fn other_text_gives_nothing() {
        assert_eq!(processor("model name"), None);
        assert_eq!(processor(""), None);
        assert_eq!(mebibytes("MemTotal: lots", "MemTotal:"), None);
        assert_eq!(mebibytes("VmRSS:\t 100 kB\n", "VmHWM:"), None);
        assert!(!describe().is_empty());
    }
}
