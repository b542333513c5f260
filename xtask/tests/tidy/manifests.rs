//! The manifests: versions stand once, in the root, as caret ranges; members take them from there. The lock file pins.

use toml::{Table, Value};

use crate::repository::File;

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Normal,
    Dev,
    Build,
}

/// One entry of a dependency table.
pub struct Dependency {
    /// The name it goes by in the manifest.
    pub key: String,
    /// The package's own name.
    pub package: String,
    pub kind: Kind,
    value: Value,
}

/// Versions in the root are caret ranges, all three numbers given; our own crates are given by path.
pub fn check_root(root: &File) -> Vec<String> {
    let manifest = parse(root);
    let mut findings = Vec::new();
    for (key, value) in workspace_dependencies(&manifest) {
        let version = value.as_str().or_else(|| value.get("version").and_then(Value::as_str));
        let numbers = version.map(|version| version.split('.').map(str::parse::<u32>));
        let caret = numbers.is_some_and(|mut n| n.clone().count() == 3 && n.all(|n| n.is_ok()));
        if value.get("path").is_none() && !caret {
            findings.push(format!("{}: {key} needs a caret range, \"x.y.z\"", root.path));
        }
        if value.get("git").is_some() {
            findings.push(format!("{}: {key} comes from git, not from the registry", root.path));
        }
    }
    findings
}

/// Members inherit each version and the lints.
pub fn check_member(member: &File) -> Vec<String> {
    let manifest = parse(member);
    let mut findings = Vec::new();
    for dependency in dependency_tables(&manifest) {
        if !inherits(&dependency.value) {
            let key = dependency.key;
            findings.push(format!("{}: {key} must be `workspace = true`", member.path));
        }
    }
    if !manifest.get("lints").is_some_and(inherits) {
        findings.push(format!("{}: `[lints] workspace = true` is missing", member.path));
    }
    findings
}

/// The package's name.
pub fn package_name(member: &File) -> String {
    let name = parse(member).get("package").and_then(|package| package.get("name")).cloned();
    let name = name.as_ref().and_then(Value::as_str);
    name.unwrap_or_else(|| panic!("{} names no package", member.path)).to_owned()
}

/// All dependencies of a member, under the packages' own names.
pub fn dependencies(root: &File, member: &File) -> Vec<Dependency> {
    let root = parse(root);
    let shared: Table =
        workspace_dependencies(&root).map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut dependencies = dependency_tables(&parse(member));
    for dependency in &mut dependencies {
        let inherited = shared.get(&dependency.key).and_then(|value| value.get("package"));
        let renamed = dependency.value.get("package").or(inherited).and_then(Value::as_str);
        dependency.package = renamed.unwrap_or(&dependency.key).to_owned();
    }
    dependencies
}

fn parse(file: &File) -> Table {
    file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

fn workspace_dependencies(root: &Table) -> impl Iterator<Item = (&String, &Value)> {
    let table = root.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    table.and_then(Value::as_table).into_iter().flatten()
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// The entries of every dependency table, those for one target included.
fn dependency_tables(manifest: &Table) -> Vec<Dependency> {
    const KINDS: [(&str, Kind); 3] = [
        ("dependencies", Kind::Normal),
        ("dev-dependencies", Kind::Dev),
        ("build-dependencies", Kind::Build),
    ];
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    let targets = targets.filter_map(|(_, target)| target.as_table());
    let mut found = Vec::new();
    for holder in std::iter::once(manifest).chain(targets) {
        for (name, kind) in KINDS {
            let entries = holder.get(name).and_then(Value::as_table).into_iter().flatten();
            found.extend(entries.map(|(key, value)| Dependency {
                key: key.clone(),
                package: key.clone(),
                kind,
                value: value.clone(),
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(line: &str) -> Vec<String> {
        let text = format!("[workspace.dependencies]\n{line}");
        check_root(&File::sample("Cargo.toml", &text))
    }

    fn member(tables: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"x\"\n[lints]\nworkspace = true\n{tables}");
        check_member(&File::sample("crates/x/Cargo.toml", &text))
    }

    #[test]
    fn caret_ranges_and_paths_pass() {
        assert!(root("rayon = \"1.12.0\"").is_empty());
        assert!(root("clap = { version = \"4.6.9\", features = [\"derive\"] }").is_empty());
        assert!(root("vitrine-nn = { path = \"crates/nn\" }").is_empty());
    }

    #[test]
    fn other_versions_are_found() {
        for line in [
            "rayon = \"=1.12.0\"",
            "rayon = \"^1\"",
            "rayon = \"*\"",
            "clap = { version = \"4\" }",
            "clap = { features = [\"derive\"] }",
        ] {
            assert_eq!(root(line).len(), 1, "{line}");
        }
        assert_eq!(root("x = { git = \"https://example.org/x\", version = \"1.0.0\" }").len(), 1);
    }

    #[test]
    fn a_member_with_a_version_of_its_own_is_found() {
        let inherited = "[dependencies]\nrayon.workspace = true\n\
                         clap = { workspace = true, optional = true }";
        assert!(member(inherited).is_empty());
        for tables in [
            "[dependencies]\nrayon = \"1.12.0\"",
            "[dev-dependencies]\nx = { path = \"../x\" }",
            "[build-dependencies]\nx = { workspace = false, version = \"1\" }",
            "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"",
        ] {
            assert_eq!(member(tables).len(), 1, "{tables}");
        }
    }

    #[test]
    fn a_member_without_the_lints_is_found() {
        let manifest = File::sample("crates/x/Cargo.toml", "[package]\nname = \"x\"");
        assert_eq!(check_member(&manifest).len(), 1);
    }
}
