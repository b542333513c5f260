//! `docs/recipes.md` has the table of keys that the program has.

use std::collections::BTreeSet;
use std::path::Path;

use vitrine_models::families;
use vitrine_nn::settings::Fallback;
use vitrine_train::recipe::keys;

fn table() -> String {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let rows = keys().map(|key| {
        let default = match key.default {
            Fallback::Required => "from the preset".to_owned(),
            Fallback::Open => "none".to_owned(),
            Fallback::Toml(text) => format!("`{text}`"),
        };
        let flag = key.flag.map_or(String::new(), |flag| format!("`{flag}`"));
        let (name, about, allowed) = (key.name, key.about, key.kind.allowed());
        let rest = format!("{about} | {allowed} | {default} | {flag} |\n");
        let family = families().skip(1).find(|(_, keys)| keys.iter().any(|k| std::ptr::eq(k, key)));
        match (family, seen.insert(format!("{name} {rest}"))) {
            // As the family before it.
            (Some(_), false) => String::new(),
            (Some((family, _)), true) => format!("| `{name}` of `{family}` | {rest}"),
            (None, _) => format!("| `{name}` | {rest}"),
        }
    });
    let head = "| key | meaning | values | default | flag |\n|---|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

#[test]
fn the_documented_table_of_keys_is_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains(&table()), "put this table into docs/recipes.md:\n{}", table());
}
