//! Requests to a Hub: what it says of a file, and the file's bytes, checked before they reach their place. The token
//! goes to the Hub's own scheme, host and port alone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{Method, Request, Response, Uri};
use ureq::{Agent, Body};

use super::cache::{create_folder_of, io_error, is_commit};
use super::{HubError, HubName, Wanted, is_plain};

/// Follows no redirect by itself. A body may take any time, but each wait for more of it has a limit.
pub(super) fn agent() -> Agent {
    let patience = Some(Duration::from_secs(60));
    Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .accept_encoding("identity")
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(patience)
        .timeout_per_read(patience)
        .build()
        .into()
}

/// Scheme, host and port of an address of the web, as they are written there. `None`: it is no such address.
pub(super) fn origin(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "https" | "http"))?;
    Some(format!("{scheme}://{}", uri.authority()?.as_str().to_ascii_lowercase()))
}

type Answer = (Response<Body>, String);

/// What the Hub says of a file.
pub(super) struct Remote {
    pub commit: String,
    etag: String,
    size: u64,
    address: String,
}

impl Wanted<'_> {
    /// Asks the Hub about the file. `None`: there is none, which the cache then knows.
    pub fn ask(&self) -> Result<Option<Remote>, HubError> {
        let HubName { repo, revision } = self.name;
        let page = format!("{}/{repo}", self.hub.endpoint);
        let asked = format!("{page}/resolve/{}/{}", revision.replace('/', "%2F"), self.file);
        let (response, address) = self.send(Method::HEAD, &asked, 0)?;
        let header = |key| header(&response, key);
        let commit = header("X-Repo-Commit").filter(|commit| is_commit(commit));
        let status = response.status().as_u16();
        match (status, header("X-Error-Code").unwrap_or_default()) {
            (200..=399, _) => {}
            (404, "EntryNotFound") => {
                if let Some(commit) = commit {
                    self.note(commit, false);
                }
                return Ok(None);
            }
            (404, "RevisionNotFound") => {
                let what = format!("revision `{revision}`: name a branch, a tag or a commit");
                return Err(HubError::Missing { repo: page, what });
            }
            (401 | 403, code) | (404, code @ "RepoNotFound") => {
                let advice = match (&self.hub.token, code) {
                    (None, _) => "if it exists, set HF_TOKEN to a token that may read it",
                    (_, "GatedRepo") => "it is gated: access must be asked for on that page",
                    _ => "the token that was sent is wrong, or its account may not read it",
                };
                let why = "does not exist, is private, or is gated";
                return Err(self.not_cached(format!("{page} {why} ({status}): {advice}")));
            }
            _ => return Err(self.no_use(&asked, format!("answered {status}"))),
        }
        let missing = |what| self.no_use(&asked, format!("gave no {what}: it is no Hub"));
        let etag = header("X-Linked-Etag").or(header("ETag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let etag = etag.filter(|etag| is_plain(etag) && !etag.contains(['.', '/']));
        // The length of a redirect is that of its own text.
        let own = header("Content-Length").filter(|_| status == 200);
        let size = header("X-Linked-Size").or(own).and_then(|size| size.parse().ok());
        Ok(Some(Remote {
            commit: commit.ok_or_else(|| missing("X-Repo-Commit"))?.to_owned(),
            etag: etag.ok_or_else(|| missing("ETag"))?.to_owned(),
            size: size.ok_or_else(|| missing("Content-Length"))?,
            address,
        }))
    }

    /// Brings the file into the cache, unless it is there.
    pub fn fetch(&self, remote: &Remote) -> Result<(), HubError> {
        let Remote { commit, etag, .. } = remote;
        let [pointer, _] = self.places(commit);
        // The cache may be one that cannot be written to.
        if !pointer.exists() {
            let _lock = self.lock(etag)?;
            let blob = self.path(&format!("blobs/{etag}"));
            if !blob.exists() {
                self.complete(remote, &blob)?;
            }
            self.link(&blob, &pointer)?;
        }
        self.note(commit, true);
        Ok(())
    }

    /// Fetches what the blob still lacks, and checks the whole, which is dropped if it is wrong.
    fn complete(&self, remote: &Remote, blob: &Path) -> Result<(), HubError> {
        let Remote { size, ref etag, .. } = *remote;
        let path = &blob.with_extension("incomplete");
        create_folder_of(path)?;
        let here = fs::metadata(path).map_or(0, |found| found.len());
        let start = if here > size { 0 } else { here };
        let left = (size - start) as f64 / 1e6;
        (self.hub.notice)(&format!("fetching {} of {}: {left:.1} MB", self.file, self.name.repo));
        if start == 0 || start < size {
            self.receive(remote, path, start)?;
        }
        let sum = sha256(path).map_err(io_error(path))?;
        // The files of LFS are named by their SHA-256, all others by a hash of git's own.
        let wrong = if fs::metadata(path).is_ok_and(|found| found.len() > size) {
            format!("is longer than {size} bytes")
        } else if etag.len() == 64 && *etag != sum {
            format!("has the SHA-256 {sum}, not {etag}")
        } else {
            return fs::rename(path, blob).map_err(io_error(blob));
        };
        fs::remove_file(path).map_err(io_error(path))?;
        Err(self.not_cached(format!("what came {wrong}. Nothing of it was kept; try again")))
    }

    /// Writes the bytes from `start` on to the end of the file at `path`, or all of them over it if the server does not
    /// go on. If there are more than announced, one of these is written too.
    fn receive(&self, remote: &Remote, path: &Path, start: u64) -> Result<(), HubError> {
        let Remote { size, ref address, .. } = *remote;
        let (response, _) = self.send(Method::GET, address, start)?;
        let range = header(&response, "Content-Range").unwrap_or_default();
        let kept = match response.status().as_u16() {
            200 => 0,
            206 if range.starts_with(&format!("bytes {start}-")) => start,
            _ if start > 0 => return self.receive(remote, path, 0),
            status => return Err(self.no_use(address, format!("answered {status}"))),
        };
        let mut options = File::options();
        options.create(true).write(true).append(kept > 0).truncate(kept == 0);
        let mut out = options.open(path).map_err(io_error(path))?;
        let mut body = response.into_body().into_reader().take((size - kept).saturating_add(1));
        let copied = io::copy(&mut body, &mut out);
        out.sync_all().map_err(io_error(path))?;
        let have = out.metadata().map_err(io_error(path))?.len();
        if have >= size {
            return Ok(());
        }
        let why = copied.err().map_or(String::new(), |e| format!(" ({e})"));
        let broken = format!("it broke off after {have} of {size} bytes{why}");
        Err(self.not_cached(format!("{broken}; they are kept: run it again and it goes on")))
    }

    /// Sends a request, and follows where redirects lead: the answer, and the address that it came from or leads to. A
    /// redirect away from the Hub answers what is asked by `HEAD`: it is the Hub that knows the file.
    fn send(&self, method: Method, address: &str, start: u64) -> Result<Answer, HubError> {
        let of_hub = |address: &str| origin(address) == origin(&self.hub.endpoint);
        let mut address = address.to_owned();
        for _ in 0..=10 {
            let mut request = Request::builder().method(&method).uri(&address);
            if start > 0 {
                request = request.header("Range", format!("bytes={start}-"));
            }
            if let Some(token) = self.hub.token.as_ref().filter(|_| of_hub(&address)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(ureq::Error::from);
            let response = request.and_then(|request| self.hub.agent.run(request));
            let no_answer = |e| self.no_use(&address, format!("gives no answer: {e}"));
            let response = response.map_err(no_answer)?;
            if !response.status().is_redirection() {
                return Ok((response, address));
            }
            let location = header(&response, "Location").unwrap_or_default();
            let next = redirected(&address, location).ok_or_else(|| {
                let target = without_query(location);
                self.no_use(&address, format!("leads to `{target}`, which is not followed"))
            })?;
            if method == Method::HEAD && !of_hub(&next) {
                return Ok((response, next));
            }
            address = next;
        }
        Err(self.no_use(&address, "comes after more than 10 redirects".into()))
    }

    fn no_use(&self, address: &str, why: String) -> HubError {
        self.not_cached(format!("{} {why}", without_query(address)))
    }

    pub fn not_cached(&self, why: String) -> HubError {
        let (name, file) = (self.name.clone(), self.file.into());
        HubError::NotCached { name, file, cache: self.hub.cache.clone(), why }
    }
}

fn header<'a>(response: &'a Response<Body>, key: &str) -> Option<&'a str> {
    response.headers().get(key)?.to_str().ok()
}

