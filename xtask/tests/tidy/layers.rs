//! Which crate may build on which. A new edge here is the rarest kind of change.

use std::collections::BTreeSet;

use crate::manifests::{self, Kind};
use crate::repository::File;

/// The arrows of the design: each crate, and the crates that it builds on. What lies below
/// those is open to it too; everything else is not, for development either.
const LAYERS: &[(&str, &[&str])] = &[
    ("vitrine-tensor", &[]),
    ("vitrine-ptx-emulator", &[]),
    ("vitrine-cuda-driver", &["vitrine-ptx-emulator"]),
    ("vitrine-cuda", &["vitrine-cuda-driver", "vitrine-tensor"]),
    ("vitrine-autodiff", &["vitrine-tensor"]),
    ("vitrine-nn", &["vitrine-autodiff"]),
    ("vitrine-models", &["vitrine-nn"]),
    ("vitrine-data", &["vitrine-tensor"]),
    ("vitrine-comm", &["vitrine-tensor"]),
    (
        "vitrine-train",
        &["vitrine-comm", "vitrine-cuda", "vitrine-data", "vitrine-nn", "vitrine-models"],
    ),
    ("vitrine-testkit", &["vitrine-autodiff"]),
    ("vitrine-benches", &["vitrine-train"]),
    ("xtask", &[]),
];

/// Crates that serve development only: any crate's tests may use them, no crate's code may.
const FOR_TESTS: &[&str] = &["vitrine-testkit"];

/// Outside libraries that one crate keeps to itself.
const KEPT: &[(&str, &str)] = &[("cust", "vitrine-cuda")];

const TABLE: &str = "the table LAYERS in xtask/tests/tidy/layers.rs";

/// Compares the edges between our crates with the tables above.
pub fn check(root: &File, members: &[File]) -> Vec<String> {
    let mut findings = Vec::new();
    for member in members {
        let name = manifests::package_name(member);
        let path = &member.path;
        if !LAYERS.iter().any(|(layer, _)| *layer == name) {
            findings.push(format!("{path}: {name} is not in {TABLE}"));
            continue;
        }
        let below = below(&name);
        for dependency in manifests::dependencies(root, member) {
            let to = dependency.package.as_str();
            let kept = KEPT.iter().find(|(library, owner)| *library == to && *owner != name);
            if let Some((library, owner)) = kept {
                findings.push(format!("{path}: only {owner} may use {library}"));
            }
            let ours = to.starts_with("vitrine-") || to == "xtask";
            let for_tests = dependency.kind == Kind::Dev && FOR_TESTS.contains(&to);
            let allowed = below.contains(to) && !FOR_TESTS.contains(&to);
            if ours && to != name && !for_tests && !allowed {
                findings.push(format!("{path}: the edge {name} → {to} is not in {TABLE}"));
            }
        }
    }
    for (layer, _) in LAYERS {
        if !members.iter().any(|member| manifests::package_name(member) == *layer) {
            findings.push(format!("{TABLE}: no member of the workspace is called {layer}"));
        }
    }
    findings
}

/// Everything that `name` may use: what its arrows point to, and what lies below that.
fn below(name: &str) -> BTreeSet<&'static str> {
    let arrows = |from: &str| -> &[&'static str] {
        LAYERS.iter().find(|(layer, _)| *layer == from).map_or(&[], |(_, arrows)| arrows)
    };
    let mut reached = BTreeSet::new();
    let mut open = arrows(name).to_vec();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(arrows(next));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.dependencies]\nfloor = { package = \"vitrine-tensor\" }";

    fn findings(name: &str, dependencies: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"{name}\"\n{dependencies}");
        let root = File::sample("Cargo.toml", ROOT);
        let findings = check(&root, &[File::sample("crates/x/Cargo.toml", &manifest)]);
        // One manifest alone lacks the other rows' crates, which is not what is tried here.
        findings.into_iter().filter(|finding| finding.starts_with("crates/x")).collect()
    }

    #[test]
    fn no_arrow_leads_back() {
        for (layer, _) in LAYERS {
            assert!(!below(layer).contains(layer), "{layer} lies below itself");
        }
        assert_eq!(below("vitrine-models").len(), 3);
    }

    #[test]
    fn edges_downwards_are_allowed() {
        let edges = "[dependencies]\nvitrine-tensor.workspace = true\n\
                     vitrine-models.workspace = true\nndarray.workspace = true";
        assert_eq!(findings("vitrine-train", edges), [""; 0]);
        let tests = "[dev-dependencies]\nvitrine-testkit.workspace = true";
        assert_eq!(findings("vitrine-tensor", tests), [""; 0]);
    }

    #[test]
    fn edges_upwards_and_sideways_are_found() {
        for (from, edge) in [
            ("vitrine-tensor", "[dependencies]\nvitrine-nn.workspace = true"),
            ("vitrine-data", "[dependencies]\nvitrine-models.workspace = true"),
            ("vitrine-models", "[dev-dependencies]\nvitrine-train.workspace = true"),
            ("vitrine-nn", "[build-dependencies]\nvitrine-data.workspace = true"),
            ("vitrine-models", "[target.'cfg(unix)'.dependencies]\nvitrine-cuda = \"1\""),
            ("xtask", "[dependencies]\nvitrine-data.workspace = true"),
            ("vitrine-data", "[dependencies]\nx = { package = \"vitrine-nn\", path = \"../nn\" }"),
            ("vitrine-ptx-emulator", "[dependencies]\nfloor.workspace = true"),
        ] {
            let findings = findings(from, edge);
            assert_eq!(findings.len(), 1, "{from}: {edge}");
            assert!(findings[0].contains(TABLE), "{findings:?}");
        }
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        let edge = "[dependencies]\nvitrine-testkit.workspace = true";
        assert_eq!(findings("vitrine-nn", edge).len(), 1);
    }

    #[test]
    fn cust_is_kept_by_one_crate() {
        let edge = "[dependencies]\ncust.workspace = true";
        assert_eq!(
            findings("vitrine-tensor", edge),
            ["crates/x/Cargo.toml: only vitrine-cuda may use cust"]
        );
    }

    #[test]
    fn unknown_and_absent_crates_are_found() {
        assert_eq!(findings("vitrine-shortcut", "").len(), 1);
        let root = File::sample("Cargo.toml", ROOT);
        assert_eq!(check(&root, &[]).len(), LAYERS.len());
    }
}
