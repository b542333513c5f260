//! Whose names a file of weights has. The names are data (`dialects/names.toml`); here is how they are read. Files are
//! the trainer's business.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde::Deserialize;
use vitrine_nn::Table;

/// A library's names for parameters, in one of their forms.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Dialect {
    /// What the table of its names is called.
    pub name: String,
    /// The table that it starts from.
    base: String,
    prefixes: Vec<String>,
    ignored: Vec<String>,
    /// Whether a name that has no row is the same there.
    same: bool,
    /// Patterns, ours and theirs.
    names: Table,
}

/// Tensors that hold the same numbers, joined along the first axis of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Our names.
    pub ours: Vec<String>,
    /// Theirs; none if the dialect has no name for it.
    pub theirs: Vec<String>,
}

/// What stands for the number of a block and of a stage, and for the last part of a name.
const HOLES: [char; 3] = ['#', '@', '*'];

/// The last parts of names.
const LAST: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// What the weights of a classifier's head are called here, whatever the family.
const HEADS: [&str; 5] =
    ["head.weight", "head_dist.weight", "fc.weight", "head.fc.weight", "classifier.fc.weight"];

impl Dialect {
    /// All of them.
    pub fn all() -> &'static [Self] {
        static ALL: OnceLock<Vec<Dialect>> = OnceLock::new();
        ALL.get_or_init(|| {
            let tables: Table =
                include_str!("../dialects/names.toml").parse().expect("a test reads all dialects");
            let mut all: Vec<Self> = Vec::new();
            for (name, table) in tables {
                let own: Self = table.try_into().expect("a test reads all dialects");
                let base = all.iter().find(|known| known.name == own.base).cloned();
                let mut dialect = Self { name, ..base.unwrap_or_else(|| own.clone()) };
                dialect.names.extend(own.names);
                all.push(dialect);
            }
            all
        })
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|dialect| dialect.name == name)
    }

    /// All of our names in groups, in their order, with a prefix before theirs.
    pub fn groups(&self, names: &[&str], prefix: &str) -> Vec<Group> {
        let all: HashSet<&str> = names.iter().copied().collect();
        let mut done: HashSet<String> = HashSet::new();
        let mut groups = Vec::new();
        for name in names {
            if done.contains(*name) {
                continue;
            }
            let row = self.names.iter().find_map(|(ours, theirs)| {
                let (found, theirs) = (matched(ours.split(" + ").next()?, name)?, theirs.as_str()?);
                let ours: Vec<String> =
                    ours.split(" + ").map(|name| filled(name, &found)).collect();
                // A row of what this model does not have is another model's.
                ours.iter().all(|name| all.contains(name.as_str())).then(|| Group {
                    ours,
                    theirs: theirs
                        .split(" + ")
                        .map(|name| prefixed(&filled(name, &found), prefix))
                        .collect(),
                })
            });
            let group = row.unwrap_or_else(|| Group {
                ours: vec![(*name).to_owned()],
                theirs: self.same.then(|| format!("{prefix}{name}")).into_iter().collect(),
            });
            done.extend(group.ours.iter().cloned());
            groups.push(group);
        }
        groups
    }

    /// What the weights of a classifier's head are called, in all of them.
    pub fn head_weights() -> impl Iterator<Item = String> {
        HEADS.into_iter().flat_map(|weight| {
            let groups = Self::forms().flat_map(|(form, prefix)| form.groups(&[weight], prefix));
            groups.flat_map(|group| group.theirs)
        })
    }

    /// Each with each of the prefixes that it may have.
    fn forms() -> impl DoubleEndedIterator<Item = (&'static Self, &'static str)> {
        let prefixes = |form: &'static Self| form.prefixes.iter().map(move |p| (form, p.as_str()));
        Self::all().iter().flat_map(prefixes)
    }

    /// Whether a tensor of theirs has no meaning for a classifier of pictures.
    pub fn ignores(&self, theirs: &str, prefix: &str) -> bool {
        self.ignored.iter().any(|part| match part.strip_prefix('*') {
            Some(end) => theirs.ends_with(end),
            None => theirs.starts_with(&prefixed(part, prefix)),
        })
    }

    /// The dialect and prefix in which most of our names are among theirs.
    pub fn detect(names: &[&str], theirs: &HashSet<&str>) -> (&'static Self, &'static str) {
        let known = |(form, prefix): &(&Self, &str)| {
            let groups = form.groups(names, prefix);
            let found = groups.iter().flat_map(|group| &group.theirs);
            found.filter(|name| theirs.contains(name.as_str())).count()
        };
        // The first of equals.
        Self::forms().rev().max_by_key(known).expect("there are dialects")
    }
}

/// What stands in the holes of a pattern that a name fits.
fn matched<'a>(pattern: &str, name: &'a str) -> Option<Vec<(char, &'a str)>> {
    let Some(at) = pattern.find(HOLES) else {
        return (pattern == name).then(Vec::new);
    };
    let rest = name.strip_prefix(&pattern[..at])?;
    let hole = pattern[at..].chars().next()?;
    let pattern = &pattern[at + 1..];
    let end = match hole {
        '#' | '@' => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
        _ => LAST.iter().find(|word| rest.starts_with(*word))?.len(),
    };
    let mut found = matched(pattern, &rest[end..])?;
    found.push((hole, &rest[..end]));
    (end > 0).then_some(found)
}

fn filled(pattern: &str, found: &[(char, &str)]) -> String {
    found.iter().fold(pattern.to_owned(), |name, (hole, text)| name.replace(*hole, text))
}

fn prefixed(name: &str, prefix: &str) -> String {
    match name.strip_prefix('/') {
        Some(outside) => outside.to_owned(),
        None => format!("{prefix}{name}"),
    }
}
