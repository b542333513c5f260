//! `steps.jsonl` in a run's folder: a line of figures for each optimizer step. Epochs are in `metrics`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::atomic::{AtomicWriteError, write_atomic};
use crate::error::Result;
use crate::sink::{Event, Sink};

/// Appends lines to the file whenever a checkpoint is written, so that the file ends where a resumed run goes on.
#[derive(Debug)]
pub struct StepLog {
    path: PathBuf,
    /// Lines since the last checkpoint.
    waiting: String,
}

impl StepLog {
    /// Goes on after so many steps, 0 for a new run: what a killed run wrote past them is dropped, its last line
    /// perhaps torn.
    pub fn resume(path: PathBuf, steps: u64) -> Result<Self> {
        let failed = |source| AtomicWriteError::Failed {
            path: path.clone(),
            step: "reading what is there",
            source,
        };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(failed)?,
        };
        let kept: usize = text.split_inclusive('\n').map_while(|line| kept(line, steps)).sum();
        if kept < text.len() || text.is_empty() {
            write_atomic(&path, &text.as_bytes()[..kept])?;
        }
        Ok(Self { path, waiting: String::new() })
    }

    /// Adds the lines that wait to the file, which is synced.
    fn write_waiting(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(self.waiting.as_bytes())?;
        file.sync_all()
    }
}

/// The length of a whole line that is of one of the first `steps` steps.
fn kept(line: &str, steps: u64) -> Option<usize> {
    let figures: Value = serde_json::from_str(line.strip_suffix('\n')?).ok()?;
    (figures.get("step")?.as_u64()? <= steps).then_some(line.len())
}

impl Sink for StepLog {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Step { step, figures } => {
                let figures = figures.iter().map(|&(name, value)| (name.to_owned(), value.into()));
                let line: Map<String, Value> =
                    [("step".to_owned(), step.into())].into_iter().chain(figures).collect();
                self.waiting += &format!("{}\n", Value::Object(line));
            }
            Event::Checkpoint if !self.waiting.is_empty() => {
                self.write_waiting().map_err(|source| AtomicWriteError::Failed {
                    path: self.path.clone(),
                    step: "adding to it",
                    source,
                })?;
                self.waiting.clear();
            }
            _ => {}
        }
        Ok(())
    }
}
