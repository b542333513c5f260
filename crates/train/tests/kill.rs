//! A kill at any moment of a run leaves a checkpoint that resumes, and the run ends with the same bits as one that was
//! left alone.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use support::{
    Traces, assert_same, finish, one_step, open, small, small_images, traces, whole_run,
};
use vitrine_train::trainer::{BEST, CONFIG, LAST, MODEL, Outcome};
use vitrine_train::{TrainError, build, weights};

/// Names the folder to the test program when it runs itself as the victim.
const FOLDER: &str = "VITRINE_TEST_KILL_FOLDER";

/// 10 epochs of 8 steps (61 images, the last batch of 5), each step with a checkpoint of its own.
const KEYS: [&str; 5] = [
    "run.epochs=10",
    "run.checkpoint_every=1",
    "optimizer.kind=adamw",
    "optimizer.learning_rate=0.005",
    "schedule.kind=cosine",
];

/// One epoch, with a checkpoint at its end only.
const SHORT: [&str; 2] = ["run.epochs=1", "optimizer.momentum=0.9"];

const KILLS: usize = 24;

/// The victim: starts the run in the folder, or goes on with it. Without a folder, nothing to test.
#[test]
fn child_run() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let data = small_images(61, 20);
    let trainer = match folder.join(CONFIG).exists() {
        true => open(&folder, &data, &[]).unwrap(),
        false => support::create(small(&KEYS), &folder, &data).unwrap(),
    };
    println!("\nready");
    finish(trainer).unwrap();
}

fn start_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_run", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the child is about to train; at once if it ended before.
fn wait_until_ready(child: &mut Child) {
    let out = BufReader::new(child.stdout.as_mut().unwrap());
    let _ = out.lines().map_while(Result::ok).find(|line| line == "ready");
}

/// SplitMix64: the moments of the kills.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) =
            { (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name())) };
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Goes on for a step in a copy of the folder, which keeps the state that the kill has left. Gives the steps done
/// before.
fn check_that_it_goes_on(folder: &Path) -> u64 {
    let copied = tempfile::tempdir().unwrap();
    copy(folder, copied.path());
    let data = small_images(61, 20);
    let trainer = match copied.path().join(CONFIG).exists() {
        true => open(copied.path(), &data, &[]),
        false => support::create(small(&KEYS), copied.path(), &data),
    };
    let mut trainer = match trainer {
        // Killed after all was done.
        Err(TrainError::Finished { epochs: 10, .. }) => return 80,
        other => other.unwrap(),
    };
    let steps = trainer.position().steps;
    one_step(&mut trainer);
    // After the last step there is still what is done once.
    assert_eq!(trainer.position().steps, (steps + 1).min(80));
    steps
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bits() {
    let reference = tempfile::tempdir().unwrap();
    let expected = whole_run(
        &small(&[&KEYS[..], &["run.checkpoint_every=0"]].concat()),
        reference.path(),
        &small_images(61, 20),
        2,
    );
    assert_eq!(expected.position.steps, 80);

    let mut random = Random(7);
    let (mut kills, mut in_a_save) = (0, 0);
    // A fast machine is through with a run before it was killed often enough: then there is another.
    while kills < KILLS {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir(&run).unwrap();
        let mut steps = 0;
        loop {
            let mut child = start_child(&run);
            if kills < KILLS {
                // Some are hit while they start, and read or recover the checkpoint; most while they train.
                if random.below(4) > 0 {
                    wait_until_ready(&mut child);
                }
                sleep(Duration::from_micros(random.below(120_000)));
                child.kill().unwrap();
            }
            // The pipe must not fill up; a child that is left alone is waited for.
            let status = child.wait_with_output().unwrap().status;
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "the child failed by itself after {steps} steps");
            kills += 1;
            let hidden = |name: &str| run.join(name).exists();
            in_a_save += usize::from(hidden(".last.new") || hidden(".last.old"));
            let now = check_that_it_goes_on(&run);
            assert!(now >= steps, "a kill after step {steps} threw the run back to step {now}");
            steps = now;
            if steps == 80 {
                break;
            }
        }
        assert_same(&traces(&run), &expected, "a run that was killed");
        assert!(run.join("report.html").exists());
    }
    // Not with eprintln: the test harness swallows what a passing test prints.
    let _ =
        writeln!(std::io::stderr(), "{kills} kills, {in_a_save} of them in the middle of a save");
}

