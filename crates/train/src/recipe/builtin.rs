//! The recipes that come with the program. Their text is in `crates/train/recipes/`.

const BUILTIN: [(&str, &str); 2] = [
    ("d2l", include_str!("../../recipes/d2l.toml")),
    ("d2l-jax", include_str!("../../recipes/d2l-jax.toml")),
];

/// Names of the built-in recipes.
pub fn builtin_names() -> Vec<&'static str> {
    BUILTIN.iter().map(|(name, _)| *name).collect()
}

/// The text of a built-in recipe, as it stands in its file.
pub fn builtin_text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
