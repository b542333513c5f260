//! What runs of today have beside a last and a best epoch: averaged weights, checkpoints of some epochs, images that
//! grow.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use support::*;
use vitrine_autodiff::Var;
use vitrine_nn::{InputSpec, Model, Output, Pass, Table};
use vitrine_train::build::{self, Parts};
use vitrine_train::description::Description;
use vitrine_train::evaluate::evaluate;
use vitrine_train::metrics::{best_epoch, read_metrics};
use vitrine_train::trainer::Trainer;

#[test]
fn best_has_the_better_weights_and_says_which_and_so_have_kept_epochs() {
    let data = data();
    // Steps that are too long, so that an average is better; and a short run, whose average lags behind.
    for (averaged, sets) in [
        (true, ["optimizer.learning_rate=0.3", "optimizer.model_ema_decay=0.8"]),
        (false, ["optimizer.learning_rate=0.05", "optimizer.model_ema_decay=0.999"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let recipe = tiny(&[&sets[..], &["run.epochs=5", "run.checkpoint_hist=2"]].concat());
        train(recipe.clone(), folder.path(), &data);
        let epochs = read_metrics(&folder.path().join("metrics.jsonl")).unwrap();
        let best = best_epoch(&epochs).unwrap();
        assert_eq!(best.averaged_is_better(), averaged, "{epochs:?}");

        // Two epochs are kept, the best one among them.
        let kept = fs::read_dir(folder.path().join("checkpoints")).unwrap();
        let kept: BTreeSet<u64> = kept
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        assert!(kept.len() == 2 && kept.contains(&best.epoch), "{kept:?}");
        let worst_kept = kept.iter().map(|&epoch| epochs[epoch as usize - 1].accuracy());
        let worst_kept = worst_kept.fold(1.0, f64::min);
        let better = epochs.iter().filter(|epoch| epoch.accuracy() > worst_kept);
        assert!(better.count() < 2, "{epochs:?}, {kept:?}");

        // What lies there is what was judged.
        let places = kept.iter().map(|epoch| (format!("checkpoints/{epoch}"), *epoch));
        for (place, epoch) in places.chain([("best".to_owned(), best.epoch)]) {
            let weights = folder.path().join(&place);
            let (model, parameters) = build::model_with_weights(&recipe, &weights, |_| {}).unwrap();
            let loader =
                build::loader(&recipe.training, &model.input(), data.val.clone(), false).unwrap();
            let found = evaluate(model.as_ref(), &parameters, &loader, |_| {
                std::ops::ControlFlow::Continue(())
            });
            let metrics = &epochs[epoch as usize - 1];
            assert_eq!(found.unwrap().unwrap().top1, metrics.accuracy(), "{place}");
            let about = Description::beside(&weights).unwrap().unwrap();
            assert_eq!(about.averaged, metrics.averaged_is_better(), "{place}");
        }
    }
}

/// A model that notes the heights and widths that it trains on and is judged on.
struct Notes(Box<dyn Model>, Arc<Mutex<Vec<(bool, usize, usize)>>>);

impl Model for Notes {
    fn input(&self) -> InputSpec {
        self.0.input()
    }
    fn takes(&self, size: (usize, usize)) -> bool {
        self.0.takes(size)
    }
    fn forward(&self, pass: &Pass<'_>, images: &Var) -> vitrine_nn::Result<Output> {
        let seen = (pass.is_training(), images.shape()[2], images.shape()[3]);
        let mut notes = self.1.lock().unwrap();
        if notes.last() != Some(&seen) {
            notes.push(seen);
        }
        self.0.forward(pass, images)
    }
    fn settings(&self) -> vitrine_nn::Result<Table> {
        self.0.settings()
    }
}

#[test]
fn training_images_grow_and_those_of_evaluation_do_not() {
    let recipe = tiny(&[
        "model.image_size=[16,32]",
        "model.dynamic_img_size=true",
        "augment.image_sizes=[8,16]",
        "run.epochs=3",
    ]);
    let parts = Parts::of(&recipe, data()).unwrap();
    let notes = Arc::default();
    let model = Box::new(Notes(parts.model, Arc::clone(&notes)));
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::create(Parts { model, ..parts }, &recipe.training, folder.path());
    finish(trainer.unwrap()).unwrap();
    // Two of three epochs lie in the first half, at least in part.
    let (small, own) = ((true, 8, 16), (true, 16, 32));
    let judged = (false, 16, 32);
    assert_eq!(*notes.lock().unwrap(), [small, judged, small, judged, own, judged]);
}

#[test]
fn sizes_that_a_model_does_not_take_are_refused() {
    let refusal = |sets: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let error = create(tiny(sets), folder.path(), &data()).err().expect("it is refused");
        error.to_string()
    };
    let fixed = refusal(&["augment.image_sizes=[8,16]"]);
    assert!(fixed.contains("`augment.image_sizes = [8, 16]`"), "{fixed}");
    assert!(fixed.contains("8x8") && fixed.contains("`model.dynamic_img_size = true`"), "{fixed}");
    let uneven = refusal(&["model.dynamic_img_size=true", "augment.image_sizes=[16,12]"]);
    assert!(uneven.contains("no images of 12x12"), "{uneven}");
}
