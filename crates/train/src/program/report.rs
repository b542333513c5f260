//! `vitrine report` and `vitrine runs`

use std::fs;

use anyhow::{Context, Result};
use vitrine_train::report::{self, REPORT};

use super::arguments::{ReportArguments, RunsArguments};
use super::print;

/// Prints a line for each run in a folder.
pub fn list(RunsArguments { folder }: RunsArguments) -> Result<()> {
    let failed = || format!("cannot read the folder {}", folder.display());
    let entries = fs::read_dir(&folder).with_context(failed)?;
    let entries = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut folders = entries.with_context(failed)?;
    folders.sort();
    print(&report::list(&folders)?)
}

/// Makes the page of one run anew, or one that compares several, and prints where it is.
pub fn run(arguments: ReportArguments) -> Result<()> {
    let path = match arguments.runs.as_slice() {
        [run] => {
            report::write(run)?;
            run.join(REPORT)
        }
        runs => {
            report::compare(runs, &arguments.out)?;
            arguments.out
        }
    };
    print(&format!("{}\n", path.display()))
}
