//! Files of a run's folder: atomic writes, `metrics.jsonl`, `report.html`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use vitrine_train::TrainError;
use vitrine_train::atomic::{AtomicWriteError, sync_folder, write_atomic, write_atomic_with};
use vitrine_train::metrics::{EpochMetrics, MetricsError, MetricsLog, best_epoch, read_metrics};
use vitrine_train::report;

fn epoch(epoch: u64, val_accuracy: f64) -> EpochMetrics {
    EpochMetrics {
        epoch,
        step: epoch * 469,
        train_loss: 1.0 / 3.0 / epoch as f64,
        train_accuracy: 0.7,
        val_loss: 0.1 + 0.2,
        val_accuracy,
        val_top5: None,
        averaged_val_loss: None,
        averaged_val_accuracy: None,
        averaged_val_top5: None,
        learning_rate: 1e-5,
        images_per_second: 91.25,
        seconds: 731.0,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_atomic_write_replaces_the_content_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomic(&path, b"long old content").unwrap();
    // What a killed run left behind is in nobody's way.
    fs::write(folder.path().join(".file.tmp"), "half of something").unwrap();
    write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["file"]);
    sync_folder(folder.path()).unwrap();
}

#[test]
fn a_write_that_fails_half_way_keeps_the_old_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    write_atomic(&path, b"old").unwrap();
    let error = write_atomic_with(&path, |file| {
        file.write_all(b"ne")?;
        file.flush()?;
        assert_eq!(fs::read(&path)?, b"old");
        Err(ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert!(matches!(error, AtomicWriteError::Failed { step: "writing the content", .. }));
    let message = error.to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(message.contains("free some space"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["file"]);
}

/// The full device is the temporary file itself here.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "old").unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join(".file.tmp")).unwrap();
    let error = write_atomic(&path, &[1; 100_000]).unwrap_err();
    let AtomicWriteError::Failed { step: "writing the content", source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    // Small content stays in the buffer until the end and must fail all the same.
    std::os::unix::fs::symlink("/dev/full", folder.path().join(".file.tmp")).unwrap();
    assert!(write_atomic(&path, b"new").is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_to_is_an_error_that_names_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    // A path below a regular file can be written to by nobody, not even by root.
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    for path in [plain.join("file"), folder.path().join("none/file")] {
        let error = write_atomic(&path, b"new").unwrap_err();
        assert!(matches!(
            error,
            AtomicWriteError::Failed { step: "creating a temporary file beside it", .. }
        ));
        assert!(error.to_string().contains("check that its folder exists"), "{error}");
    }
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let error = write_atomic(&target, b"new").unwrap_err();
    assert!(
        matches!(error, AtomicWriteError::Failed { step: "renaming the temporary file", .. }),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["plain", "target"]);
    assert!(matches!(write_atomic(Path::new("/"), b""), Err(AtomicWriteError::NoFileName { .. })));

    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("file"), "old").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write to a read-only folder.
    if let Err(error) = write_atomic(&locked.join("file"), b"new") {
        assert!(error.to_string().contains("choose a folder that you may write to"), "{error}");
        assert_eq!(fs::read(locked.join("file")).unwrap(), b"old");
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn each_epoch_is_one_line_with_the_fields_of_the_design() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut log = MetricsLog::create(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    log.append(epoch(1, 0.8)).unwrap();
    log.append(epoch(2, 0.9)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.ends_with('\n'));
    assert_eq!(
        text.lines().next().unwrap(),
        r#"{"epoch":1,"step":469,"train_loss":0.3333333333333333,"train_accuracy":0.7,"val_loss":0.30000000000000004,"val_accuracy":0.8,"learning_rate":0.00001,"images_per_second":91.25,"seconds":731.0}"#
    );
    assert_eq!(read_metrics(&path).unwrap(), [epoch(1, 0.8), epoch(2, 0.9)]);
    assert_eq!(log.epochs(), [epoch(1, 0.8), epoch(2, 0.9)]);
    assert_eq!(log.best(), Some(&epoch(2, 0.9)));
}

#[test]
fn of_equal_epochs_the_first_is_the_best() {
    let epochs = [epoch(1, 0.5), epoch(2, 0.8), epoch(3, 0.8), epoch(4, 0.7)];
    assert_eq!(best_epoch(&epochs).unwrap().epoch, 2);
    assert_eq!(best_epoch(&[]), None);
}

#[test]
fn resuming_drops_the_lines_past_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut log = MetricsLog::create(&path).unwrap();
    for number in 1..=4 {
        log.append(epoch(number, 0.1)).unwrap();
    }
    let whole = fs::read_to_string(&path).unwrap();
    let mut log = MetricsLog::resume(&path, 2).unwrap();
    assert_eq!(log.epochs().len(), 2);
    assert_eq!(read_metrics(&path).unwrap().len(), 2);
    log.append(epoch(3, 0.1)).unwrap();
    log.append(epoch(4, 0.1)).unwrap();
    // The same bytes as without the interruption.
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    assert_eq!(MetricsLog::resume(&path, 4).unwrap().epochs().len(), 4);
    let error = MetricsLog::resume(&path, 5).unwrap_err();
    assert!(matches!(error, MetricsError::TooShort { last: 4, completed: 5, .. }), "{error}");
}

#[test]
fn a_run_that_completed_no_epoch_may_have_no_metrics_yet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    assert!(matches!(MetricsLog::resume(&path, 1), Err(MetricsError::Read { .. })));
    assert!(MetricsLog::resume(&path, 0).unwrap().epochs().is_empty());
    assert!(MetricsLog::resume(&path, 0).unwrap().epochs().is_empty());
    MetricsLog::create(&path).unwrap().append(epoch(1, 0.1)).unwrap();
    assert!(matches!(MetricsLog::create(&path), Err(MetricsError::Exists { .. })));
}

#[test]
fn what_is_no_metrics_file_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut log = MetricsLog::create(&path).unwrap();
    log.append(epoch(1, 0.1)).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["{\"epoch\":2", "", "[]", "{\"epoch\":2}", "{\"epoch\":-2,\"step\":1}"] {
        fs::write(&path, format!("{good}{bad}\n")).unwrap();
        let error = read_metrics(&path).unwrap_err();
        assert!(matches!(error, MetricsError::Line { line: 2, .. }), "{bad}: {error}");
        assert!(error.to_string().contains("metrics.jsonl, line 2"), "{error}");
    }
    fs::write(&path, format!("{good}{good}")).unwrap();
    let error = read_metrics(&path).unwrap_err();
    assert!(matches!(error, MetricsError::Order { epoch: 1, previous: 1, .. }), "{error}");
    fs::write(&path, [0xff]).unwrap();
    assert!(matches!(read_metrics(&path), Err(MetricsError::Read { .. })));
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    MetricsLog::create(&path).unwrap().append(epoch(1, 0.1)).unwrap();
    let text = fs::read_to_string(&path).unwrap().replace("{", "{\"top5\":0.9,");
    fs::write(&path, text).unwrap();
    assert_eq!(read_metrics(&path).unwrap(), [epoch(1, 0.1)]);
}

#[test]
fn an_epoch_that_cannot_be_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut log = MetricsLog::create(&path).unwrap();
    log.append(epoch(1, 0.1)).unwrap();
    let before = fs::read(&path).unwrap();
    let error = log.append(epoch(2, f64::NAN)).unwrap_err();
    assert!(
        matches!(error, MetricsError::NotFinite { epoch: 2, ref field } if field == "val_accuracy"),
        "{error}"
    );
    assert!(matches!(log.append(epoch(3, 0.1)), Err(MetricsError::Order { .. })));
    assert_eq!((log.epochs().len(), fs::read(&path).unwrap()), (1, before));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(log.append(epoch(2, 0.1)), Err(MetricsError::Write(_))));
    assert_eq!(log.epochs().len(), 1);
}

