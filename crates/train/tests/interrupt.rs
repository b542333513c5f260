//! Signals: at Ctrl-C, SIGTERM and SIGHUP `vitrine train` finishes its step, writes a checkpoint, says how to go on,
//! and goes on from there. Runs that start at once do not get in each other's way.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use support::{left_out, position};
use vitrine_data::{DatasetName, Locator};

/// The folder of Fashion-MNIST, where this machine has it already.
fn fashion_mnist() -> Option<PathBuf> {
    let locator = Locator { fetch: Vec::new(), ..Locator::from_env(None) };
    locator.locate(DatasetName::FashionMnist.spec()).ok()
}

/// A run on a tiny model that takes far longer than this test waits.
fn start(data: &Path, arguments: &[&str]) -> Child {
    start_by(&[], data, arguments)
}

/// The same, started by a program such as `nohup`.
fn start_by(starter: &[&str], data: &Path, arguments: &[&str]) -> Child {
    let words = [starter, &[env!("CARGO_BIN_EXE_vitrine")]].concat();
    Command::new(words[0])
        .args(&words[1..])
        .args(["train", "--epochs", "20", "--threads", "1", "--data"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends signals once the run has begun; gives the exit code and what was said from then on.
fn interrupt(mut child: Child, signals: &[&str]) -> (Option<i32>, String) {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut said) = (String::new(), String::new());
    while !line.contains("run folder") {
        said.push_str(&line);
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the run ended before it began: {said}");
    }
    for signal in signals {
        sleep(Duration::from_millis(200));
        let sent = Command::new("kill").args([signal, &*child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

const MODEL: [&str; 12] = [
    "--set",
    "model.image_size=28",
    "--set",
    "model.patch_size=7",
    "--set",
    "model.width=32",
    "--set",
    "model.heads=2",
    "--set",
    "model.mlp_width=64",
    "--set",
    "run.batch_size=32",
];

/// The data, where signals can be tested.
fn data_for(test: &str) -> Option<PathBuf> {
    let data = fashion_mnist();
    if !cfg!(unix) {
        left_out(test, "signals are sent with Unix's kill");
        return None;
    }
    if data.is_none() {
        left_out(test, "Fashion-MNIST is not on this machine; `vitrine data` fetches it");
    }
    data
}

#[test]
fn a_signal_writes_a_checkpoint_and_says_how_to_go_on() {
    let Some(data) = data_for("signals") else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let run = run.to_str().unwrap();
    let mut steps = 0;
    for (signal, expected) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let arguments = match steps {
            0 => [&["--out", run], &MODEL[..]].concat(),
            _ => vec!["--resume", run],
        };
        let (code, said) = interrupt(start(&data, &arguments), &[signal]);
        assert_eq!(code, Some(expected), "{said}");
        assert!(said.contains("finishing this step; press Ctrl-C again to stop at once"), "{said}");
        assert!(said.contains(&format!("stopped; `--resume {run}` goes on")), "{said}");
        let position = position(Path::new(run));
        // Nobody asked for checkpoints between the epochs: this one is the signal's.
        assert!(position.steps > steps && position.steps < 3 * 1875, "{position:?}");
        steps = position.steps;
    }
}

#[test]
fn readers_that_are_gone_stop_nothing() {
    let Some(data) = data_for("a full disk behind both outputs") else { return };
    let folder = tempfile::tempdir().unwrap();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").map(Stdio::from);
    let (Ok(out), Ok(err)) = (full(), full()) else {
        return left_out("a full disk behind both outputs", "this system has no /dev/full");
    };
    let run = folder.path().join("run");
    let status = Command::new(env!("CARGO_BIN_EXE_vitrine"))
        .args(["train", "--epochs", "1", "--limit-train", "64", "--limit-val", "64", "--data"])
        .arg(&data)
        .arg("--out")
        .arg(&run)
        .args(MODEL)
        .stdout(out)
        .stderr(err)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(position(&run).epochs, 1);
    // And who is not there for the last words changes nothing about how a run ends.
    let mut child =
        start(&data, &[&["--out", run.with_extension("b").to_str().unwrap()], &MODEL[..]].concat());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("run folder") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the run ended before it began");
    }
    drop(stderr);
    assert!(
        Command::new("kill").args(["-INT", &*child.id().to_string()]).status().unwrap().success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn nohup_keeps_a_run_going() {
    let Some(data) = data_for("nohup") else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = [&["--out", run.to_str().unwrap()], &MODEL[..]].concat();
    let child = start_by(&["nohup"], &data, &arguments);
    let (code, said) = interrupt(child, &["-HUP", "-TERM"]);
    assert_eq!(code, Some(143), "it outlived the first: {said}");
}

#[test]
fn runs_that_start_at_once_have_a_folder_each() {
    let Some(data) = data_for("runs that start at once") else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_vitrine"))
            .current_dir(&folder)
            .args(["train", "--epochs", "1", "--limit-train", "64", "--limit-val", "8"])
            .args(MODEL)
            .arg("--data")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let runs = [run(), run(), run(), run()];
    assert!(runs.into_iter().all(|mut run| run.wait().unwrap().success()));
    let folders: Vec<_> = std::fs::read_dir(folder.path().join("runs")).unwrap().collect();
    assert_eq!(folders.len(), 4, "{folders:?}");
}
