//! A Hub on this machine: one server that knows the files, another that has the large ones, as the real one does. Both
//! keep what they are asked. No test.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};
use vitrine_train::hub::{Hub, HubName};

pub const TOKEN: &str = "hf_SecretOfTheTest";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const CONFIG: &[u8] = b"{\"architecture\": \"vit\"}";
pub const CONFIG_ETAG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What a server was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub headers: HashMap<String, String>,
}

/// What it answers. The length is that of the body, unless a header gives another.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.headers.retain(|(known, _)| known != key);
        self.headers.push((key.into(), value.to_string()));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.headers.retain(|(known, _)| known != key);
        self
    }

    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }
}

type Rule = Box<dyn Fn(&Asked, Answer) -> Answer + Send>;

pub struct Server {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Changes the usual answer.
    rule: Arc<Mutex<Rule>>,
}

impl Server {
    fn start(usual: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_, usual| usual)));
        let server = Self { address, asked: Arc::clone(&asked), rule: Arc::clone(&rule) };
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let Some(request) = read(&stream) else { continue };
                let answer = rule.lock().unwrap()(&request, usual(&request));
                let head = request.line.starts_with("HEAD ");
                asked.lock().unwrap().push(request);
                // The client may have heard enough.
                let _ = write(&mut stream, &answer, head);
            }
        });
        server
    }

    pub fn answer_with(&self, rule: impl Fn(&Asked, Answer) -> Answer + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next()?.ok()?;
    let mut headers = HashMap::new();
    for line in lines {
        match line.ok()?.split_once(": ") {
            Some((key, value)) => headers.insert(key.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    Some(Asked { line: line.trim_end_matches(" HTTP/1.1").to_owned(), headers })
}

fn write(stream: &mut TcpStream, answer: &Answer, head: bool) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {} Text\r\nConnection: close\r\n", answer.status);
    for (key, value) in &answer.headers {
        text += &format!("{key}: {value}\r\n");
    }
    if !answer.headers.iter().any(|(key, _)| key == "Content-Length") {
        text += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    stream.write_all(format!("{text}\r\n").as_bytes())?;
    if head { Ok(()) } else { stream.write_all(&answer.body) }
}

/// The large file.
pub fn weights() -> Vec<u8> {
    (0..1_500_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Hub with one repository, `org/net`, and an empty cache.
pub struct World {
    pub hub: Server,
    pub store: Server,
    pub root: tempfile::TempDir,
    pub notices: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub fn new() -> Self {
        let weights = weights();
        let (sum, size) = (sha256(&weights), weights.len());
        let store = Server::start(move |asked| ranged(asked, &weights));
        let large = format!("{}/blob?Signature=abc", store.address);
        let hub = Server::start(move |asked| {
            let path = asked.line.split(' ').nth(1).unwrap();
            let known = |file| {
                path == format!("/org/net/resolve/main/{file}")
                    || path == format!("/org/net/resolve/{COMMIT}/{file}")
            };
            if known("config.json") || known("sub/config.json") {
                let answer = Answer::new(200).with("X-Repo-Commit", COMMIT).body(CONFIG);
                answer.with("ETag", format!("\"{CONFIG_ETAG}\""))
            } else if known("model.safetensors") {
                Answer::new(302)
                    .with("X-Repo-Commit", COMMIT)
                    .with("X-Linked-Etag", format!("\"{sum}\""))
                    .with("X-Linked-Size", size)
                    .with("ETag", "\"of-the-redirect\"")
                    .with("Location", &large)
                    .body(b"Found. Redirecting.")
            } else {
                let answer = Answer::new(404).with("X-Error-Code", "EntryNotFound");
                answer.with("X-Repo-Commit", COMMIT)
            }
        });
        let root = tempfile::tempdir().unwrap();
        Self { hub, store, root, notices: Arc::default() }
    }

    pub fn cache(&self) -> PathBuf {
        self.root.path().join("hub")
    }

    pub fn repo(&self) -> PathBuf {
        self.cache().join("models--org--net")
    }

    pub fn incomplete(&self) -> PathBuf {
        self.repo().join("blobs").join(sha256(&weights()) + ".incomplete")
    }

    /// With a token, and these variables.
    pub fn client(&self, variables: &[(&str, &str)]) -> Hub {
        let variable = |name: &str| {
            let given = variables.iter().find(|(known, _)| *known == name);
            match (given, name) {
                (Some((_, value)), _) => Some(OsString::from(value)),
                (None, "HF_HOME") => Some(self.root.path().into()),
                (None, "HF_ENDPOINT") => Some((&self.hub.address).into()),
                (None, "HF_TOKEN") => Some(TOKEN.into()),
                _ => None,
            }
        };
        let notices = Arc::clone(&self.notices);
        let hub = Hub::from_variables(variable).unwrap();
        hub.on_notice(move |text| notices.lock().unwrap().push(text.to_owned()))
    }

    pub fn offline(&self) -> Hub {
        self.client(&[("HF_HUB_OFFLINE", "1")])
    }

    /// The text of the error that asking for the file must be, without the token.
    pub fn error(&self, hub: &Hub, file: &str) -> String {
        let error = hub.file(&net(), file).expect_err("this must fail");
        for text in
            [error.to_string(), format!("{error:?}"), self.notices.lock().unwrap().join(" ")]
        {
            assert!(!text.contains("Secret"), "the token is in: {text}");
            assert!(!text.contains("Signature"), "a signature is in: {text}");
        }
        error.to_string()
    }
}

pub fn net() -> HubName {
    HubName::parse("hf-hub:org/net").unwrap()
}

/// The bytes that are asked for, by a server that knows ranges.
fn ranged(asked: &Asked, bytes: &[u8]) -> Answer {
    let range = asked.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let Some(start) = range.and_then(|range| range.strip_suffix('-')?.parse::<usize>().ok()) else {
        return Answer::new(200).body(bytes);
    };
    let size = bytes.len();
    if start >= size {
        return Answer::new(416);
    }
    let range = format!("bytes {start}-{}/{size}", size - 1);
    Answer::new(206).with("Content-Range", range).body(&bytes[start..])
}

/// All files under a folder but locks, by their paths in it.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if entry.path().extension().is_none_or(|extension| extension != "lock") {
                found.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}
