//! What a person sees while a model trains: a bar on a terminal, plain lines anywhere else. It is told figures and
//! knows nothing of models or data.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Result;
use crate::metrics::EpochMetrics;
use crate::sink::{Event, Sink, TRAIN_LOSS};

/// Time between two plain lines within an epoch.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Shows how far a training run is, its loss, images a second and the time left.
///
/// A display that cannot be written to (a closed pipe, say) never stops a run: such errors are passed over.
pub struct Progress {
    /// Hidden where lines take its place. It clears itself when it is dropped.
    bar: ProgressBar,
    out: Box<dyn Write + Send>,
    interval: Duration,
    last_line: Instant,
    state: State,
}

/// What has been told so far about the epoch under way.
#[derive(Default)]
struct State {
    epoch: u64,
    total_epochs: u64,
    batches: u64,
    /// Batches done by an earlier part of the run; they do not count for speed.
    done: u64,
    trained: u64,
    images: u64,
    loss: Option<f64>,
    started: Option<Instant>,
}

impl Progress {
    /// A bar on standard error if that is a terminal, plain lines on standard error otherwise.
    pub fn stderr() -> Self {
        let terminal = ProgressDrawTarget::stderr();
        Self::new(terminal, Box::new(std::io::stderr()), PLAIN_INTERVAL)
    }

    /// Plain lines to any writer: one for each epoch, and within an epoch at most one per interval.
    pub fn plain(out: Box<dyn Write + Send>, interval: Duration) -> Self {
        Self::new(ProgressDrawTarget::hidden(), out, interval)
    }

    fn new(target: ProgressDrawTarget, out: Box<dyn Write + Send>, interval: Duration) -> Self {
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {msg}")
            .map(|style| style.progress_chars("━╸─"))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Self { bar, out, interval, last_line: Instant::now(), state: State::default() }
    }

    fn begin(&mut self) {
        let State { epoch, total_epochs, batches, done, .. } = self.state;
        self.last_line = Instant::now();
        if !self.bar.is_hidden() {
            self.bar.reset();
            self.bar.set_length(batches);
            self.bar.set_position(done);
            self.bar.set_message("");
            self.bar.set_prefix(format!("epoch {epoch}/{total_epochs}"));
            self.bar.enable_steady_tick(Duration::from_millis(250));
        }
    }

    fn batch(&mut self) {
        let State { epoch, total_epochs, batches, done, trained, started, .. } = self.state;
        let position = done + trained;
        let seconds = started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let figures = self.state.figures(seconds);
        if !self.bar.is_hidden() {
            self.bar.set_position(position);
            self.bar.set_message(figures);
        } else if self.last_line.elapsed() >= self.interval && position < batches {
            self.last_line = Instant::now();
            let epoch = format!("epoch {epoch}/{total_epochs}");
            self.message(&format!("{epoch}  batch {position}/{batches}  {figures}"));
        }
    }

    /// Shows a line of text; a bar stays below it.
    pub fn message(&mut self, text: &str) {
        let Self { bar, out, .. } = self;
        let _ = bar.suspend(|| writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}

impl Sink for Progress {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        let state = &mut self.state;
        match event {
            Event::EpochBegins { epoch, total_epochs, batches, done } => {
                let started = Some(Instant::now());
                *state = State { epoch, total_epochs, batches, done, started, ..State::default() };
                self.begin();
            }
            Event::Step { figures, .. } => {
                let loss = figures.iter().find(|(name, _)| *name == TRAIN_LOSS);
                state.loss = loss.map(|(_, loss)| *loss).or(state.loss);
            }
            Event::Batch { images } => {
                state.trained += 1;
                state.images += images;
                self.batch();
            }
            Event::EpochEnds(metrics) => {
                let line = epoch_line(metrics, state.total_epochs);
                self.bar.finish_and_clear();
                self.message(&line);
            }
            Event::Message(text) => self.message(text),
            Event::Checkpoint | Event::Judged(_) | Event::Examples { .. } => {}
        }
        Ok(())
    }
}

impl State {
    fn figures(&self, seconds: f64) -> String {
        let loss = self.loss.map_or_else(|| "—".into(), |loss| format!("{loss:.3}"));
        let speed = if seconds > 0.0 { self.images as f64 / seconds } else { 0.0 };
        format!("loss {loss}  {} images/s  {} left", speed_text(speed), self.time_left(seconds))
    }

    /// Time to the end of the run at the epoch's mean speed.
    fn time_left(&self, seconds: f64) -> String {
        if self.trained == 0 {
            return "?".into();
        }
        let epochs_after = self.total_epochs.saturating_sub(self.epoch);
        let here = self.batches.saturating_sub(self.done + self.trained);
        let batches = here as f64 + epochs_after as f64 * self.batches as f64;
        duration_text(seconds / self.trained as f64 * batches)
    }
}

fn epoch_line(metrics: &EpochMetrics, total_epochs: u64) -> String {
    let EpochMetrics { epoch, train_loss, train_accuracy, val_loss, val_accuracy, .. } = metrics;
    let speed = speed_text(metrics.images_per_second);
    let time = duration_text(metrics.seconds);
    let averaged = metrics.averaged_val_accuracy;
    let averaged = averaged.map_or(String::new(), |a| format!(" (averaged weights {a:.4})"));
    format!(
        "epoch {epoch}/{total_epochs}  train loss {train_loss:.4}, accuracy {train_accuracy:.4}  \
         validation loss {val_loss:.4}, accuracy {val_accuracy:.4}{averaged}  {speed} images/s  {time}"
    )
}

pub(crate) fn speed_text(images_per_second: f64) -> String {
    if images_per_second < 10.0 {
        format!("{images_per_second:.1}")
    } else {
        format!("{images_per_second:.0}")
    }
}

/// A duration for people: `48 s`, `3 min 20 s`, `1 h 05 min`, `2 d 03 h`.
pub(crate) fn duration_text(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".into();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (minutes, hours) = (whole / 60, whole / 3600);
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{minutes} min {:02} s", whole % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{} d {:02} h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(epoch: u64, total_epochs: u64, batches: u64, done: u64) -> Progress {
        let mut progress = Progress::plain(Box::new(std::io::sink()), PLAIN_INTERVAL);
        progress.take(Event::EpochBegins { epoch, total_epochs, batches, done }).unwrap();
        progress
    }

    #[test]
    fn time_left_counts_the_rest_of_the_epoch_and_all_later_ones() {
        let mut progress = begun(8, 10, 100, 40);
        assert_eq!(progress.state.time_left(5.0), "?");
        for _ in 0..10 {
            progress.take(Event::Batch { images: 1 }).unwrap();
        }
        // 10 batches took 20 s: 50 are left here and 200 in the two epochs after.
        assert_eq!(progress.state.time_left(20.0), "8 min 20 s");
        assert_eq!(progress.state.figures(20.0), "loss —  0.5 images/s  8 min 20 s left");
    }

    #[test]
    fn steps_beyond_what_was_announced_do_no_harm() {
        let mut progress = begun(3, 2, 1, 0);
        progress.take(Event::Batch { images: 1 }).unwrap();
        progress.take(Event::Batch { images: 1 }).unwrap();
        assert_eq!(progress.state.time_left(1.0), "0.0 s");
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (48.2, "48 s"),
            (59.6, "1 min 00 s"),
            (200.0, "3 min 20 s"),
            (3900.0, "1 h 05 min"),
            (183_600.0, "2 d 03 h"),
            (f64::NAN, "?"),
            (f64::INFINITY, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(duration_text(seconds), text);
        }
    }
}
