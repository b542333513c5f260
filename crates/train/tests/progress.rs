//! Progress as plain lines: what is shown, how often, and to a writer that fails.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vitrine_train::metrics::EpochMetrics;
use vitrine_train::progress::Progress;
use vitrine_train::sink::{Event, Sink, TRAIN_LOSS};

/// A writer whose text the test can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(String::from).collect()
    }
}

const METRICS: EpochMetrics = EpochMetrics {
    epoch: 2,
    step: 938,
    train_loss: 0.61234,
    train_accuracy: 0.77,
    val_loss: 0.55,
    val_accuracy: 0.80125,
    val_top5: None,
    averaged_val_loss: None,
    averaged_val_accuracy: None,
    averaged_val_top5: None,
    learning_rate: 0.1,
    images_per_second: 91.4,
    seconds: 731.0,
};

fn begin(progress: &mut Progress, epoch: u64, total_epochs: u64, batches: u64) {
    progress.take(Event::EpochBegins { epoch, total_epochs, batches, done: 0 }).unwrap();
}

#[test]
fn plain_shows_each_step_at_interval_zero_and_one_line_per_epoch() {
    let out = Shared::default();
    let mut progress = Progress::plain(Box::new(out.clone()), Duration::ZERO);
    begin(&mut progress, 2, 10, 3);
    progress.take(Event::Batch { images: 128 }).unwrap();
    progress.take(Event::Step { step: 1, figures: &[(TRAIN_LOSS, 2.25)] }).unwrap();
    progress.take(Event::Batch { images: 128 }).unwrap();
    progress.take(Event::Batch { images: 64 }).unwrap();
    progress.message("checkpoint written");
    progress.take(Event::EpochEnds(&METRICS)).unwrap();
    let lines = out.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("epoch 2/10  batch 1/3  loss —  "), "{}", lines[0]);
    assert!(lines[1].starts_with("epoch 2/10  batch 2/3  loss 2.250  "), "{}", lines[1]);
    assert!(lines[1].ends_with(" left"), "{}", lines[1]);
    assert_eq!(lines[2], "checkpoint written");
    assert_eq!(
        lines[3],
        "epoch 2/10  train loss 0.6123, accuracy 0.7700  validation loss 0.5500, \
         accuracy 0.8013  91 images/s  12 min 11 s"
    );
}

#[test]
fn plain_is_quiet_within_the_interval() {
    let out = Shared::default();
    let mut progress = Progress::plain(Box::new(out.clone()), Duration::from_secs(3600));
    begin(&mut progress, 1, 1, 1000);
    for _ in 0..1000 {
        progress.take(Event::Batch { images: 8 }).unwrap();
    }
    assert!(out.lines().is_empty());
    progress.take(Event::EpochEnds(&METRICS)).unwrap();
    assert_eq!(out.lines().len(), 1);
}

#[test]
fn a_writer_that_fails_does_not_stop_the_run() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let mut progress = Progress::plain(Box::new(Closed), Duration::ZERO);
    begin(&mut progress, 1, 1, 2);
    progress.take(Event::Batch { images: 1 }).unwrap();
    progress.take(Event::EpochEnds(&METRICS)).unwrap();
}
