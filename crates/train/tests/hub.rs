//! Files of a Hub by name: what is sent to whom, what the cache holds afterwards, and every way in which it can fail.
//! The Hub is in `hub_server`.

mod hub_server;

use std::fs;
use std::path::Path;
use std::thread;

use hub_server::{
    Answer, Asked, COMMIT, CONFIG, CONFIG_ETAG, TOKEN, World, files, net, sha256, weights,
};
use vitrine_train::hub::{Hub, HubError, HubName};

const MODEL: &str = "model.safetensors";

fn lines(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.line.as_str()).collect()
}

/// Fetches the large file, and looks whether it is right.
fn fetch_model(hub: &Hub) {
    let path = hub.file(&net(), MODEL).unwrap().unwrap();
    assert!(fs::read(path).unwrap() == weights());
}

#[test]
fn names_are_plain() {
    let read = |text| HubName::parse(text).map(|name| name.to_string());
    assert_eq!(read("hf-hub:timm/vit_tiny.augreg").unwrap(), "timm/vit_tiny.augreg");
    assert_eq!(read("hf-hub:gpt2").unwrap(), "gpt2");
    assert_eq!(read("hf-hub:a/b@refs/pr/1").unwrap(), "a/b@refs/pr/1");
    assert_eq!(read("hf-hub:a/b@main").unwrap(), "a/b");
    for bad in [
        "timm/vit",
        "hf-hub:",
        "hf-hub:/a",
        "hf-hub:a/",
        "hf-hub:a/b/c",
        "hf-hub:../../x",
        "hf-hub:../x",
        "hf-hub:a/..",
        "hf-hub:a/.b",
        "hf-hub:-a/b",
        "hf-hub:a--b",
        "hf-hub:a/b c",
        "hf-hub:a/b?x",
        "hf-hub:a\\b",
        "hf-hub:a/b%2e",
        "hf-hub:a/b@",
        "hf-hub:a/b@../x",
        "hf-hub:a/b@x/../y",
        "hf-hub:a/b@/x",
        "hf-hub:a@b@c",
        "hf-hub:a/ü",
        "hf-hub:.",
    ] {
        let error = HubName::parse(bad).expect_err(bad).to_string();
        assert!(error.contains(bad) && error.contains("hf-hub:ORG/NAME"), "{error}");
    }
}

#[test]
fn file_names_are_plain() {
    let world = World::new();
    for bad in ["../x", "/etc/passwd", "a/../b", "", "a//b", "a\\b", "C:x", "a?b", "-x"] {
        let error = world.client(&[]).file(&net(), bad).expect_err(bad);
        assert!(matches!(error, HubError::Name { .. }), "{error}");
    }
    assert!(world.hub.asked().is_empty());
}

#[test]
fn a_large_file_is_fetched_once_and_the_token_stays_with_the_hub() {
    let world = World::new();
    let hub = world.client(&[]);
    let path = hub.file(&net(), MODEL).unwrap().unwrap();
    assert!(fs::read(&path).unwrap() == weights());
    assert_eq!(path, world.repo().join("snapshots").join(COMMIT).join(MODEL));
    let sum = sha256(&weights());
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs").join(&sum));
    assert_eq!(fs::read_to_string(world.repo().join("refs/main")).unwrap(), COMMIT);
    let blob = format!("blobs/{sum}");
    assert_eq!(files(&world.repo()), [&blob, "refs/main", &format!("snapshots/{COMMIT}/{MODEL}")]);
    let lock = world.cache().join(format!(".locks/models--org--net/{sum}.lock"));
    assert!(lock.exists());

    let (asked, stored) = (world.hub.asked(), world.store.asked());
    assert_eq!(lines(&asked), ["HEAD /org/net/resolve/main/model.safetensors"]);
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(asked[0].headers["accept-encoding"], "identity");
    assert_eq!(lines(&stored), ["GET /blob?Signature=abc"]);
    assert!(!stored[0].headers.contains_key("authorization"), "{stored:?}");
    let notices = world.notices.lock().unwrap().clone();
    assert_eq!(notices, ["fetching model.safetensors of org/net: 1.5 MB"]);

    assert_eq!(hub.file(&net(), MODEL).unwrap().unwrap(), path);
    assert_eq!(lines(&world.hub.asked()), ["HEAD /org/net/resolve/main/model.safetensors"]);
    assert!(world.store.asked().is_empty());
    assert_eq!(world.notices.lock().unwrap().len(), 1);
}

