//! The place in docs/performance.md where the results belong, and what stands around the tables.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::figures::Results;
use super::plan::THREADS;
use super::table;
use crate::generated::Generated;
use crate::{files, process};

const PAGE: &str = "docs/performance.md";
/// Where the picture goes, from the root and from the page.
const PICTURE: &str = "docs/images/peers.svg";
const PICTURE_LINK: &str = "images/peers.svg";

/// The page with a place for the results.
pub struct Page {
    generated: Generated,
}

impl Page {
    /// Reads the page, so that a missing marker shows before the measurement, not after it.
    pub fn open() -> Result<Self> {
        Ok(Self { generated: Generated::open(PAGE, "peers")? })
    }

    /// Puts the results into the page and the picture beside it.
    pub fn write(self, results: &str, picture: &str) -> Result<()> {
        files::write_whole(&process::root().join(PICTURE), picture.as_bytes())?;
        self.generated.write(results)?;
        println!("wrote {PAGE} and {PICTURE}");
        Ok(())
    }
}

/// What goes between the markers.
pub fn text(results: &Results, rounds: u32, command: &str) -> String {
    let date =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |past| past.as_secs() / 86_400);
    format!(
        "{}, {}, {THREADS} threads, {}. Written by:\n\n\
         ```sh\n{command}\n```\n\n\
         Programs: {}.\n\n\
         ![Shortest time of a step in each framework]({PICTURE_LINK})\n\n\
         The minimum is the shortest step of all rounds, the median that of the rounds' medians, the peak the \
         process's highest, libraries included. \"To ours\" is a time divided by Vitrine's in the first line: over 1, \
         Vitrine is faster. Targets are about the minima.\n\n\
         {}",
        calendar_date(date as i64),
        machine(),
        if rounds == 1 { "one round".to_owned() } else { format!("{rounds} rounds in turn") },
        results.versions().join(", "),
        table::markdown(results),
    )
}

/// Processor, cores and memory in words.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    describe(cores, &cpu, &memory)
}

fn describe(cores: usize, cpuinfo: &str, meminfo: &str) -> String {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().map(str::trim) == Some(name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let name = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let number = field("model").map_or(String::new(), |number| format!(" (model {number})"));
    let flags = field("flags").unwrap_or_default();
    let flags: Vec<&str> = flags.split(' ').collect();
    let known = [("avx512_bf16", "AVX-512 with BF16"), ("avx512f", "AVX-512"), ("avx2", "AVX2")];
    let vectors = known.iter().find(|(flag, _)| flags.contains(flag));
    let vectors = vectors.map_or(String::new(), |(_, words)| format!(", {words}"));
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes =
        kibibytes.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    let memory =
        kibibytes.map_or(String::new(), |it| format!(", {:.0} GiB of memory", it / 1048576.0));
    format!("{cores} cores of {name}{number}{vectors}{memory}")
}

/// Year, month and day of a number of days after 1970-01-01, in the Gregorian calendar.
fn calendar_date(days: i64) -> String {
    // Counted from 1 March of the year 0, so that the leap day is the last of a year; 146,097 days are 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::super::figures::sample;
    use super::super::plan::Contender;
    use super::*;

    #[test]
    fn the_page_has_a_place_for_the_results() {
        Page::open().unwrap();
    }

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_780, "2026-11-23"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(calendar_date(days), date);
        }
    }

    #[test]
    fn the_machine_is_described_as_linux_tells_it() {
        let cpu = "processor\t: 0\nmodel\t\t: 207\nmodel name\t: Xeon\nflags\t\t: avx2 avx512f avx512_bf16\n";
        let memory = "MemTotal:       24690720 kB\n";
        let words = "2 cores of Xeon (model 207), AVX-512 with BF16, 24 GiB of memory";
        assert_eq!(describe(2, cpu, memory), words);
        assert_eq!(describe(8, "", ""), format!("8 cores of {}", std::env::consts::ARCH));
    }

    #[test]
    fn the_text_says_how_it_was_made() {
        let results = sample(&[(0, Contender::Vitrine, 300.0, 400.0)]);
        let text = text(&results, 5, "cargo xtask bench --peers");
        for part in [
            "5 rounds",
            "cargo xtask bench --peers\n",
            "Vitrine 1.0",
            PICTURE_LINK,
            "| Vitrine | 300 |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
