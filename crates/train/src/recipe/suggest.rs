//! The nearest known name to one that is not known. Suggestions only; nothing is corrected.

use strsim::damerau_levenshtein;
use vitrine_nn::settings::Key;

use super::sections::{SECTIONS, keys};

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

/// The nearest section to the name of a table.
pub(super) fn nearest_section(given: &str) -> Option<String> {
    nearest_of(given, &SECTIONS)
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

#[cfg(test)]
mod tests {
    use super::{nearest_key, nearest_of, nearest_section};

    #[test]
    fn slips_aliases_and_wrong_sections_lead_to_the_key() {
        for (given, key) in [
            ("model.head", "model.heads"),
            ("model.haeds", "model.heads"),
            ("model.mlp-width", "model.mlp_width"),
            ("optimizer.lr", "optimizer.learning_rate"),
            ("lr", "optimizer.learning_rate"),
            ("run.learning_rate", "optimizer.learning_rate"),
            ("epoch", "run.epochs"),
            ("Run.Epochs", "run.epochs"),
            ("data.name", "data.dataset"),
            ("model.num_layers", "model.depth"),
            ("optimiser.momentum", "optimizer.momentum"),
            ("schedule.warmup_epoch", "schedule.warmup_epochs"),
        ] {
            assert_eq!(nearest_key(given).as_deref(), Some(key), "{given}");
        }
    }

    #[test]
    fn nothing_near_gives_no_suggestion() {
        assert_eq!(nearest_key("model.quaternion"), None);
        assert_eq!(nearest_key(&"x".repeat(100_000)), None);
        assert_eq!(nearest_key(""), None);
        assert_eq!(nearest_section("banana"), None);
        assert_eq!(nearest_of("imagenet-22k", &["d2l", "d2l-jax"]), None);
    }

    #[test]
    fn sections_and_names() {
        assert_eq!(nearest_section("optimiser").as_deref(), Some("optimizer"));
        assert_eq!(nearest_of("d2l_jax", &["d2l", "d2l-jax"]).as_deref(), Some("d2l-jax"));
    }
}