#[test]
fn a_small_file_comes_from_the_hub_itself() {
    let world = World::new();
    let path = world.client(&[]).file(&net(), "sub/config.json").unwrap().unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONFIG);
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../../blobs").join(CONFIG_ETAG));
    let asked = world.hub.asked();
    assert_eq!(
        lines(&asked),
        ["HEAD /org/net/resolve/main/sub/config.json", "GET /org/net/resolve/main/sub/config.json"]
    );
    assert!(asked.iter().all(|asked| asked.headers.contains_key("authorization")));
}

#[test]
fn a_revision_that_moves_links_what_is_there() {
    let world = World::new();
    let hub = world.client(&[]);
    hub.file(&net(), "config.json").unwrap();
    let next = COMMIT.replace('0', "f");
    let moved = next.clone();
    world.hub.answer_with(move |_, usual| usual.with("X-Repo-Commit", &moved));
    world.hub.asked();
    let path = hub.file(&net(), "config.json").unwrap().unwrap();
    assert_eq!(path, world.repo().join("snapshots").join(&next).join("config.json"));
    assert_eq!(fs::read(path).unwrap(), CONFIG);
    assert_eq!(fs::read_to_string(world.repo().join("refs/main")).unwrap(), next);
    assert_eq!(lines(&world.hub.asked()), ["HEAD /org/net/resolve/main/config.json"]);
}

#[test]
fn a_slash_in_a_revision_is_one_part_of_the_address() {
    let world = World::new();
    world.hub.answer_with(|_, _| {
        let answer = Answer::new(200).with("ETag", CONFIG_ETAG).with("X-Repo-Commit", COMMIT);
        answer.body(CONFIG)
    });
    let name = HubName::parse("hf-hub:org/net@refs/pr/1").unwrap();
    world.client(&[]).file(&name, "config.json").unwrap().unwrap();
    assert_eq!(world.hub.asked()[0].line, "HEAD /org/net/resolve/refs%2Fpr%2F1/config.json");
    assert_eq!(fs::read_to_string(world.repo().join("refs/refs/pr/1")).unwrap(), COMMIT);
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let world = World::new();
    let hub = world.client(&[]);
    world.store.answer_with(|_, usual| {
        let (size, half) = (usual.body.len(), usual.body[..600_000].to_vec());
        usual.with("Content-Length", size).body(&half)
    });
    let error = world.error(&hub, MODEL);
    assert!(error.contains("broke off after 600000 of 1500000 bytes"), "{error}");
    assert!(error.contains("run it again"), "{error}");
    assert_eq!(fs::metadata(world.incomplete()).unwrap().len(), 600_000);
    let incomplete = world.incomplete().strip_prefix(world.repo()).unwrap().display().to_string();
    assert_eq!(files(&world.repo()), [incomplete]);
    assert!(world.error(&world.offline(), MODEL).contains("is not in the cache"));

    world.store.answer_with(|_, usual| usual);
    world.store.asked();
    fetch_model(&hub);
    assert_eq!(world.store.asked()[0].headers["range"], "bytes=600000-");
    assert!(!world.incomplete().exists());
    let notices = world.notices.lock().unwrap().clone();
    assert_eq!(notices[1], "fetching model.safetensors of org/net: 0.9 MB");
}

/// What lies under the name of a part, what the store answers to the rest, how often it is asked.
fn resume(here: &[u8], answer: impl Fn(&Asked, Answer) -> Answer + Send + 'static, asked: usize) {
    let world = World::new();
    fs::create_dir_all(world.incomplete().parent().unwrap()).unwrap();
    fs::write(world.incomplete(), here).unwrap();
    world.store.answer_with(answer);
    fetch_model(&world.client(&[]));
    assert_eq!(world.store.asked().len(), asked);
}

