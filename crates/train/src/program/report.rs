//! `vitrine report`

use anyhow::Result;
use vitrine_train::report::{self, REPORT};

use super::arguments::ReportArguments;
use super::print;

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
