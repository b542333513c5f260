//! A run that was stopped and resumed equals one that was not, to the bit.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::*;
use vitrine_autodiff::Var;
use vitrine_nn::{InputSpec, Model, Output, Pass, Table};
use vitrine_train::build::Parts;
use vitrine_train::sink::{Event, Sink};
use vitrine_train::trainer::{Outcome, Trainer};

/// Every kind of state that a run carries from step to step. Dropout is on, and the last batch is short, in all.
const SETTINGS: [(&str, &[&str]); 8] = [
    ("sgd", &[]),
    (
        "momentum",
        &["optimizer.momentum=0.9", "optimizer.nesterov=true", "optimizer.weight_decay=0.01"],
    ),
    (
        "adamw",
        &["optimizer.kind=adamw", "optimizer.learning_rate=0.003", "optimizer.weight_decay=0.05"],
    ),
    ("bf16, blocks run again", &["run.precision=bf16", "model.recompute=true"]),
    (
        "adamw with all the rest",
        &[
            "optimizer.kind=adamw",
            "optimizer.learning_rate=0.003",
            "optimizer.accumulation=3",
            "optimizer.clip_norm=0.5",
            "schedule.kind=cosine",
            "schedule.warmup_steps=2",
            "loss.label_smoothing=0.1",
            "run.log_every=3",
        ],
    ),
    ("all that is modern", MODERN),
    ("schedule-free", OPTIMIZERS[0]),
    ("soap", OPTIMIZERS[1]),
];

/// Those that this program has.
const KNOWN_SETTINGS: usize = SETTINGS.len() - OPTIMIZERS.len() + KNOWN;

#[test]
fn two_epochs_are_one_epoch_and_a_resume() {
    let data = data();
    for (name, sets) in &SETTINGS[..4] {
        let whole = tempfile::tempdir().unwrap();
        train(tiny(sets), whole.path(), &data);

        let parts = tempfile::tempdir().unwrap();
        train(tiny(&[sets, &["run.epochs=1"][..]].concat()), parts.path(), &data);
        resume(parts.path(), &data, &["run.epochs=2"]);
        assert_same(&traces(parts.path()), &traces(whole.path()), name);
        // Nor is it equal because nothing happens: the second epoch changes the weights.
        let one = tempfile::tempdir().unwrap();
        train(tiny(&[sets, &["run.epochs=1"][..]].concat()), one.path(), &data);
        assert!(traces(one.path()).weights != traces(whole.path()).weights, "{name}");
    }
}

#[test]
fn a_run_stopped_after_any_batch_goes_on_as_if_it_had_not_been() {
    let data = data();
    for (name, sets) in SETTINGS.into_iter().take(KNOWN_SETTINGS) {
        // Half as large in the first epoch.
        let small: &[&str] = if sets == MODERN { &["augment.image_sizes=[8,16]"] } else { &[] };
        let sets = &[sets, small].concat()[..];
        let whole = tempfile::tempdir().unwrap();
        train(tiny(sets), whole.path(), &data);
        let expected = traces(whole.path());
        for batches in 1..2 * BATCHES {
            let case = format!("{name}, stopped after {batches} batches");
            let folder = tempfile::tempdir().unwrap();
            let mut trainer = create(tiny(sets), folder.path(), &data).unwrap();
            assert_eq!(run_batches(&mut trainer, batches), Outcome::Interrupted, "{case}");
            let stopped_at = trainer.position().clone();
            drop(trainer);

            // The position says where, and the step under way was finished: accumulated batches are one step.
            let accumulation = if sets.contains(&"optimizer.accumulation=3") { 3 } else { 1 };
            let in_epoch = (batches % BATCHES).next_multiple_of(accumulation).min(BATCHES);
            let (epochs, done) = match in_epoch {
                BATCHES => (batches / BATCHES + 1, 0),
                done => (batches / BATCHES, done),
            };
            let found = (stopped_at.epochs, stopped_at.batches);
            assert_eq!(found, (epochs as u64, done as u64), "{case}");

            let trainer = open(folder.path(), &data, &[]).unwrap();
            assert_eq!(trainer.position(), &stopped_at, "{case}");
            drop(trainer);
            resume(folder.path(), &data, &[]);
            assert_same(&traces(folder.path()), &expected, &case);
        }
    }
}

