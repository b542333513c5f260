//! The nearest known name to one that is not known. Suggestions only; nothing is corrected.

use strsim::damerau_levenshtein;
use vitrine_nn::settings::Key;

use super::sections::keys;

/// Longer names are nobody's slip of the finger, and comparing them costs time.
const LONGEST: usize = 64;

/// The nearest recipe key to a dotted name.
pub(super) fn nearest_key(given: &str) -> Option<String> {
    let given = normal(given)?;
    let (section, leaf) = given.rsplit_once('.').unwrap_or(("", &given));
    let same_section = |key: &Key| key.section() == section;
    let named = |key: &Key| key.leaf() == leaf || key.aliases.contains(&leaf);
    let exact = keys()
        .find(|key| named(key) && same_section(key))
        .or_else(|| keys().find(|key| key.leaf() == leaf))
        .or_else(|| keys().find(|key| named(key)));
    if let Some(key) = exact {
        return Some(key.name.into());
    }
    let distance = |key: &Key| {
        let elsewhere = usize::from(!section.is_empty() && !same_section(key));
        let by_leaf = damerau_levenshtein(leaf, key.leaf()) + elsewhere;
        by_leaf.min(damerau_levenshtein(&given, key.name))
    };
    let (key, distance) = keys().map(|key| (key, distance(key))).min_by_key(|pair| pair.1)?;
    near(distance, leaf).then(|| key.name.into())
}

/// The nearest of these names.
pub(super) fn nearest_of(given: &str, names: &[&str]) -> Option<String> {
    let given = given.to_lowercase();
    if given.len() > LONGEST {
        return None;
    }
    let distances = names.iter().map(|name| (name, damerau_levenshtein(&given, name)));
    let (name, distance) = distances.min_by_key(|pair| pair.1)?;
    near(distance, &given).then(|| (*name).into())
}

fn normal(given: &str) -> Option<String> {
    (given.len() <= LONGEST).then(|| given.trim().to_lowercase().replace('-', "_"))
}

fn near(distance: usize, given: &str) -> bool {
    distance <= (given.chars().count() / 3).max(1)
}