/// Where a redirect leads: a path on the same host, or an address of the web that is no less secure.
fn redirected(from: &str, location: &str) -> Option<String> {
    let here = origin(from)?;
    let next =
        if location.starts_with('/') { format!("{here}{location}") } else { location.to_owned() };
    (origin(&next)?.starts_with("https:") || here.starts_with("http:")).then_some(next)
}

/// What an address says before its query, which may be a signature.
fn without_query(address: &str) -> &str {
    address.split(['?', '#']).next().unwrap_or(address)
}

fn sha256(path: &Path) -> io::Result<String> {
    let (mut file, mut sum, mut block) = (File::open(path)?, Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => sum.update(&block[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_secure() {
        assert_eq!(redirected("https://hub:8/a/b?c", "/d").unwrap(), "https://hub:8/d");
        assert_eq!(redirected("https://hub/a", "https://store/b?c").unwrap(), "https://store/b?c");
        assert_eq!(redirected("http://hub/a", "https://store/b").unwrap(), "https://store/b");
        assert_eq!(redirected("https://hub/a", "http://store/b"), None);
        assert_eq!(redirected("https://hub/a", "file:///b"), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("HTTPS://Hub/a?b").as_deref(), Some("https://hub"));
        let hub = origin("https://hub").unwrap();
        for other in
            ["http://hub", "https://hub:444", "https://hub.x", "https://hub@x", "https://x"]
        {
            assert_ne!(origin(other).as_ref(), Some(&hub), "{other}");
        }
        assert_eq!(origin("hub/a"), None);
    }
}
