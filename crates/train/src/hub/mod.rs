//! Files of models on the Hugging Face Hub, or one like it, by name: which Hub, which cache, and what is asked of whom.
//! What the files hold is not known here.

mod cache;
mod download;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use cache::is_commit;
use thiserror::Error;

/// Why a file of a Hub could not be had. No message holds a token, or the query of an address, which may sign it.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum HubError {
    /// The name of a model, or of a file.
    #[error("`{given}` names no {what}; its parts are of letters, digits, `.`, `_` and `-`")]
    Name { given: String, what: &'static str },
    /// A variable of the environment.
    #[error("{name} {problem}")]
    Variable { name: &'static str, problem: &'static str },
    /// The Hub knows the repository, but no such revision or file.
    #[error("{repo} has no {what}")]
    Missing { repo: String, what: String },
    /// The file is not in the cache, and did not get there either.
    #[error("{file} of {name} is not in the cache {}, and {why}", cache.display())]
    NotCached { name: HubName, file: String, cache: PathBuf, why: String },
    /// A file or folder of the cache.
    #[error("cannot use {}: {source}; HF_HUB_CACHE may name another folder", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A model on a Hub, written `hf-hub:ORG/NAME` or `hf-hub:ORG/NAME@REVISION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    repo: String,
    revision: String,
}

impl HubName {
    /// What the name of a model on a Hub begins with.
    pub const PREFIX: &str = "hf-hub:";

    /// Reads a name. Its parts become parts of paths and addresses, so only plain ones pass.
    pub fn parse(given: &str) -> Result<Self, HubError> {
        let name = given.strip_prefix(Self::PREFIX).unwrap_or_default();
        let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
        // The cache writes `--` for the `/`.
        let one_repo = repo.matches('/').count() <= 1 && !repo.contains("--");
        if !one_repo || !is_plain(repo) || !is_plain(revision) {
            let what = "model on a Hub: it is written hf-hub:ORG/NAME or hf-hub:ORG/NAME@REVISION";
            return Err(HubError::Name { given: given.into(), what });
        }
        Ok(Self { repo: repo.into(), revision: revision.into() })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// Whether each part between slashes is of letters, digits, `.`, `_` and `-`, and none leads upwards or is hidden.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    })
}

/// A Hub, and the cache that is shared with Python's `huggingface_hub`.
///
/// The Hub is asked each time what a branch or tag stands for; what is in the cache is not fetched again. Where the Hub
/// gives no answer, the cache is taken as it is.
pub struct Hub {
    /// The token is sent to its scheme, host and port, and nowhere else.
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
    agent: ureq::Agent,
    notice: Box<dyn Fn(&str) + Send + Sync>,
}

impl Hub {
    /// The Hub and the cache that variables of the environment name, as `huggingface_hub` reads them. An empty one
    /// counts as not set.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        let bad = |name, problem| HubError::Variable { name, problem };

        let user = set("HOME").map(PathBuf::from);
        let folder = |name: &str| {
            let path = PathBuf::from(set(name)?);
            let in_user = user.as_ref().zip(path.strip_prefix("~").ok());
            Some(in_user.map(|(user, rest)| user.join(rest)).unwrap_or(path))
        };
        let caches = folder("XDG_CACHE_HOME").or_else(|| Some(user.as_ref()?.join(".cache")));
        let home = folder("HF_HOME").or_else(|| Some(caches?.join("huggingface")));
        let cache = folder("HF_HUB_CACHE").or_else(|| Some(home.as_ref()?.join("hub")));
        let nowhere = "is not set, nor is HF_HOME or HOME: there is no folder for what is fetched";
        let cache = cache.ok_or_else(|| bad("HF_HUB_CACHE", nowhere))?;

        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if endpoint.contains(['@', '?', '#']) || download::origin(&endpoint).is_none() {
            let problem = "is no address of a Hub, like https://HOST or http://HOST:PORT/PATH";
            return Err(bad("HF_ENDPOINT", problem));
        }

        let token = text("HF_TOKEN").or_else(|| fs::read_to_string(home?.join("token")).ok());
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if !token.iter().flat_map(|token| token.bytes()).all(|b| b.is_ascii_graphic()) {
            let problem = "(or its file) is no token: copy it again from the Hub's settings";
            return Err(bad("HF_TOKEN", problem));
        }

        let offline = text("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_uppercase();
        let offline = ["1", "ON", "YES", "TRUE"].contains(&offline.as_str());
        let (agent, notice) = (download::agent(), Box::new(|_: &str| ()));
        Ok(Self { endpoint, cache, token, offline, agent, notice })
    }

    /// Has `notice` called with a line of text before what may take long.
    #[must_use]
    pub fn on_notice(mut self, notice: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notice = Box::new(notice);
        self
    }

    /// The file's path in the cache, where it is fetched to if need be. `None`: the repository has no such file.
    pub fn file(&self, name: &HubName, file: &str) -> Result<Option<PathBuf>, HubError> {
        let wanted = Wanted { hub: self, name, file };
        Ok(wanted.find()?.map(|commit| wanted.path(&format!("snapshots/{commit}/{file}"))))
    }

    /// The folder of one commit with the file that is needed, and those of the others that the commit has. All are of
    /// the commit that the name stood for when the first was asked for. Offline, others that are not in the cache are
    /// left out.
    pub fn snapshot(
        &self,
        name: &HubName,
        needed: &str,
        others: &[&str],
    ) -> Result<PathBuf, HubError> {
        let wanted = Wanted { hub: self, name, file: needed };
        let (repo, what) = (name.to_string(), format!("file {needed}"));
        let commit = wanted.find()?.ok_or(HubError::Missing { repo, what })?;
        let fixed = HubName { repo: name.repo.clone(), revision: commit };
        for file in others {
            match self.file(&fixed, file) {
                Err(HubError::NotCached { .. }) if self.offline => {}
                found => drop(found?),
            }
        }
        Ok(wanted.path(&format!("snapshots/{}", fixed.revision)))
    }
}

/// Without the token.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, cache, offline, .. } = self;
        write!(f, "Hub {{ endpoint: {endpoint:?}, cache: {cache:?}, offline: {offline} }}")
    }
}

/// A file of a repository on a Hub. What the cache knows of it is in `cache`, what the Hub does in `download`.
struct Wanted<'a> {
    hub: &'a Hub,
    name: &'a HubName,
    file: &'a str,
}

impl Wanted<'_> {
    /// The commit that the name stands for, once its snapshot has the file. `None`: it has no such file.
    fn find(&self) -> Result<Option<String>, HubError> {
        let Self { hub, name, file } = *self;
        if !is_plain(file) {
            return Err(HubError::Name { given: file.into(), what: "file of a repository" });
        }
        if (hub.offline || is_commit(&name.revision))
            && let Some(known) = self.cached()
        {
            return Ok(known);
        }
        if hub.offline {
            return Err(self.not_cached("HF_HUB_OFFLINE forbids to fetch it".into()));
        }
        match self.ask() {
            Ok(Some(remote)) => self.fetch(&remote).map(|()| Some(remote.commit)),
            Err(HubError::NotCached { why, .. }) if let Some(known) = self.cached() => {
                (hub.notice)(&format!("{why}; {name} is taken from the cache as it is"));
                Ok(known)
            }
            none_or_error => none_or_error.map(|_| None),
        }
    }
}