#[test]
fn the_report_shows_what_is_in_the_folder_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let page = || {
        report::write(folder.path()).unwrap();
        fs::read_to_string(folder.path().join("report.html")).unwrap()
    };
    assert!(matches!(report::write(folder.path()), Err(TrainError::NoRun { .. })));
    write("config.toml", "[model]\npreset = \"d2l\" # {{main}}\n[run]\nepochs = 10\n");
    let about = r#"{"title": "mine <b>", "machine": "a & b", "images": "60 images: <held out>"}"#;
    write("about.json", about);
    let empty = page();
    assert!(empty.contains("No epoch is complete yet") && empty.contains("0 of 10 epochs"));

    let mut log = MetricsLog::create(folder.path().join("metrics.jsonl")).unwrap();
    for metrics in [epoch(1, 0.71), epoch(2, 0.85123), epoch(3, 0.84)] {
        log.append(metrics).unwrap();
    }
    let steps = "{\"step\":1,\"train/loss\":2.5}\n{\"step\":2,\"train/loss\":1.5}\n";
    write("steps.jsonl", steps);
    write("examples.png", "a picture");
    let classes = ["bright", "dark"].map(|name| {
        format!(r#"{{"name": "{name}", "count": 4, "precision": 0.75, "recall": null, "f1": 0.5}}"#)
    });
    let answer = |sample, label, predicted| {
        format!(
            r#"{{"sample": {sample}, "label": {label}, "predicted": {predicted}, "probability": 0.875}}"#
        )
    };
    write(
        "validation.json",
        &format!(
            r#"{{"images": 8, "loss": 1.0, "top1": 0.5, "top5": 1.0, "balanced_accuracy": 0.5, "macro_f1": 0.5,
            "roc_auc": null, "classes": [{}], "confusion": [[3, 1], [2, 2]], "mistakes": [{}], "doubtful": [{}, {}],
            "pictures": {{"7": "c2V2ZW4=", "3": "dGhyZWU="}}}}"#,
            classes.join(","),
            answer(7, 0, 1),
            answer(3, 1, 1),
            answer(4, 1, 1)
        ),
    );
    let html = page();
    for part in [
        "mine &lt;b&gt;",
        "3 of 10 epochs",
        "http-equiv=\"refresh\"",
        "a &amp; b",
        "60 images: &lt;held out&gt;",
        "0.8512",
        "36 min 33 s",
        "1e-5",
        "preset = &quot;d2l&quot; # {{main}}",
        "prefers-color-scheme: dark",
        "Loss of each step",
        "<td style=\"--share:0.750\">3</td>",
        "<td>0.7500</td><td>–</td>",
        "bright, taken for dark 0.88",
        "dark 0.88",
        "data:image/png;base64,c2V2ZW4=",
        "data:image/png;base64,YSBwaWN0dXJl",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<tr class=\"best\"><td>2</td>").count(), 1);
    // The picture of an answer that could not be read is left out.
    assert_eq!(html.matches("<img").count(), 3);
    assert_eq!(html.matches("<svg").count(), 5);
    for outside in ["http:", "https:", "src=\"/", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    write("about.json", r#"{"title": "mine", "finished": true}"#);
    assert!(!page().contains("http-equiv=\"refresh\""), "a run that is done changes no more");
}

#[test]
fn runs_are_compared_by_their_curves_and_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let runs = [("plain", 0.5, 0.8), ("better <1>", 0.05, 0.9)].map(|(name, rate, accuracy)| {
        let run = folder.path().join(name);
        fs::create_dir(&run).unwrap();
        let config = format!("[model]\ndepth = 2\n[optimizer]\nlearning_rate = {rate}\n");
        fs::write(run.join("config.toml"), config).unwrap();
        let mut log = MetricsLog::create(run.join("metrics.jsonl")).unwrap();
        log.append(epoch(1, accuracy)).unwrap();
        run
    });
    let path = folder.path().join("both.html");
    report::compare(&runs, &path).unwrap();
    let html = fs::read_to_string(&path).unwrap();
    for part in ["plain", "better &lt;1&gt;", "<td>0.8000</td><td>0.9000</td>"] {
        assert!(html.contains(part), "{part}");
    }
    assert!(
        html.contains("<td class=\"name\">optimizer.learning_rate</td><td>0.5</td><td>0.05</td>")
    );
    assert!(!html.contains("model.depth"), "what is the same is not shown");
    let table =
        report::list(&[runs[0].clone(), folder.path().join("none"), runs[1].clone()]).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "what is no run is left out: {table}");
    assert!(
        lines[1].contains("plain") && lines[1].contains("1 of 0  ") && lines[1].contains("0.8000")
    );
    let error = report::compare(&[folder.path().join("none")], &path).unwrap_err();
    assert!(matches!(error, TrainError::NoRun { .. }));
}
