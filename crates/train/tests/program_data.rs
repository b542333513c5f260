//! `vitrine data`: what is there, what is not, and that `--check` fetches nothing.

mod vitrine_program;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;
use vitrine_data::{DataError, DatasetName, FetchMethod, Locator};
use vitrine_program::{Ended, text, vitrine};

/// `vitrine data` where the cache is `cache`, and no other place is known.
fn data_with_cache(cache: &Path, arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_vitrine"))
        .arg("data")
        .args(arguments)
        .env("XDG_CACHE_HOME", cache)
        .env_remove("VITRINE_DATA")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn check_fails_where_nothing_is_and_fetches_nothing() {
    let cache = tempdir().unwrap();
    // Debian has no package of MNIST, so it is not in /usr/share/datasets either.
    let ended = data_with_cache(cache.path(), &["--check", "--dataset", "mnist"]);
    let folder = cache.path().join("vitrine/mnist");
    ended.failed(&["--check fetches nothing", "MNIST", text(&folder), "What to do"]);
    assert!(!folder.exists());
}

#[test]
fn check_fails_on_a_damaged_data_set() {
    let cache = tempdir().unwrap();
    let folder = cache.path().join("vitrine/mnist");
    fs::create_dir_all(&folder).unwrap();
    for file in DatasetName::Mnist.spec().files() {
        fs::write(folder.join(file.name), "not an IDX file").unwrap();
    }
    let ended = data_with_cache(cache.path(), &["--check", "--dataset", "mnist"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    ended.says(&["passing over", "train-images-idx3-ubyte", "error: "]);
}

#[test]
fn a_folder_that_the_user_named_is_the_only_one() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing");
    for check in [&[][..], &["--check"]] {
        let data = |dir: &Path| vitrine(&[&["data", "--data", text(dir)], check].concat());
        data(&missing).failed(&["there is no folder", text(&missing)]);
        data(folder.path()).failed(&["train-images-idx3-ubyte is missing", text(folder.path())]);
    }
}

#[test]
fn a_whole_data_set_is_found_and_its_folder_printed_last() {
    let locator = Locator { fetch: vec![FetchMethod::Apt], ..Locator::from_env(None) };
    let found = match locator.locate(DatasetName::FashionMnist.spec()) {
        Err(report @ DataError::NotFound { .. }) => {
            // Not with eprintln: the test harness swallows what a passing test prints.
            let _ = writeln!(io::stderr(), "LEFT OUT: `vitrine data` on real data.\n{report}");
            return;
        }
        folder => folder.unwrap(),
    };
    for arguments in [&["data", "--check"][..], &["data", "--check", "--data", text(&found)]] {
        let ended = vitrine(arguments);
        assert!(ended.stderr.contains("60000 training and 10000 test images"), "{ended:?}");
        assert_eq!(ended.succeeded(), format!("{}\n", text(&found)));
    }
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    vitrine(&["data", "--dataset", "cifar"]).refused(&["cifar", "fashion-mnist, mnist"]);
    vitrine(&["data", "--chekc"]).refused(&["--check"]);
    vitrine(&["data", "folder", "--check"]).refused(&["--check"]);
}