/// A model that asks for a stop at its first pass that is no training.
struct StopsAtValidation(Box<dyn Model>, Arc<AtomicBool>);

impl Model for StopsAtValidation {
    fn input(&self) -> InputSpec {
        self.0.input()
    }
    fn forward(&self, pass: &Pass<'_>, images: &Var) -> vitrine_nn::Result<Output> {
        self.1.fetch_or(!pass.is_training(), Ordering::Relaxed);
        self.0.forward(pass, images)
    }
    fn settings(&self) -> vitrine_nn::Result<Table> {
        self.0.settings()
    }
}

#[test]
fn a_run_stopped_while_it_validates_does_so_when_it_goes_on() {
    let (data, whole) = (data(), tempfile::tempdir().unwrap());
    train(tiny(&[]), whole.path(), &data);

    let (folder, recipe) = (tempfile::tempdir().unwrap(), tiny(&[]));
    let stop = Arc::new(AtomicBool::new(false));
    let parts = Parts::of(&recipe, data.clone()).unwrap();
    let model = Box::new(StopsAtValidation(parts.model, stop.clone()));
    let mut trainer =
        Trainer::create(Parts { model, ..parts }, &recipe.training, folder.path()).unwrap();
    let outcome = trainer.run(&mut (), &stop).unwrap();
    assert_eq!(outcome, Outcome::Interrupted);
    assert_eq!((trainer.position().epochs, trainer.position().batches), (0, BATCHES as u64));
    drop(trainer);
    resume(folder.path(), &data, &[]);
    assert_same(&traces(folder.path()), &traces(whole.path()), "stopped while it validated");
}

#[test]
fn a_run_stopped_after_every_step_goes_on_as_if_it_had_not_been() {
    let data = data();
    let (_, sets) = SETTINGS[4];
    let whole = tempfile::tempdir().unwrap();
    train(tiny(sets), whole.path(), &data);

    let folder = tempfile::tempdir().unwrap();
    drop(create(tiny(sets), folder.path(), &data).unwrap());
    let stop = AtomicBool::new(true);
    let mut resumes = 0;
    let outcome = loop {
        resumes += 1;
        let mut trainer = open(folder.path(), &data, &[]).unwrap();
        let outcome = trainer.run(&mut (), &stop).unwrap();
        if outcome != Outcome::Interrupted {
            break outcome;
        }
    };
    // Two steps an epoch (three batches and one), one for each resume. After the last step the run is done, even
    // though it was asked to stop.
    assert_eq!(resumes, 4);
    assert!(matches!(outcome, Outcome::Finished(last) if last.epoch == 2));
    assert_same(&traces(folder.path()), &traces(whole.path()), "a resume for every step");
}

#[test]
fn a_checkpoint_every_few_steps_is_there_when_the_run_dies() {
    let data = data();
    let (_, sets) = SETTINGS[1];
    let every = [sets, &["run.checkpoint_every=3"][..]].concat();
    let whole = tempfile::tempdir().unwrap();
    train(tiny(sets), whole.path(), &data);
    let expected = traces(whole.path());

    // Copies of the folder as it lies on the disk while the run goes on: what a crash would leave.
    let folder = tempfile::tempdir().unwrap();
    let crashes = tempfile::tempdir().unwrap();
    let mut trainer = create(tiny(&every), folder.path(), &data).unwrap();
    let (from, to) = (folder.path().to_owned(), crashes.path().to_owned());
    let mut progress = after_each_batch(move |seen| copy(&from, &to.join(seen.to_string())));
    trainer.run(&mut progress, &AtomicBool::new(false)).unwrap();
    assert_same(&traces(folder.path()), &expected, "checkpoints change nothing");

    // A batch is told before its own checkpoint, the last of an epoch after it.
    let steps = [0, 0, 0, 4, 4, 4, 6];
    for (batches, steps) in (1..).zip(steps) {
        let crash = crashes.path().join(batches.to_string());
        assert_eq!(position(&crash).steps, steps, "after {batches} batches");
        resume(&crash, &data, &[]);
        assert_same(&traces(&crash), &expected, &format!("died after {batches} batches"));
    }
}