#[test]
fn a_server_that_does_not_go_on_starts_over() {
    let ranged = |asked: &Asked| asked.headers.contains_key("range");
    // No ranges: all of it comes.
    resume(b"old", |_, _| Answer::new(200).body(&weights()), 1);
    for status in [416, 400, 500] {
        let refused =
            move |asked: &Asked, usual| if ranged(asked) { Answer::new(status) } else { usual };
        resume(b"old", refused, 2);
    }
    // Another range than the one that was asked for.
    let other = move |asked: &Asked, usual: Answer| match ranged(asked) {
        true => usual.with("Content-Range", "bytes 0-1499999/1500000"),
        false => usual,
    };
    resume(b"old", other, 2);
    // More than the whole is here, or just the whole.
    resume(&[&weights()[..], b"more"].concat(), |_, usual| usual, 1);
    resume(&weights(), |_, usual| usual, 0);
}

#[test]
fn what_differs_from_the_announcement_is_dropped() {
    let world = World::new();
    let hub = world.client(&[]);
    world.store.answer_with(|_, usual| usual.body(&[&weights()[..], b"more"].concat()));
    let error = world.error(&hub, MODEL);
    assert!(error.contains("longer than 1500000 bytes") && error.contains("try again"), "{error}");
    assert!(files(&world.repo()).is_empty());

    world.store.answer_with(|_, usual| usual.body(&vec![7; weights().len()]));
    let error = world.error(&hub, MODEL);
    assert!(error.contains("SHA-256") && error.contains(&sha256(&weights())), "{error}");
    assert!(files(&world.repo()).is_empty());

    // Shorter, in an answer that is complete.
    world.store.answer_with(|_, usual| usual.body(b"short"));
    let error = world.error(&hub, MODEL);
    assert!(error.contains("broke off after 5 of 1500000 bytes"), "{error}");
    // These five bytes are not the file's: with the rest they are found out, and the next run is right.
    world.store.answer_with(|_, usual| usual);
    assert!(world.error(&hub, MODEL).contains("SHA-256"));
    fetch_model(&hub);

    world.store.answer_with(|_, _| Answer::new(403));
    let world = World { root: tempfile::tempdir().unwrap(), ..world };
    let error = world.error(&world.client(&[]), MODEL);
    assert!(error.contains("/blob answered 403"), "{error}");
}

#[test]
fn what_the_hub_refuses_is_told_apart() {
    let world = World::new();
    let (hub, anonymous) = (world.client(&[]), world.client(&[("HF_TOKEN", "")]));
    let refuse = |status: u16, code: &'static str| {
        world.hub.answer_with(move |_, _| Answer::new(status).with("X-Error-Code", code));
    };
    for (status, code) in [(401, "RepoNotFound"), (401, ""), (403, ""), (404, "RepoNotFound")] {
        refuse(status, code);
        let error = world.error(&hub, MODEL);
        let page = format!("{}/org/net does not exist, is private, or is gated", world.hub.address);
        assert!(error.contains(&page) && error.contains(&status.to_string()), "{error}");
        assert!(error.contains("token that was sent is wrong"), "{error}");
        world.hub.asked();
        let error = world.error(&anonymous, MODEL);
        assert!(error.contains("set HF_TOKEN"), "{error}");
        assert!(!world.hub.asked()[0].headers.contains_key("authorization"));
    }
    refuse(403, "GatedRepo");
    assert!(world.error(&hub, MODEL).contains("is gated: access must be asked for"));
    refuse(404, "RevisionNotFound");
    assert!(world.error(&hub, MODEL).contains("has no revision `main`"));
    refuse(404, "");
    assert!(world.error(&hub, MODEL).contains("answered 404"));
    assert!(files(&world.cache()).is_empty());
}

#[test]
fn a_file_that_does_not_exist_is_none() {
    let world = World::new();
    assert_eq!(world.client(&[]).file(&net(), "other.json").unwrap(), None);
    let noted = format!(".no_exist/{COMMIT}/other.json");
    assert_eq!(files(&world.repo()), [&noted, "refs/main"]);
    assert_eq!(fs::metadata(world.repo().join(noted)).unwrap().len(), 0);
    assert_eq!(world.offline().file(&net(), "other.json").unwrap(), None);
    // Of a commit, it is known for ever.
    world.hub.asked();
    let fixed = HubName::parse(&format!("hf-hub:org/net@{COMMIT}")).unwrap();
    assert_eq!(world.client(&[]).file(&fixed, "other.json").unwrap(), None);
    assert!(world.hub.asked().is_empty());
}

