//! Ctrl-C: `vitrine train` finishes its step, writes a checkpoint, says how to go on, and goes on from there.

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
    Command::new(env!("CARGO_BIN_EXE_vitrine"))
        .args(["train", "--epochs", "20", "--threads", "1", "--data"])
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends the signal of Ctrl-C once the run has begun; gives the exit code and what was said from then on.
fn interrupt(mut child: Child) -> (Option<i32>, String) {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut said) = (String::new(), String::new());
    while !line.contains("run folder") {
        said.push_str(&line);
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the run ended before it began: {said}");
    }
    sleep(Duration::from_millis(200));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

#[test]
fn ctrl_c_writes_a_checkpoint_and_says_how_to_go_on() {
    if !cfg!(unix) {
        return left_out("Ctrl-C", "signals are sent with Unix's kill");
    }
    let Some(data) = fashion_mnist() else {
        return left_out(
            "Ctrl-C",
            "Fashion-MNIST is not on this machine; `vitrine data` fetches it",
        );
    };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let run = run.to_str().unwrap();
    let model = [
        "model.image_size=28",
        "model.patch_size=7",
        "model.width=32",
        "model.heads=2",
        "model.mlp_width=64",
        "run.batch_size=32",
    ];
    let sets: Vec<&str> = model.iter().flat_map(|set| ["--set", set]).collect();
    let (code, said) = interrupt(start(&data, &[&["--out", run], &sets[..]].concat()));
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("finishing this step; press Ctrl-C again to stop at once"), "{said}");
    assert!(said.contains(&format!("stopped; `--resume {run}` goes on")), "{said}");
    let first = position(Path::new(run));
    // Nobody asked for checkpoints between the epochs: this one is Ctrl-C's.
    assert!(first.steps > 0 && first.steps < 1875, "{first:?}");

    let (code, said) = interrupt(start(&data, &["--resume", run]));
    assert_eq!(code, Some(130), "{said}");
    let second = position(Path::new(run));
    assert!(second.steps > first.steps, "{first:?} {second:?}");
}
