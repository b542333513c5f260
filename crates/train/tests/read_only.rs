//! A folder that may only be read: a run there can neither begin nor go on, and says so; its checkpoint can be read.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{assert_same, data, left_out, open, position, run_batches, tiny, traces, train};
use vitrine_train::atomic::AtomicWriteError;
use vitrine_train::checkpoint::CheckpointError;
use vitrine_train::trainer::{LAST, Trainer, resumed_recipe};
use vitrine_train::{TrainError, build, weights};

/// Names a read-only folder that holds a stopped run, `run`, to the part of the test that works in it.
const FOLDER: &str = "VITRINE_TEST_READ_ONLY_FOLDER";

/// A name space of mounts, and of users so that it needs no root: it is gone with its last process.
const SCRIPT: &str = r#"mount -t tmpfs none "$1" && cp -r "$2" "$1/run" && mount -o remount,ro "$1" || exit 77
exec "$3" --exact runs_in_a_read_only_folder --nocapture"#;

/// Without a folder, nothing to test: see below.
#[test]
fn runs_in_a_read_only_folder() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let data = data();
    let error = |result: Result<Trainer, TrainError>| result.err().expect("this must fail");
    let read_only = |message: &str, path: &Path| {
        message.contains("Read-only file system") && message.contains(path.to_str().unwrap())
    };

    let new = folder.join("new");
    let e = error(support::create(tiny(&[]), &new, &data));
    assert!(
        matches!(e, TrainError::Checkpoint(CheckpointError::Io { action: "create", .. })),
        "{e}"
    );
    assert!(read_only(&e.to_string(), &new), "{e}");

    let run = folder.join("run");
    let e = error(
        resumed_recipe(&run, &Default::default())
            .and_then(|recipe| support::resume_recipe(recipe, &run, &data)),
    );
    assert!(matches!(e, TrainError::Write(AtomicWriteError::Failed { .. })), "{e}");
    assert!(read_only(&e.to_string(), &run.join(".lock")), "{e}");
    assert!(e.to_string().contains("choose a folder that you may write to"), "{e}");

    let (_, parameters) = build::model(&tiny(&[])).unwrap();
    weights::load(&run.join(LAST), None, &parameters, false).unwrap();
}

#[test]
fn a_read_only_folder_is_an_error_and_its_run_goes_on_elsewhere() {
    let (data, folder, mount) =
        (data(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = folder.path().join("run");
    run_batches(&mut support::create(tiny(&[]), &run, &data).unwrap(), 3);
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
        .args([mount.path(), &run, &std::env::current_exe().unwrap()])
        .env(FOLDER, mount.path())
        .output();
    match &output {
        Ok(output) if output.status.code() == Some(0) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("1 passed"), "{said}");
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        _ => return left_out("a read-only folder", "no file system may be mounted here"),
    }

    // What could only be read there was not touched, and goes on where it may be written.
    assert_eq!(position(&run).batches, 3);
    drop(open(&run, &data, &[]).unwrap());
    support::resume(&run, &data, &[]);
    let whole = tempfile::tempdir().unwrap();
    train(tiny(&[]), whole.path(), &data);
    assert_same(&traces(&run), &traces(whole.path()), "after a read-only folder");
}