#[test]
fn settings_that_may_change_on_resume_leave_the_bits_as_they_are() {
    let data = data();
    let whole = tempfile::tempdir().unwrap();
    train(tiny(&[]), whole.path(), &data);
    for set in [
        "run.threads=3",
        "run.checkpoint_every=1",
        "run.log_every=7",
        "data.workers=0",
        "data.workers=3",
        "data.prefetch=5",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = create(tiny(&[]), folder.path(), &data).unwrap();
        run_batches(&mut trainer, 2);
        drop(trainer);
        resume(folder.path(), &data, &[set]);
        assert_same(&traces(folder.path()), &traces(whole.path()), set);
    }
}

/// A cosine ends at the run's last step. So a run that is given more epochs follows the longer curve from the step it
/// is at: its first epoch keeps the rates that it had, and the whole is not the run that had the epochs from the start.
#[test]
fn more_epochs_on_resume_stretch_a_cosine_for_the_steps_to_come() {
    let data = data();
    let sets = ["schedule.kind=cosine"];
    let whole = tempfile::tempdir().unwrap();
    train(tiny(&sets), whole.path(), &data);
    let folder = tempfile::tempdir().unwrap();
    train(tiny(&[&sets[..], &["run.epochs=1"]].concat()), folder.path(), &data);
    let mut said = Said::default();
    let mut trainer = open(folder.path(), &data, &["run.epochs=2"]).unwrap();
    trainer.run(&mut said, &AtomicBool::new(false)).unwrap();
    let jump = "the run now has 2 epochs, not 1: the learning rate is 0.050000 in the next step, and was 0.014645 in \
                the last one";
    assert_eq!(said.0, [jump]);

    let (stretched, whole) = (traces(folder.path()), traces(whole.path()));
    let rate = |t: f64, steps: f64| 0.05 * (1.0 + (std::f64::consts::PI * t / steps).cos());
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
    close(stretched.metrics[0].learning_rate, rate(3.0, 4.0));
    close(whole.metrics[0].learning_rate, rate(3.0, 8.0));
    for run in [&stretched, &whole] {
        close(run.metrics[1].learning_rate, rate(7.0, 8.0));
    }
    assert!(stretched.weights != whole.weights);
}

/// The messages of a run.
#[derive(Default)]
struct Said(Vec<String>);

impl Sink for Said {
    fn take(&mut self, event: Event<'_>) -> vitrine_train::Result<()> {
        if let Event::Message(text) = event {
            self.0.push(text.to_owned());
        }
        Ok(())
    }
}

#[test]
fn a_resume_that_is_refused_leaves_the_folder_as_it_is() {
    let data = data();
    let folder = tempfile::tempdir().unwrap();
    train(tiny(&[]), folder.path(), &data);
    let before = traces(folder.path());
    assert_eq!(before.metrics.len(), 2);
    let recipe = vitrine_train::trainer::resumed_recipe(folder.path(), &overrides(&[])).unwrap();
    let error = resume_recipe(recipe, folder.path(), &data).err().unwrap().to_string();
    assert!(error.contains("has done its 2 epochs; --epochs N with a larger N goes on"), "{error}");
    assert_same(&traces(folder.path()), &before, "refused");
    // And with more epochs it does go on.
    assert_eq!(resume(folder.path(), &data, &["run.epochs=3"]).epoch, 3);
    assert_eq!(traces(folder.path()).metrics[..2], before.metrics);
}
