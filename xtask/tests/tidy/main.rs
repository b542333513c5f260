//! The repository's house rules, as tests: layering, manifests, source files, `unsafe`, README.
//!
//! Each rule is a function from text to findings, in a module of its own with bad samples that
//! it must find; here the rules meet the repository.

mod layers;
mod manifests;
mod readme;
mod repository;
mod sources;
mod unsafe_code;

use repository::Repository;

/// Fails with all findings at once, so that one run is enough to mend them.
#[track_caller]
fn expect_none(findings: Vec<String>) {
    let count = findings.len();
    assert!(findings.is_empty(), "{count} findings:\n  {}", findings.join("\n  "));
}

#[test]
fn crates_keep_to_their_layer() {
    let repository = Repository::here();
    expect_none(layers::check(&repository.root_manifest(), &repository.member_manifests()));
}

#[test]
fn versions_live_in_the_root_manifest() {
    let repository = Repository::here();
    expect_none(manifests::check_root(&repository.root_manifest()));
    let members = repository.member_manifests();
    expect_none(members.iter().flat_map(manifests::check_member).collect());
}

#[test]
fn source_files_keep_the_house_style() {
    let sources = Repository::here().sources();
    expect_none(sources.iter().flat_map(sources::check).collect());
}

#[test]
fn unsafe_code_is_rare_and_explained() {
    let sources = Repository::here().sources();
    let rust = sources.iter().filter(|source| source.path.ends_with(".rs"));
    expect_none(rust.flat_map(unsafe_code::check).collect());
}

#[test]
fn files_in_git_are_small() {
    match Repository::here().files_in_git() {
        Some(files) => expect_none(repository::check_sizes(&files)),
        None => println!("left out: this is no git checkout, or git is not here"),
    }
}

#[test]
fn ci_runs_what_the_readme_says() {
    let repository = Repository::here();
    if let Some(readme) = repository.text("README.md") {
        let ci = repository.text(".ci/run").expect(".ci/run is there");
        expect_none(readme::check(&readme, &ci));
    }
}
