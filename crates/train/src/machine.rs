//! One line about the machine that a run is on, for reports.

use std::fs;

/// Processor, cores, memory and system, as far as the system tells, such as
/// `Intel(R) Xeon(R) CPU @ 2.80GHz · 2 cores · 7.8 GiB · linux x86_64`.
pub fn describe() -> String {
    let mut parts = Vec::new();
    parts.extend(fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor(&text)));
    if let Ok(cores) = std::thread::available_parallelism() {
        parts.push(if cores.get() == 1 { "1 core".into() } else { format!("{cores} cores") });
    }
    parts.extend(fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)));
    parts.push(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    parts.join(" · ")
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.split_whitespace().collect::<Vec<_>>().join(" ");
    (!name.is_empty() && name != "unknown").then_some(name)
}

fn memory(meminfo: &str) -> Option<String> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{:.1} GiB", kibibytes / (1024.0 * 1024.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some  CPU @ 2.0GHz\nflags\t: fpu\n";
        assert_eq!(processor(cpuinfo).as_deref(), Some("Some CPU @ 2.0GHz"));
        assert_eq!(memory("MemTotal:        8150000 kB\n").as_deref(), Some("7.8 GiB"));
    }

    #[test]
    fn other_text_gives_nothing() {
        assert_eq!(processor("model name"), None);
        assert_eq!(processor(""), None);
        assert_eq!(memory("MemTotal: lots"), None);
        assert!(!describe().is_empty());
    }
}
