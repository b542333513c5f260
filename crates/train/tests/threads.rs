//! One thread gives the same bits as many, in weights, optimizer, position and figures.

mod support;

use support::{KNOWN, MODERN, OPTIMIZERS, assert_same, small, small_images, whole_run};

const CASES: [(&str, &[&str]); 3] = [
    ("momentum", &["optimizer.momentum=0.9", "optimizer.clip_norm=0.5", "schedule.warmup_steps=3"]),
    ("bf16", &["model.depth=2", "run.precision=bf16"]),
    (
        "adamw",
        &[
            "model.depth=2",
            "optimizer.kind=adamw",
            "optimizer.learning_rate=0.01",
            "optimizer.accumulation=3",
            "optimizer.clip_norm=1.0",
            "schedule.kind=cosine",
        ],
    ),
];

#[test]
fn the_number_of_threads_changes_no_bit() {
    let data = small_images(61, 20);
    let wide = ["model.width=48", "model.heads=4", "model.mlp_width=96", "model.patch_size=2"];
    let others = OPTIMIZERS.map(|keys| (keys[0], keys)).into_iter().take(KNOWN);
    let modern = [&["augment.image_sizes=[4,10]"], MODERN].concat();
    for (name, keys) in CASES.into_iter().chain([("modern", &modern[..])]).chain(others) {
        let recipe = small(&[keys, &wide[..]].concat());
        let runs = [1, 2, 3].map(|threads| {
            let folder = tempfile::tempdir().unwrap();
            whole_run(&recipe, folder.path(), &data, threads)
        });
        assert_same(&runs[1], &runs[0], &format!("{name}, 2 threads and 1"));
        assert_same(&runs[2], &runs[0], &format!("{name}, 3 threads and 1"));
    }
}
