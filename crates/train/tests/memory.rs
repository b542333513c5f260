//! A long run does not grow. On its own, for other tests in the same process would be measured too.

mod support;

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{small, small_images};
use vitrine_train::progress::Progress;

/// The process's memory in kB; `None` where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Measures the memory each time the run shows a line: once an epoch.
struct Measure(Arc<Mutex<Vec<u64>>>);

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.contains(&b'\n') {
            self.0.lock().unwrap().extend(resident());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn memory_does_not_grow_from_epoch_to_epoch() {
    if resident().is_none() {
        // Not with eprintln: the test harness swallows what a passing test prints.
        let _ = writeln!(io::stderr(), "LEFT OUT: memory over a run (no /proc/self/status here).");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = [
        "model.width=64",
        "model.depth=2",
        "model.mlp_width=128",
        "optimizer.kind=adamw",
        "optimizer.learning_rate=0.001",
        "run.checkpoint_every=10",
        "run.epochs=4",
    ];
    // 100 steps an epoch and a part of a batch: what a step leaked would show a hundred times.
    let mut trainer =
        support::create(small(&keys), folder.path(), &small_images(804, 100)).unwrap();
    let measured = Arc::new(Mutex::new(Vec::new()));
    let mut progress =
        Progress::plain(Box::new(Measure(measured.clone())), Duration::from_secs(3600));
    trainer.run(&mut progress, &AtomicBool::new(false)).unwrap();
    let measured = measured.lock().unwrap().clone();
    assert_eq!(measured.len(), 4);
    assert!(measured[2] <= measured[0] + 3_000, "kB after each epoch: {measured:?}");
}