#[test]
fn offline_the_cache_is_all_there_is() {
    let world = World::new();
    let offline = world.offline();
    let error = world.error(&offline, MODEL);
    let cache = world.cache().display().to_string();
    assert!(error.contains(&format!("{MODEL} of org/net is not in the cache {cache}")), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    fetch_model(&world.client(&[]));
    world.hub.asked();
    fetch_model(&offline);
    let fixed = HubName::parse(&format!("hf-hub:org/net@{COMMIT}")).unwrap();
    assert!(offline.file(&fixed, MODEL).unwrap().is_some());
    assert!(world.client(&[]).file(&fixed, MODEL).unwrap().is_some());
    let other = HubName::parse("hf-hub:org/net@v2").unwrap();
    assert!(offline.file(&other, MODEL).unwrap_err().to_string().contains("org/net@v2"));
    // A note that is no commit leads nowhere.
    fs::write(world.repo().join("refs/v2"), "../../x").unwrap();
    assert!(offline.file(&other, MODEL).is_err());
    assert!(world.hub.asked().is_empty());
}

#[test]
fn a_hub_that_is_away_leaves_the_cache() {
    let world = World::new();
    let away = world.client(&[("HF_ENDPOINT", "http://127.0.0.1:1")]);
    let error = world.error(&away, MODEL);
    assert!(error.contains("is not in the cache"), "{error}");
    assert!(
        error.contains("http://127.0.0.1:1/org/net/resolve/main/model.safetensors gives no answer"),
        "{error}"
    );
    let hub = world.client(&[]);
    fetch_model(&hub);
    world.notices.lock().unwrap().clear();
    fetch_model(&away);
    for status in [500, 503, 429, 401] {
        world.hub.answer_with(move |_, _| Answer::new(status));
        fetch_model(&hub);
    }
    let notices = world.notices.lock().unwrap().clone();
    assert_eq!(notices.len(), 5);
    assert!(
        notices.iter().all(|notice| notice.ends_with("org/net is taken from the cache as it is")),
        "{notices:?}"
    );
    assert!(notices[2].contains("answered 503"), "{notices:?}");
    assert!(world.error(&hub, "config.json").contains("does not exist, is private, or is gated"));
    // A revision that is gone is not made up for.
    world.hub.answer_with(|_, _| Answer::new(404).with("X-Error-Code", "RevisionNotFound"));
    assert!(world.error(&hub, MODEL).contains("has no revision"));
}

#[test]
fn redirects_are_followed_on_the_hub_and_on_the_web_only() {
    let world = World::new();
    let hub = world.client(&[]);
    let renamed = |asked: &Asked, usual: Answer| match asked.line.contains("/org/net/") {
        true => Answer::new(307).with("Location", "/new/net/resolve/main/x").body(b"moved"),
        false => usual,
    };
    world.hub.answer_with(renamed);
    assert_eq!(hub.file(&net(), "absent").unwrap(), None);
    let asked = world.hub.asked();
    assert_eq!(
        lines(&asked),
        ["HEAD /org/net/resolve/main/absent", "HEAD /new/net/resolve/main/x"]
    );
    assert!(asked[1].headers.contains_key("authorization"));

    for bad in ["file:///etc/passwd", "ftp://127.0.0.1/x", "other/path", "", "http://", "data:,x"] {
        world.hub.answer_with(move |_, usual| usual.with("Location", bad));
        let error = world.error(&hub, MODEL);
        assert!(error.contains("which is not followed"), "{bad}: {error}");
    }
    // Nor from the store.
    world.hub.answer_with(|_, usual| usual);
    world.store.answer_with(|_, _| Answer::new(302).with("Location", "file:///etc/passwd"));
    assert!(world.error(&hub, MODEL).contains("which is not followed"));
    world.store.answer_with(|_, _| Answer::new(302).with("Location", "/again"));
    assert!(world.error(&hub, MODEL).contains("more than 10 redirects"));
    assert!(files(&world.repo().join("blobs")).is_empty());
}

#[test]
fn the_same_host_at_another_port_or_under_another_name_gets_no_token() {
    let world = World::new();
    let named = world.store.address.replace("127.0.0.1", "localhost");
    let user = world.store.address.replace("http://", &format!("{}@", world.hub.address));
    for store in [named, user] {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().to_str().unwrap();
        world.hub.answer_with(move |_, usual| usual.with("Location", format!("{store}/blob")));
        let path = world.client(&[("HF_HOME", home)]).file(&net(), MODEL);
        let stored = world.store.asked();
        assert_eq!(stored.len(), 1, "{path:?}");
        let sent = stored[0].headers.get("authorization");
        assert!(sent.is_none_or(|sent| !sent.contains(TOKEN)), "{sent:?}");
    }
}

#[test]
fn answers_that_would_lead_out_of_the_cache_are_refused() {
    let world = World::new();
    let hub = world.client(&[]);
    let refused = |key: &'static str, value: &'static str, what: &str| {
        world.hub.answer_with(move |_, usual| usual.with(key, value));
        let error = world.error(&hub, "config.json");
        assert!(error.contains(what) && error.contains("is no Hub"), "{value}: {error}");
    };
    for etag in ["\"../../x\"", "/tmp/x", "\"\"", "a b", "W/\"..\"", "a.incomplete"] {
        refused("ETag", etag, "ETag");
    }
    for commit in ["../x", "main", "", "0123456789ABCDEF0123456789ABCDEF01234567"] {
        refused("X-Repo-Commit", commit, "X-Repo-Commit");
    }
    for length in ["-1", "many"] {
        refused("X-Linked-Size", length, "Content-Length");
    }
    world.hub.answer_with(|_, usual| usual.without("X-Linked-Size"));
    assert!(
        world.error(&hub, MODEL).contains("Content-Length"),
        "the redirect's own length is not the file's"
    );
    world.hub.answer_with(|_, usual| usual.with("X-Linked-Size", u64::MAX));
    assert!(world.error(&hub, "config.json").contains("broke off after"));
    assert_eq!(files(world.root.path()).len(), 1, "{:?}", files(world.root.path()));
}

#[test]
fn a_snapshot_is_of_one_commit() {
    let world = World::new();
    let hub = world.client(&[]);
    let folder = hub.snapshot(&net(), MODEL, &["config.json", "other.json"]).unwrap();
    assert_eq!(folder, world.repo().join("snapshots").join(COMMIT));
    assert_eq!(files(&folder), ["config.json", MODEL]);
    let asked = world.hub.asked();
    let of_commit = |file| format!("HEAD /org/net/resolve/{COMMIT}/{file}");
    assert_eq!(asked[1].line, of_commit("config.json"));
    assert_eq!(asked.last().unwrap().line, of_commit("other.json"));
    // Again: one question, and nothing else.
    assert_eq!(hub.snapshot(&net(), MODEL, &["config.json", "other.json"]).unwrap(), folder);
    assert_eq!(lines(&world.hub.asked()), ["HEAD /org/net/resolve/main/model.safetensors"]);
    // Offline, what was never asked for is left out.
    assert_eq!(
        world.offline().snapshot(&net(), MODEL, &["config.json", "new.json"]).unwrap(),
        folder
    );
    assert!(world.offline().snapshot(&net(), "new.json", &[]).is_err());
    let error = hub.snapshot(&net(), "other.json", &[]).unwrap_err();
    assert_eq!(error.to_string(), "org/net has no file other.json");
}

#[test]
fn several_at_once_fetch_once() {
    for _ in 0..10 {
        let world = World::new();
        let hub = world.client(&[]);
        thread::scope(|scope| {
            for file in [MODEL, "config.json", "sub/config.json", MODEL, "config.json", MODEL] {
                let hub = &hub;
                scope.spawn(move || match file {
                    MODEL => fetch_model(hub),
                    _ => assert_eq!(
                        fs::read(hub.file(&net(), file).unwrap().unwrap()).unwrap(),
                        CONFIG
                    ),
                });
            }
        });
        assert_eq!(world.store.asked().len(), 1);
        let asked = world.hub.asked();
        let small = lines(&asked).into_iter().filter(|line| line.starts_with("GET")).count();
        assert_eq!(small, 1, "both names are of one blob");
    }
}

#[test]
fn a_file_of_the_cache_may_be_a_copy_or_a_dangling_link() {
    let world = World::new();
    let hub = world.client(&[]);
    fetch_model(&hub);
    let pointer = hub.file(&net(), MODEL).unwrap().unwrap();
    fs::remove_file(&pointer).unwrap();
    fs::copy(world.repo().join("blobs").join(sha256(&weights())), &pointer).unwrap();
    world.store.asked();
    fetch_model(&hub);
    assert!(world.store.asked().is_empty());
    fs::remove_file(&pointer).unwrap();
    fs::remove_dir_all(world.repo().join("blobs")).unwrap();
    std::os::unix::fs::symlink("../../blobs/gone", &pointer).unwrap();
    fetch_model(&hub);
    assert_eq!(world.store.asked().len(), 1);
}

#[test]
fn the_variables_are_those_of_huggingface_hub() {
    let show = |variables: &[(&str, &str)]| {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Hub::from_variables(|name| Some(value(name)?.1.into())).map(|hub| format!("{hub:?}"))
    };
    let cache_is = |expected: &str, variables: &[(&str, &str)]| {
        let shown = show(variables).unwrap();
        assert!(shown.contains(&format!("cache: {expected:?}")), "{shown}");
        assert!(!shown.contains("Secret"), "{shown}");
    };
    let mut variables = vec![("HF_TOKEN", TOKEN), ("HOME", "/u")];
    cache_is("/u/.cache/huggingface/hub", &variables);
    for (name, value, expected) in [
        ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub"),
        ("HF_HOME", "~/h", "/u/h/hub"),
        ("HF_HUB_CACHE", "/new", "/new"),
    ] {
        variables.push((name, value));
        cache_is(expected, &variables);
    }
    assert!(show(&[]).unwrap_err().to_string().contains("HF_HUB_CACHE is not set"));
    assert!(show(&[("HOME", "/u")]).unwrap().contains("\"https://huggingface.co\""));
    for (name, value, offline) in [
        ("HF_HUB_OFFLINE", "1", true),
        ("HF_HUB_OFFLINE", "True", true),
        ("HF_HUB_OFFLINE", "0", false),
        ("HF_HUB_OFFLINE", "", false),
    ] {
        let shown = show(&[("HOME", "/u"), (name, value)]).unwrap();
        assert!(shown.contains(&format!("offline: {offline}")), "{name}={value}: {shown}");
    }
    for endpoint in [
        "huggingface.co",
        "ftp://x",
        "file:///x",
        "https://",
        "https://me:pass@x",
        "https://x?y",
        "/",
    ] {
        let error = show(&[("HOME", "/u"), ("HF_ENDPOINT", endpoint)]).unwrap_err().to_string();
        assert!(error.contains("HF_ENDPOINT") && !error.contains("pass"), "{endpoint}: {error}");
    }
    let error = show(&[("HOME", "/u"), ("HF_TOKEN", "Secret\u{7}x")]).unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN") && !error.contains("Secret"), "{error}");
}

#[test]
fn the_token_is_the_variable_or_the_file() {
    let world = World::new();
    let file = world.root.path().join("token");
    fs::write(&file, " hf_of_the_file\n").unwrap();
    let sent = |variables: &[(&str, &str)]| {
        world.client(variables).file(&net(), "absent").unwrap();
        world.hub.asked()[0].headers.get("authorization").cloned()
    };
    assert_eq!(sent(&[]).unwrap(), format!("Bearer {TOKEN}"));
    assert_eq!(sent(&[("HF_TOKEN", "")]).unwrap(), "Bearer hf_of_the_file");
    fs::remove_file(file).unwrap();
    assert_eq!(sent(&[("HF_TOKEN", "")]), None);
}
