//! `vitrine bench`: its line, and that what it times is really done.

mod vitrine_program;

use std::collections::BTreeSet;

use vitrine_program::{tiny, tiny_recipe, vitrine};
use vitrine_train::bench::{Bench, Work, peak_rss_mb};

/// The keys that the scripts in `benches/peers` print.
fn peer_keys() -> BTreeSet<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peers/timing.py");
    let text = std::fs::read_to_string(script).unwrap();
    let object = text.split("result = {").nth(1).unwrap();
    let lines = object.lines().skip(1).take_while(|line| line.trim() != "}");
    lines
        .filter_map(|l| l.trim().strip_prefix('"')?.split_once("\": "))
        .map(|(k, _)| k.into())
        .collect()
}

#[test]
fn json_has_the_keys_of_the_peer_script() {
    for work in ["train-step", "forward"] {
        let arguments = ["bench", work, "--batch-size", "6", "--steps", "5", "--warmup", "1"];
        let figures = vitrine(&tiny(&[&arguments[..], &["--json"]].concat())).json();
        let keys: BTreeSet<String> = figures.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, peer_keys());
        assert_eq!(figures["what"], work);
        assert_eq!(figures["precision"], "f32");
        for (key, value) in [("batch_size", 6), ("steps", 5), ("threads", 1)] {
            assert_eq!(figures[key], value, "{key}");
        }
        let number = |key: &str| figures[key].as_f64().unwrap();
        assert!(0.0 < number("min_ms") && number("min_ms") <= number("median_ms"));
        let speed = 6000.0 / number("median_ms");
        // The time was rounded to a microsecond.
        assert!((number("images_per_second") / speed - 1.0).abs() < 0.05, "{figures}");
        if cfg!(target_os = "linux") {
            assert!((1.0..1000.0).contains(&number("peak_rss_mb")), "{figures}");
        }
    }
}

#[test]
fn a_step_has_as_many_batches_as_are_accumulated() {
    let figures = |more: &[&str]| {
        let arguments = ["bench", "train-step", "--batch-size=4", "--steps=1", "--json"];
        vitrine(&tiny(&[&arguments[..], more].concat())).json()
    };
    assert_eq!(figures(&[])["batch_size"], 4);
    assert_eq!(figures(&["--set", "optimizer.accumulation=3"])["batch_size"], 12);
    // The same batch three times is the same step.
    let step = |accumulation: &str| {
        let keys = ["run.batch_size=4", "model.dropout=0", "model.attention_dropout=0"];
        let keys = [&keys[..], &["model.embedding_dropout=0", accumulation]].concat();
        let mut bench = Bench::of(&tiny_recipe(&keys), Work::TrainStep).unwrap();
        (bench.step().unwrap(), bench.parameters().values().to_f64_vec().unwrap())
    };
    let (one, three) = (step("optimizer.accumulation=1"), step("optimizer.accumulation=3"));
    assert!((one.0 - three.0).abs() < 1e-6);
    assert!(one.1.iter().zip(&three.1).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn text_is_one_line_with_the_figures() {
    let stdout = vitrine(&tiny(&["bench", "forward", "--batch-size=2", "--steps=1"])).succeeded();
    assert_eq!(stdout.matches('\n').count(), 1);
    for part in ["forward", "median_ms", "min_ms", "images_per_second", "peak_rss_mb"] {
        assert!(stdout.contains(part), "{stdout}");
    }
}

#[test]
fn the_model_may_have_more_classes_than_the_data_set() {
    let peak = |classes| {
        let arguments = ["bench", "forward", "--steps=1", "--json", "--batch-size=100", classes];
        vitrine(&tiny(&arguments)).json()["peak_rss_mb"].as_f64()
    };
    if peak_rss_mb().is_some() {
        // The logits alone are 20 MB.
        let (few, many) = (peak("--classes=10").unwrap(), peak("--classes=50000").unwrap());
        assert!(many > few + 10.0, "{few} and {many}");
    }
}

#[test]
fn a_train_step_trains_and_a_forward_pass_does_not() {
    let more = ["run.batch_size=10", "optimizer.learning_rate=0.1", "optimizer.clip_norm=1"];
    let mut bench = Bench::of(&tiny_recipe(&more), Work::TrainStep).unwrap();
    let first = bench.step().unwrap();
    for _ in 0..200 {
        bench.step().unwrap();
    }
    let last = bench.step().unwrap();
    assert!(last < 0.8 * first, "{first} to {last}");

    let mut bench = Bench::of(&tiny_recipe(&more), Work::Forward).unwrap();
    let before: Vec<f32> = bench.parameters().values().to_vec().unwrap();
    let losses = [bench.step().unwrap(), bench.step().unwrap()];
    assert_eq!(losses[0], losses[1]);
    assert_eq!(bench.parameters().values().to_vec::<f32>().unwrap(), before);
}

#[test]
fn a_larger_batch_shows_in_the_peak_of_memory() {
    let peak = |batch| {
        let arguments = ["bench", "train-step", "--steps=1", "--warmup=0", "--json"];
        let more = ["--batch-size", batch];
        vitrine(&tiny(&[arguments.as_slice(), &more].concat())).json()["peak_rss_mb"].as_f64()
    };
    if peak_rss_mb().is_some() {
        // 8,000 pictures of 28x28 in f32 are 24 MiB, on the host and again on the device.
        let (small, large) = (peak("8").unwrap(), peak("8000").unwrap());
        assert!(large > small + 48.0, "{small} and {large}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (arguments, part) in [
        (&["bench"][..], "WORK"),
        (&["bench", "backward"], "train-step, forward"),
        (&["bench", "forward", "--steps", "0"], "--steps"),
        (&["bench", "forward", "--steps", "many"], "--steps"),
        (&["bench", "forward", "--warmup=-1"], "--warmup"),
        (&["bench", "forward", "--classes", "1"], "--classes"),
    ] {
        vitrine(arguments).refused(&[part]);
    }
    vitrine(&["bench", "forward", "--device", "cuda:0"]).failed(&["cuda:0", "not available"]);
    vitrine(&["bench", "forward", "--batch-size", "0"]).failed(&["--batch-size", "1 to"]);
    vitrine(&["bench", "forward", "--recipe", "d2"]).failed(&["d2l"]);
    vitrine(&["bench", "forward", "--set", "model.heads=3"]).failed(&["model.heads"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_output_is_an_error() {
    use std::process::{Command, Stdio};
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vitrine"))
        .args(tiny(&["bench", "forward", "--batch-size=1", "--steps=1"]))
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: cannot write to the standard output"), "{stderr}");
}
