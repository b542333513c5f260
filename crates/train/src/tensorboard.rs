//! [`EventFile`]: the figures of a run for TensorBoard, in `tensorboard/` in the run's folder. Records are added at
//! each checkpoint, so that the file ends where a resumed run goes on.
//!
//! A record is its length, an `Event` (tensorflow/core/util/event.proto), and masked CRC-32C sums of both
//! (tensorflow/core/lib/io/record_writer.h).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::atomic::{append, write_atomic, write_failed};
use crate::checkpoint::Position;
use crate::error::Result;
use crate::protobuf::Message;
use crate::sink::{Event, Sink};

/// The folder in that of a run.
const TENSORBOARD: &str = "tensorboard";
/// The first figure of an epoch.
const EVAL_LOSS: &str = "eval/loss";
/// TensorBoard takes files whose names have `tfevents` in them.
const NAME: &str = "events.out.tfevents.vitrine";
/// Before a record's message: its length and the sum of that; after it: the message's sum.
const HEAD: usize = 12;
const TAIL: usize = 4;

/// A file of events, and the records that wait for the next checkpoint.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    waiting: Vec<u8>,
}

impl EventFile {
    /// Goes on from a position, or begins with the recipe: records past it are dropped, and what a kill left torn.
    pub(crate) fn resume(run: &Path, position: &Position, recipe: &str) -> Result<Self> {
        let folder = run.join(TENSORBOARD);
        let path = folder.join(NAME);
        fs::create_dir_all(&folder).map_err(write_failed(&folder, "creating it"))?;
        let before = match fs::read(&path) {
            _ if position.steps == 0 => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            before => before.map_err(write_failed(&path, "reading what is there"))?,
        };
        let kept = kept(&before, position);
        let mut start = before;
        start.truncate(kept);
        if start.is_empty() {
            let version = Message::default().double(1, now()).bytes(3, b"brain.Event:2");
            start.extend(record(version));
            start.extend(summary(0, vec![text("recipe/text_summary", &fenced(recipe))]));
        }
        write_atomic(&path, &start)?;
        Ok(Self { path, waiting: Vec::new() })
    }

    fn add(&mut self, step: u64, figures: &[(&str, f64)]) {
        let values = figures.iter().map(|&(tag, value)| {
            Message::default().bytes(1, tag.as_bytes()).float(2, value as f32)
        });
        self.waiting.extend(summary(step, values.collect()));
    }
}

impl Sink for EventFile {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Step { step, figures } => self.add(step, figures),
            Event::Examples { png, size: (height, width), channels } => {
                let image = Message::default().number(1, height as u64).number(2, width as u64);
                let image = image.number(3, channels as u64).bytes(4, png);
                let value = Message::default().bytes(1, b"train/examples").message(4, image);
                self.waiting.extend(summary(1, vec![value]));
            }
            Event::EpochEnds(metrics) => {
                let mut figures = vec![
                    (EVAL_LOSS, metrics.val_loss),
                    ("eval/accuracy", metrics.val_accuracy),
                    ("train/accuracy", metrics.train_accuracy),
                    ("train/images_per_second", metrics.images_per_second),
                ];
                let averaged = [
                    ("eval/averaged_loss", metrics.averaged_val_loss),
                    ("eval/averaged_accuracy", metrics.averaged_val_accuracy),
                ];
                figures.extend(averaged.iter().filter_map(|&(tag, value)| Some((tag, value?))));
                self.add(metrics.step, &figures);
            }
            Event::Checkpoint if !self.waiting.is_empty() => {
                append(&self.path, &self.waiting)?;
                self.waiting.clear();
            }
            _ => {}
        }
        Ok(())
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A record of values at a step.
fn summary(step: u64, values: Vec<Message>) -> Vec<u8> {
    let values = values.into_iter().fold(Message::default(), |all, value| all.message(1, value));
    record(Message::default().double(1, now()).number(2, step).message(5, values))
}

/// A text for TensorBoard's plugin, which shows Markdown: a tensor of one string.
fn text(tag: &str, markdown: &str) -> Message {
    const STRING: u64 = 7;
    let shape = Message::default().message(2, Message::default().number(1, 1));
    let tensor = Message::default().number(1, STRING).message(2, shape);
    let tensor = tensor.bytes(8, markdown.as_bytes());
    let plugin = Message::default().bytes(1, b"text");
    let about = Message::default().message(1, plugin);
    Message::default().bytes(1, tag.as_bytes()).message(8, tensor).message(9, about)
}

fn fenced(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn record(event: Message) -> Vec<u8> {
    let event = event.into_bytes();
    let length = (event.len() as u64).to_le_bytes();
    let sums = [masked(&length), masked(&event)].map(u32::to_le_bytes);
    [&length[..], &sums[0], &event, &sums[1]].concat()
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The length of the whole records at the start of a file that are of steps up to a position.
fn kept(file: &[u8], position: &Position) -> usize {
    // An epoch whose end is not in the position is told again, though all its steps may be done.
    let untold = |step: u64, event: &[u8]| {
        let tag = EVAL_LOSS.as_bytes();
        let within = step == position.steps && position.batches > 0;
        step > position.steps || (within && event.windows(tag.len()).any(|part| part == tag))
    };
    let mut end = 0;
    while let Some(length) = file.get(end..end + 8) {
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
        let whole = usize::try_from(length).ok().and_then(|n| n.checked_add(HEAD + TAIL));
        let Some(next) = whole.and_then(|whole| end.checked_add(whole)) else { break };
        let Some(event) = file.get(end + HEAD..next.saturating_sub(TAIL)) else { break };
        let sum = file.get(next - TAIL..next).map(<[u8]>::to_vec);
        let whole = sum == Some(masked(event).to_le_bytes().to_vec());
        if !whole || untold(step_of(event), event) {
            break;
        }
        end = next;
    }
    end
}

/// The step of an event that was written here: its second field, after the time.
fn step_of(event: &[u8]) -> u64 {
    const TIME: usize = 9;
    let Some((&0x10, number)) = event.get(TIME..).and_then(<[u8]>::split_first) else { return 0 };
    let last = number.iter().position(|byte| byte & 128 == 0).map_or(0, |last| last + 1);
    number[..last].iter().rev().fold(0, |step, byte| step << 7 | u64::from(byte & 127))
}
