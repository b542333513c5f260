//! Finding and fetching: the order of the places, what counts as an error, and what reaches the
//! cache.

mod idx_files;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use idx_files::{TRAIN_IMAGES, contents, gzip, leak, md5, spec, write_all};
use tempfile::tempdir;
use vitrine_data::{DataError, DatasetSpec, FetchMethod, Locator, Origin, Samples, Split};

/// A web server on this machine that answers with `answer(file name)`, or 404. Gives its address
/// and counts requests.
fn serve(
    answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static,
) -> (&'static str, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = leak(format!("http://{}/data", listener.local_addr().unwrap()));
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let file = request.split(' ').nth(1).unwrap().strip_prefix("/data/").unwrap();
            let (status, body) =
                answer(file).map_or(("404 Not Found", vec![]), |body| ("200 OK", body));
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(&body);
        }
    });
    (address, requests)
}

fn right_file(name: &str) -> Option<Vec<u8>> {
    let (_, bytes) = contents().into_iter().find(|(known, _)| name == format!("{known}.gz"))?;
    Some(gzip(&bytes))
}

fn spec_at(addresses: Vec<&'static str>) -> DatasetSpec {
    DatasetSpec { origin: Origin::Files(addresses.leak()), ..spec() }
}

fn fetching(cache: &Path) -> Locator {
    Locator {
        cache: Some(cache.to_owned()),
        fetch: vec![FetchMethod::Apt, FetchMethod::Https],
        ..Locator::empty()
    }
}

#[test]
fn the_first_place_that_has_it_wins() {
    let root = tempdir().unwrap();
    let place = |name: &str| root.path().join(name);
    let mut locator = Locator {
        explicit: Some(place("explicit")),
        cache: Some(place("cache")),
        system: Some(place("system")),
        ..Locator::empty()
    };
    for name in ["explicit", "other/tiny", "cache/tiny", "system/tiny"] {
        write_all(&place(name), true);
    }
    let found = |locator: &Locator| locator.locate(&spec()).unwrap();
    assert_eq!(found(&locator), place("explicit"));
    locator.explicit = Some(place("other"));
    assert_eq!(found(&locator), place("other/tiny"));
    locator.explicit = None;
    assert_eq!(found(&locator), place("cache/tiny"));
    fs::remove_dir_all(place("cache")).unwrap();
    assert_eq!(found(&locator), place("system/tiny"));
}

/// Runs itself again with the variable. What the user says in words goes before it.
#[test]
fn the_variable_names_a_folder() {
    const NAME: &str = "the_variable_names_a_folder";
    const FOLDER: &str = "/folder/of/the/variable";
    if env::var_os("VITRINE_DATA").is_none_or(|folder| folder != FOLDER) {
        let mut again = Command::new(env::current_exe().unwrap());
        let output = again.args(["--exact", NAME]).env("VITRINE_DATA", FOLDER).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    assert_eq!(Locator::from_env(None).explicit, Some(FOLDER.into()));
    assert_eq!(Locator::from_env(Some("named".into())).explicit, Some("named".into()));
}

#[test]
fn a_named_folder_is_never_passed_over() {
    let root = tempdir().unwrap();
    let (address, requests) = serve(right_file);
    write_all(&root.path().join("cache/tiny"), true);
    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let explicit = Some(empty.clone());
    let locator = Locator { explicit, ..fetching(&root.path().join("cache")) };
    let error = locator.load(&spec_at(vec![address]), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::MissingFile { .. }), "{error:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn fetched_once_then_found_in_the_cache() {
    let cache = tempdir().unwrap();
    let (address, requests) = serve(right_file);
    let spec = spec_at(vec![address]);
    let train = fetching(cache.path()).load(&spec, Split::Train).unwrap();
    assert_eq!(train.len(), 6);
    assert_eq!(requests.load(Ordering::SeqCst), 4);
    assert_eq!(fetching(cache.path()).load(&spec, Split::Test).unwrap().len(), 4);
    assert_eq!(requests.load(Ordering::SeqCst), 4);
    // The four files and the lock: nothing half done is left.
    let names = fs::read_dir(cache.path().join("tiny")).unwrap().count();
    assert_eq!(names, 5);
}

#[test]
fn the_next_address_is_tried() {
    let cache = tempdir().unwrap();
    let (absent, _) = serve(|_| None);
    let (wrong, _) = serve(|_| Some(b"<html>sign in to this network</html>".to_vec()));
    let (good, _) = serve(right_file);
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let locator =
        fetching(cache.path()).on_notice(move |line| heard.lock().unwrap().push(line.to_owned()));
    locator.load(&spec_at(vec![absent, wrong, good]), Split::Train).unwrap();
    assert_eq!(notices.lock().unwrap().len(), 3);
}

#[test]
fn a_damaged_cache_is_fetched_again() {
    for damaged in [TRAIN_IMAGES.to_owned(), format!("{TRAIN_IMAGES}.gz")] {
        let cache = tempdir().unwrap();
        let (address, requests) = serve(right_file);
        let dir = write_all(&cache.path().join("tiny"), true);
        fs::write(dir.join(damaged), b"\0\0\x08\x03").unwrap();
        let spec = spec_at(vec![address]);
        assert_eq!(fetching(cache.path()).load(&spec, Split::Train).unwrap().len(), 6);
        assert_eq!(requests.load(Ordering::SeqCst), 4);
        assert!(fetching(cache.path()).load(&spec, Split::Train).is_ok());
        assert_eq!(requests.load(Ordering::SeqCst), 4);
    }
}

#[test]
fn with_none_the_error_lists_all_that_was_tried() {
    let root = tempdir().unwrap();
    let (absent, _) = serve(|_| None);
    let (wrong, _) = serve(|_| Some(gzip(b"\0\0\x08\x01\0\0\0\x06123456")));
    let locator = Locator {
        system: Some(root.path().join("system")),
        ..fetching(&root.path().join("cache"))
    };
    let error = locator.load(&spec_at(vec![absent, wrong]), Split::Train).unwrap_err();
    let DataError::NotFound { attempts, .. } = &error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 4, "{error}");
    let text = error.to_string();
    for part in ["cache/tiny", "system/tiny", absent, wrong, "404", "--data", "$VITRINE_DATA"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    // Nothing wrong reached the cache.
    assert!(!root.path().join("cache/tiny").join(format!("{TRAIN_IMAGES}.gz")).exists());
}

#[test]
fn without_a_cache_folder_nothing_is_fetched() {
    let locator = Locator { fetch: vec![FetchMethod::Https], ..Locator::empty() };
    let error = locator.load(&spec(), Split::Train).unwrap_err();
    assert!(error.to_string().contains("$HOME is not set"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let root = tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let (address, _) = serve(right_file);
    let error = fetching(&file).load(&spec_at(vec![address]), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::Io { action: "create", .. }), "{error:?}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

/// Locks are held by open files, so threads with a locator each meet as processes do.
#[test]
fn several_at_once_fetch_once() {
    let cache = tempdir().unwrap();
    let (address, requests) = serve(right_file);
    let spec = spec_at(vec![address]);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                assert_eq!(fetching(cache.path()).load(&spec, Split::Train).unwrap().len(), 6);
            });
        }
    });
    assert_eq!(requests.load(Ordering::SeqCst), 4);
}

