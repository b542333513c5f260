//! What a run leaves for TensorBoard: read by TensorBoard's own reader, and across a kill and a resume.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use support::*;
use vitrine_train::metrics::read_metrics;

const FILE: &str = "tensorboard/events.out.tfevents.vitrine";

/// What TensorBoard reads in a run's folder.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "tensors": 0})
events.Reload()
tags = events.Tags()
image = events.Images(tags["images"][0])[0]
print(json.dumps({
    "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
    "image": [tags["images"][0], image.step, image.height, image.width, image.encoded_image_string[1:4].decode()],
    "text": events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode(),
}))
"#;

/// The reader's answer; `None`, and a word about it, where Python has no TensorBoard.
fn read(folder: &Path, test: &str) -> Option<serde_json::Value> {
    let here = Command::new("python3").args(["-c", "import tensorboard"]).output();
    if !here.is_ok_and(|output| output.status.success()) {
        left_out(test, "python3 has no tensorboard; pip install tensorboard");
        return None;
    }
    let mut python = Command::new("python3");
    python.arg("-").arg(folder.join("tensorboard")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    child.stdin.take().unwrap().write_all(READER.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn tensorboard_reads_figures_pictures_and_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    train(tiny(&["optimizer.model_ema_decay=0.9"]), folder.path(), &data());
    let Some(found) = read(folder.path(), "TensorBoard's own reader") else { return };
    let epochs = read_metrics(&folder.path().join("metrics.jsonl")).unwrap();
    let mut expected: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for epoch in &epochs {
        for (tag, value) in [
            ("eval/loss", epoch.val_loss),
            ("eval/accuracy", epoch.val_accuracy),
            ("eval/averaged_loss", epoch.averaged_val_loss.unwrap()),
            ("eval/averaged_accuracy", epoch.averaged_val_accuracy.unwrap()),
            ("train/accuracy", epoch.train_accuracy),
            ("train/images_per_second", epoch.images_per_second),
        ] {
            expected.entry(tag.to_owned()).or_default().push((epoch.step, value));
        }
    }
    let steps = fs::read_to_string(folder.path().join("steps.jsonl")).unwrap();
    for line in steps.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for tag in ["train/loss", "train/learning_rate"] {
            let point = (line["step"].as_u64().unwrap(), line[tag].as_f64().unwrap());
            expected.entry(tag.to_owned()).or_default().push(point);
        }
    }
    assert_eq!(expected["train/loss"].len(), 2 * BATCHES);
    let scalars: BTreeMap<String, Vec<(u64, f64)>> =
        serde_json::from_value(found["scalars"].clone()).unwrap();
    assert_eq!(scalars.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (tag, points) in expected {
        let rounded = |points: &[(u64, f64)]| {
            points.iter().map(|&(step, value)| (step, value as f32)).collect::<Vec<_>>()
        };
        assert_eq!(rounded(&scalars[&tag]), rounded(&points), "{tag}");
    }
    // Two rows of eight images of 16 by 16 pixels.
    assert_eq!(found["image"], serde_json::json!(["train/examples", 1, 34, 142, "PNG"]));
    let config = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    let text = found["text"].as_str().unwrap().replace("    ", "");
    assert_eq!(text.trim_end(), config.trim_end());
}

/// The steps of all records, whose lengths say where the next one is.
fn steps_in(file: &[u8]) -> Vec<(u64, usize)> {
    let (mut at, mut steps) = (0, Vec::new());
    while at < file.len() {
        let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
        let event = &file[at + 12..at + 12 + length];
        steps.push((if event[9] == 0x10 { u64::from(event[10]) } else { 0 }, at));
        at += length + 16;
    }
    assert_eq!(at, file.len());
    steps
}

#[test]
fn no_step_is_there_twice_after_a_kill_and_a_torn_record() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(tiny(&[]), whole.path(), &data());
    let expected = fs::read(whole.path().join(FILE)).unwrap();
    let expected: Vec<u64> = steps_in(&expected).into_iter().map(|(step, _)| step).collect();
    // Version and recipe, images, then steps, each epoch's own figures after its last one.
    assert_eq!(expected, [0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]);

    // Stopped after three steps; then what a kill would leave: records past the checkpoint, the last one torn.
    let mut trainer = create(tiny(&[]), folder.path(), &data()).unwrap();
    run_batches(&mut trainer, 3);
    drop(trainer);
    let path = folder.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    let more = fs::read(whole.path().join(FILE)).unwrap();
    let (_, start) = steps_in(&more).into_iter().find(|(step, _)| *step == 4).unwrap();
    bytes.extend(&more[start..start + 100]);
    fs::write(&path, &bytes).unwrap();
    resume(folder.path(), &data(), &[]);
    let found: Vec<u64> = steps_in(&fs::read(&path).unwrap()).into_iter().map(|(s, _)| s).collect();
    assert_eq!(found, expected);
}
