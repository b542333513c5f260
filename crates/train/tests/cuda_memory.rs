//! A CUDA device without memory for a step: the run ends with a checkpoint. In a program of its own, as the emulated
//! device has one size for all.

mod support;

use std::sync::atomic::AtomicBool;

use support::*;
use vitrine_train::TrainError;

#[test]
fn a_step_that_finds_no_memory_leaves_a_checkpoint() {
    let test = "a_step_that_finds_no_memory_leaves_a_checkpoint";
    if vitrine_cuda_driver::status() != Ok(vitrine_cuda_driver::DriverKind::Emulated) {
        return left_out(test, "only the emulated device can be made so small");
    }
    // Room for the model and for the buffers of uploads, not for what the MLPs of a batch of 256 keep.
    vitrine_cuda_driver::emulator::set_memory(20 << 20);
    let data = images(256, 20, 16);
    let folder = tempfile::tempdir().unwrap();
    let sets = ["run.device=cuda:0", "run.batch_size=256", "model.mlp_width=1024"];
    let mut trainer = create(tiny(&sets), folder.path(), &data).unwrap();
    let stopped = trainer.run(&mut (), &AtomicBool::new(false));
    let error = stopped.unwrap_err();
    let TrainError::Stopped { source, steps: 0, .. } = &error else { panic!("{error}") };
    let message = source.to_string();
    for part in ["cuda:0", "out of memory", "MiB were asked for", "are free"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert!(error.to_string().contains("--resume"), "{error}");
    assert_eq!(position(folder.path()).steps, 0);
    // The CPU has room for it.
    drop(trainer);
    let last = resume(folder.path(), &data, &["run.device=cpu"]);
    assert_eq!(last.epoch, 2);
}