/// A `.tar.gz` of the dataset's files in the folder `tiny-files`, beside another file.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let readme = ("readme.html", b"<html>".to_vec());
    for (name, bytes) in contents().into_iter().chain([readme]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("tiny-files/{name}"), &*bytes).unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

fn archived_at(addresses: Vec<&'static str>) -> DatasetSpec {
    let (md5, folder) = (leak(md5(&archive())), "tiny-files");
    DatasetSpec { origin: Origin::Archive { addresses: addresses.leak(), md5, folder }, ..spec() }
}

#[test]
fn an_archive_is_checked_unpacked_and_kept_as_files() {
    let cache = tempdir().unwrap();
    let (good, requests) = serve(|_| Some(archive()));
    let damaged = || Some([&archive()[..], b"!"].concat());
    let (bad, _) = serve(move |_| damaged());
    let address = |folder: &str| leak(format!("{folder}/tiny.tar.gz"));
    let error =
        fetching(cache.path()).load(&archived_at(vec![address(bad)]), Split::Train).unwrap_err();
    for part in ["MD5 of the archive", "fetch it again", "put the files", bad] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    let spec = archived_at(vec![address(bad), address(good)]);
    assert_eq!(fetching(cache.path()).load(&spec, Split::Train).unwrap().len(), 6);
    assert_eq!(fetching(cache.path()).load(&spec, Split::Test).unwrap().len(), 4);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
    // The four files and the lock: neither the archive nor what else it has.
    assert_eq!(fs::read_dir(cache.path().join("tiny")).unwrap().count(), 5);
}

#[test]
fn the_folder_of_an_unpacked_archive_is_found() {
    let root = tempdir().unwrap();
    write_all(&root.path().join("tiny-files"), false);
    let locator = Locator { explicit: Some(root.path().to_owned()), ..Locator::empty() };
    let found = locator.locate(&archived_at(vec![])).unwrap();
    assert_eq!(found, root.path().join("tiny-files"));
    assert!(locator.locate(&spec()).is_err());
}

#[test]
fn what_is_fetched_by_hand_says_from_where_and_leaves_no_folder() {
    let cache = tempdir().unwrap();
    let spec = DatasetSpec { origin: Origin::ByHand("https://example.org/all.zip"), ..spec() };
    let error = fetching(cache.path()).load(&spec, Split::Train).unwrap_err();
    for part in [TRAIN_IMAGES, "https://example.org/all.zip", "--data"] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}
