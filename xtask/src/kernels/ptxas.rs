//! Reads what `ptxas -v` prints: the registers and the memory that each kernel takes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What one kernel takes on one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Usage {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread writes to and reads from memory as it has no register for them.
    pub spill_stores: u32,
    pub spill_loads: u32,
    /// Bytes of memory of a thread, spills included.
    pub stack: u32,
}

impl Usage {
    /// Bytes of spills in both directions.
    pub fn spills(&self) -> u32 {
        self.spill_stores + self.spill_loads
    }
}

/// A kernel's usage, and its static shared memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct KernelResources {
    pub shared: u32,
    #[serde(flatten)]
    pub usage: Usage,
}

/// The kernels in what `ptxas -v` prints, by name.
///
/// A kernel takes four lines, the third without the prefix, and the figures of functions that it
/// calls may follow:
///
/// ```text
/// ptxas info    : Compiling entry function 'k' for 'sm_80'
/// ptxas info    : Function properties for k
///     8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 10 registers, used 1 barriers, 1024 bytes smem, 360 bytes cmem[0]
/// ```
pub fn kernels(printed: &str) -> Result<BTreeMap<String, KernelResources>> {
    let mut kernels = BTreeMap::new();
    let mut lines = printed.lines().map(|line| line.trim_start_matches("ptxas info").trim());
    let mut current: Option<(&str, KernelResources)> = None;
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches(':').trim_start();
        if let Some(rest) = line.strip_prefix("Compiling entry function '") {
            let (name, _) = rest.split_once('\'').context("a kernel's name does not end")?;
            current = Some((name, KernelResources::default()));
        } else if let Some(function) = line.strip_prefix("Function properties for ") {
            let properties = lines.next().unwrap_or_default();
            if let Some((name, kernel)) = &mut current
                && *name == function
            {
                let usage = &mut kernel.usage;
                for (figure, words) in [
                    (&mut usage.stack, "bytes stack frame"),
                    (&mut usage.spill_stores, "bytes spill stores"),
                    (&mut usage.spill_loads, "bytes spill loads"),
                ] {
                    *figure = number(properties, words)
                        .with_context(|| format!("no `{words}` for {name}: `{properties}`"))?;
                }
            }
        } else if let Some(used) = line.strip_prefix("Used ") {
            let (name, mut kernel) = current.take().context("`Used` without a kernel")?;
            let registers = number(used, "registers");
            kernel.usage.registers =
                registers.with_context(|| format!("no registers for {name}: `{used}`"))?;
            // A kernel without shared memory is not said to have none.
            kernel.shared = number(used, "bytes smem").unwrap_or(0);
            kernels.insert(name.to_owned(), kernel);
        }
    }
    Ok(kernels)
}

/// The number before `words` in a list such as "10 registers, used 1 barriers".
fn number(list: &str, words: &str) -> Option<u32> {
    let mut items = list.split(',');
    items.find_map(|item| item.trim().strip_suffix(words)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ptxas 13.0.88 prints it for sm_80.
    const PLAIN: &str = "\
ptxas info    : 33 bytes gmem, 56 bytes cmem[4]
ptxas info    : Compiling entry function 'shr' for 'sm_80'
ptxas info    : Function properties for shr
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 1024 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 1.017 ms
ptxas info    : Compiling entry function 'nothing' for 'sm_80'
ptxas info    : Function properties for nothing
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 4 registers, used 0 barriers, 352 bytes cmem[0]
";

    /// The same for sm_90, with a warning, spills, and a function that is called.
    const SPILLS: &str = "\
ptxas warning : something to know
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'caller' for 'sm_90'
ptxas info    : Function properties for caller
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 0 barriers
ptxas info    : Compile time = 2.721 ms
ptxas info    : Function properties for _Z1ffi
    16 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads
ptxas info    : Compiling entry function 'spiller' for 'sm_90'
ptxas info    : Function properties for spiller
    1456 bytes stack frame, 2064 bytes spill stores, 2176 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers, 1456 bytes cumulative stack size
";

    #[test]
    fn figures_are_read() {
        let kernels = kernels(PLAIN).unwrap();
        assert_eq!(kernels.len(), 2);
        let usage = Usage { registers: 10, ..Usage::default() };
        assert_eq!(kernels["shr"], KernelResources { shared: 1024, usage });
        let usage = Usage { registers: 4, ..Usage::default() };
        assert_eq!(kernels["nothing"], KernelResources { shared: 0, usage });
    }

    #[test]
    fn spills_are_read_and_those_of_other_functions_are_not() {
        let kernels = kernels(SPILLS).unwrap();
        let usage = Usage { registers: 32, spill_stores: 2064, spill_loads: 2176, stack: 1456 };
        assert_eq!(kernels["spiller"].usage, usage);
        assert_eq!(usage.spills(), 4240);
        assert_eq!(kernels["caller"].usage, Usage { registers: 10, ..Usage::default() });
    }

    #[test]
    fn the_order_of_functions_does_not_matter() {
        let called = "ptxas info    : Function properties for called\n    \
                      8 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads\n";
        for start in ["ptxas info    : Function properties for shr", "ptxas info    : Used 10"] {
            let text = PLAIN.replacen(start, &format!("{called}{start}"), 1);
            assert_eq!(kernels(&text).unwrap(), kernels(PLAIN).unwrap(), "{text}");
        }
    }

    #[test]
    fn another_format_is_an_error_and_not_a_zero() {
        for (old, new) in [
            ("10 registers", "10 gprs"),
            ("0 bytes spill stores", "no spill stores"),
            ("Compiling entry function 'shr' for", "Compiling"),
        ] {
            assert!(kernels(&PLAIN.replacen(old, new, 1)).is_err(), "{new}");
        }
        assert!(kernels("").unwrap().is_empty());
    }
}