/// A run's folder after the first and after the second step, and a run that nobody stopped.
fn two_checkpoints() -> (tempfile::TempDir, Traces) {
    let folder = tempfile::tempdir().unwrap();
    let data = small_images(61, 20);
    let recipe = small(&SHORT);
    let whole = folder.path().join("whole");
    let expected = whole_run(&recipe, &whole, &data, 2);
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    assert_eq!(
        one_step(&mut support::create(recipe.clone(), &first, &data).unwrap()),
        Outcome::Interrupted
    );
    copy(&first, &second);
    assert_eq!(one_step(&mut open(&second, &data, &[]).unwrap()), Outcome::Interrupted);
    (folder, expected)
}

#[test]
fn each_state_that_a_save_goes_through_resumes() {
    let (folder, expected) = two_checkpoints();
    let at = |name: &str| folder.path().join(name);
    let (before, after) = (at("first").join(LAST), at("second").join(LAST));
    // What the state is called; what stands under `last`, `.last.new` and `.last.old`; the step that is gone on from.
    type Parts<'a> = [Option<(&'a Path, usize)>; 3];
    let (old, new) = (Some((before.as_path(), 3)), Some((after.as_path(), 3)));
    let part = |files| Some((after.as_path(), files));
    let states: [(&str, Parts, u64); 9] = [
        ("nothing written yet", [old, part(0), None], 1),
        ("one file written", [old, part(1), None], 1),
        ("two files written", [old, part(2), None], 1),
        ("all written", [old, new, None], 1),
        ("the old one moved away", [None, new, old], 2),
        ("the new one in its place", [new, None, old], 2),
        ("the old one half removed", [new, None, Some((before.as_path(), 1))], 2),
        ("the new one lost with the power", [None, None, old], 1),
        ("done", [new, None, None], 2),
    ];
    for (name, parts, steps) in states {
        let run = tempfile::tempdir().unwrap();
        let run = run.path();
        copy(&at("first"), run);
        fs::remove_dir_all(run.join(LAST)).unwrap();
        for (part, place) in parts.into_iter().zip([LAST, ".last.new", ".last.old"]) {
            let Some((from, files)) = part else { continue };
            fs::create_dir(run.join(place)).unwrap();
            for (index, file) in
                ["weights.safetensors", "optimizer.safetensors", "trainer.json"].iter().enumerate()
            {
                let bytes = fs::read(from.join(file)).unwrap();
                match index {
                    _ if index < files => fs::write(run.join(place).join(file), bytes).unwrap(),
                    // The next one is under way, under its temporary name.
                    _ if index == files => {
                        let half = run.join(place).join(format!(".{file}.tmp"));
                        fs::write(half, &bytes[..bytes.len() / 2]).unwrap();
                    }
                    _ => {}
                }
            }
        }

        // A reader finds the same weights, and moves nothing: the run may be under way.
        let (_, parameters) = build::model(&small(&SHORT)).unwrap();
        let listing = names(run);
        weights::load(&run.join(LAST), None, &parameters, false).unwrap();
        assert_eq!(names(run), listing, "{name}");
        let trainer = open(run, &small_images(61, 20), &[]).unwrap();
        assert_eq!(trainer.position().steps, steps, "{name}");
        let values = |p: &vitrine_nn::Parameters| p.values().to_vec::<f32>().unwrap();
        assert_eq!(values(&parameters), values(trainer.parameters()), "{name}");

        finish(trainer).unwrap();
        assert_same(&traces(run), &expected, name);
        let files = [
            ".lock",
            "about.json",
            BEST,
            CONFIG,
            "examples.png",
            LAST,
            "metrics.jsonl",
            MODEL,
            "report.html",
            "steps.jsonl",
            "summary.csv",
            "tensorboard",
            "validation.json",
        ];
        assert_eq!(names(run), files, "{name}");
    }
}

#[test]
fn a_run_killed_while_it_is_created_can_be_created_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_images(61, 20);
    let recipe = small(&SHORT);
    let expected = whole_run(&recipe, &folder.path().join("whole"), &data, 2);
    let run = folder.path().join("run");
    drop(support::create(recipe.clone(), &run, &data).unwrap());
    // The configuration is written last.
    fs::remove_file(run.join(CONFIG)).unwrap();
    finish(support::create(recipe.clone(), &run, &data).unwrap()).unwrap();
    assert_same(&traces(&run), &expected, "created twice");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
