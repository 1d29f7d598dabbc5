//! Checks the structure of the repository: allowed dependencies between crates, allowed names per file, lengths of
//! files, licences of dependencies. Each rule is also tested with a bad sample, so that a broken checker fails.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

mod cycles;
mod deploy;
mod docs;
mod documents;
mod layers;
mod rules;
mod source;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use rules::Violation;
use source::{Kind, Source};

/// Returns the root of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_path_buf()
}

fn metadata() -> Metadata {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc has built this test");
    let rustc = String::from_utf8(rustc.stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    // Dependencies of other platforms are not downloaded.
    let flags = ["--locked", "--offline", "--filter-platform", host].map(String::from);
    let mut command = MetadataCommand::new();
    command.manifest_path(top().join("Cargo.toml")).other_options(flags);
    command.exec().expect("the lock file is up to date and its crates are downloaded")
}

/// Returns every Rust file of the repository, by its path from the root.
fn files() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = ["core", "store", "cluster", "node", "tests"].map(|name| top().join(name)).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Samples that must not compile are not checked.
                folders.extend(Some(path).filter(|path| !path.ends_with("tests/ui")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(top()).unwrap().to_string_lossy().into_owned();
                found.insert(file, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Returns every parsed file with its kind: product, fake or test.
fn sources() -> Vec<Source> {
    let files = files();
    let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
    let kind_of = |kinds: &BTreeMap<String, Kind>, file: &str| {
        let by_place = ["tests/", "/tests/", "/examples/", "/benches/", "_tests.rs"];
        let by_place = file.starts_with(by_place[0]) || by_place[1..].iter().any(|place| file.contains(place));
        let gated = kinds.iter().filter(|(prefix, _)| file.starts_with(prefix.as_str())).map(|(_, kind)| *kind).max();
        if by_place { Kind::Test } else { gated.unwrap_or(Kind::Product) }
    };
    // Two passes: the gates of modules are collected before the kinds of their files are determined.
    for _ in 0..2 {
        for (file, text) in &files {
            let source = Source::new(file, text, kind_of(&kinds, file)).unwrap();
            let folder = match file.rsplit_once('/').expect("every file is in a folder") {
                (folder, "lib.rs" | "main.rs" | "mod.rs") => folder.to_string(),
                _ => file.trim_end_matches(".rs").to_string(),
            };
            for (module, kind) in source.modules {
                kinds.insert(format!("{folder}/{module}.rs"), kind);
                kinds.insert(format!("{folder}/{module}/"), kind);
            }
        }
    }
    files.iter().map(|(file, text)| Source::new(file, text, kind_of(&kinds, file)).unwrap()).collect()
}

#[track_caller]
fn assert_none(violations: &[Violation]) {
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), lines.join("\n"));
}

#[test]
fn each_crate_depends_only_on_crates_to_its_left() {
    assert_none(&layers::check(&metadata()));
}

#[test]
fn each_file_follows_the_rules() {
    let violations: Vec<_> = sources().iter().flat_map(rules::check).collect();
    assert_none(&violations);
}

#[test]
fn sibling_modules_import_each_other_in_no_cycle() {
    let sources = sources();
    assert_none(&cycles::check(&sources));
}

#[test]
fn the_workspace_forbids_unsafe_code_and_core_is_no_std() {
    let manifest: toml::Table = fs::read_to_string(top().join("Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["workspace"]["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    assert!(files()["core/src/lib.rs"].lines().any(|line| line == "#![no_std]"));
}

/// Returns the violations of the rules by `text` in `file`, as `line: violation` without the reason.
fn violations_of(file: &str, text: &str) -> Vec<String> {
    let source = Source::new(file, &format!("//! A sample.\n{text}"), Kind::Product).unwrap();
    let short = |violation: Violation| format!("{}: {}", violation.line, violation.why.split(": ").next().unwrap());
    rules::check(&source).into_iter().map(short).collect()
}

#[track_caller]
fn refused(file: &str, text: &str, why: &str) {
    assert_eq!(violations_of(file, text), [why], "in {file}:\n{text}");
}

#[track_caller]
fn fine(file: &str, text: &str) {
    assert_eq!(violations_of(file, text), [""; 0], "in {file}:\n{text}");
}

#[test]
fn core_may_not_use_std_or_hash_maps() {
    refused("core/src/a.rs", "extern crate std;", "2: names `std`");
    refused("core/src/a.rs", "fn a() { std::println!(); }", "2: names `std::println`");
    refused("core/src/a.rs", "use hashbrown::HashMap;", "2: names `hashbrown::HashMap`");
    fine("core/src/a.rs", "#[cfg(any(test, feature = \"testing\"))]\nextern crate std;");
    fine("core/src/a.rs", "use alloc::collections::BTreeMap; // not a std::collections::HashMap");
    fine("core/src/a.rs", "#[cfg(test)]\nmod tests { use std::collections::HashMap; }");
    refused("core/src/a.rs", "#[cfg(not(test))]\nuse std::vec;", "3: names `std::vec`");
}

#[test]
fn a_wrapped_crate_is_used_in_one_place() {
    for (name, place) in
        [("bincode", "store/src/codec.rs"), ("openraft", "cluster/src/raft/a.rs"), ("ractor", "node/src/actors/a.rs")]
    {
        let line = format!("use {name}::config::{{standard, Limit}};");
        let tree = format!("2: names `{name}::config::standard`");
        let both = [tree.as_str(), &format!("2: names `{name}::config::Limit`")].map(String::from);
        assert_eq!(violations_of("store/src/a.rs", &line), both);
        fine(place, &line);
    }
    refused("cluster/src/raft.rs", "fn a() -> openraft::Vote { b() }", "2: names `openraft::Vote`");
    refused("node/src/a.rs", "#[ractor::actor]\nstruct A;", "2: names `ractor::actor`");
}

#[test]
fn the_engine_does_not_know_http() {
    refused("node/src/engine/a.rs", "use crate::{codes, http::Check};", "2: names `crate::http::Check`");
    refused("node/src/engine/a/b.rs", "fn a() { crate::wire::encode(b); }", "2: names `crate::wire::encode`");
    let test = "#[cfg(test)]\nmod tests { use crate::wire::Call; }";
    refused("node/src/engine/a.rs", test, "3: names `crate::wire::Call`");
    fine("node/src/engine/a.rs", "use crate::health::Check;");
    fine("node/src/client/a.rs", "use crate::{http::Check, wire::Call};");
}

#[test]
fn randomness_comes_from_node_only() {
    refused("cluster/src/a.rs", "fn a() -> u8 { rand::random() }", "2: names `rand::random`");
    refused("store/src/a.rs", "fn a() -> Uuid { Uuid::new_v4() }", "2: names `Uuid::new_v4`");
    fine("node/src/a.rs", "fn a() -> u8 { rand::random() }");
    fine("store/src/a.rs", "fn a(rand: u8) -> u8 { rand }");
}

#[test]
fn clocks_and_threads_are_used_at_the_outer_interfaces_only() {
    refused("cluster/src/a.rs", "use std::time::{Duration, Instant};", "2: names `std::time::Instant`");
    refused("store/src/a.rs", "fn a() { SystemTime::now(); }", "2: names `SystemTime::now`");
    refused("cluster/src/a.rs", "fn a() { tokio::task::spawn_blocking(b); }", "2: names `tokio::task::spawn_blocking`");
    refused("store/src/a.rs", "fn a() { std::thread::spawn(b); }", "2: names `std::thread::spawn`");
    refused("store/src/a.rs", "use std::{fs, sync::Arc};", "2: names `std::fs`");
    fine("cluster/src/a.rs", "use std::time::Duration; use tokio::time::Instant;");
    fine("store/src/disk/file.rs", "fn a() { std::thread::spawn(b); }");
}

#[test]
fn the_cluster_uses_ordered_collections() {
    refused("cluster/src/a.rs", "use std::collections::HashSet;", "2: names `std::collections::HashSet`");
    refused("cluster/src/a.rs", "struct A { b: HashMap<u8, u8> }", "2: names `HashMap`");
}

#[test]
fn no_test_sleeps() {
    let sleeps = "#[cfg(test)]\nmod tests { async fn a() { tokio::time::sleep(B).await; } }";
    refused("cluster/src/a.rs", sleeps, "3: names `tokio::time::sleep`");
    let sleeps = "#[tokio::test]\nasync fn a() { time::sleep(B).await; }";
    refused("node/src/a.rs", sleeps, "3: names `time::sleep`");
    fine("cluster/src/a.rs", "async fn a() { tokio::time::sleep(B).await; }");
    let virtual_time = "#[tokio::test(start_paused = true)]\nasync fn a() { time::sleep(B).await; }";
    fine("node/src/a.rs", virtual_time);
}

#[test]
fn code_is_finished_and_expectations_state_their_proofs() {
    refused("node/src/a.rs", "fn a() { b().unwrap(); }", "2: calls `unwrap`");
    fine("node/src/a.rs", "fn a() { b().expect(\"x.unwrap()\").unwrap_or(1); }\n/// `b().unwrap()`\nfn b() {}");
    fine("node/src/a.rs", "#[cfg(test)]\nmod tests { fn a() { b().unwrap(); } }");
    refused("node/src/a.rs", "fn a() { todo!() }", "2: `todo!` is not allowed in landed code");
    refused("node/src/a.rs", concat!("// TO", "DO: b"), "2: unfinished work is not marked in the code");
}

#[test]
fn files_and_functions_have_bounded_lengths() {
    let long = format!("fn a() {{\n{}}}", "b();\n".repeat(rules::FUNCTION_LINES_MAX));
    refused("node/src/a.rs", &long, "2: `a` has 102 lines, more than 100");
    let longer = "fn b() {}\n".repeat(rules::FILE_LINES_MAX);
    refused("node/src/a.rs", &longer, "601: has 601 lines, more than 600");
    let wide = format!("// {}", "x".repeat(rules::COLUMNS_MAX));
    refused("node/src/a.rs", &wide, "2: has 123 columns, more than 120");
    let undocumented = Source::new("node/src/a.rs", "fn a() {}", Kind::Product).unwrap();
    assert_eq!(rules::check(&undocumented).len(), 1, "a file begins with its purpose");
}

#[test]
fn a_forbidden_dependency_is_found() {
    let check = |package: &str, name: &str, kind| {
        let layer = layers::LAYERS.iter().find(|layer| layer.package == package).unwrap();
        let manifest = format!("[dependencies]\n{name}.workspace = true\n");
        let violations = layers::check_dependencies(layer, "x/Cargo.toml", &manifest, [(name, kind)].into_iter());
        violations.iter().map(|violation| format!("{}:{}", violation.file, violation.line)).collect::<Vec<_>>()
    };
    let normal = DependencyKind::Normal;
    assert_eq!(check("evener-core", "tokio", normal), ["x/Cargo.toml:2"]);
    assert_eq!(check("evener-store", "evener-cluster", normal), ["x/Cargo.toml:2"]);
    assert_eq!(check("evener-store", "tokio", normal), ["x/Cargo.toml:2"]);
    assert_eq!(check("evener-store", "evener-cluster", DependencyKind::Development), ["x/Cargo.toml:2"]);
    assert_eq!(check("evener-store", "tempfile", DependencyKind::Development), [""; 0]);
    assert_eq!(check("evener", "openraft", normal), ["x/Cargo.toml:2"]);
    assert_eq!(check("evener-cluster", "openraft", normal), [""; 0]);
    assert!(!layers::inherits_lints("[package]\nname = \"a\""));
}

#[test]
fn an_import_cycle_between_siblings_is_found() {
    let check = |files: &[(&str, &str)]| {
        let source = |(file, text): &(&str, &str)| {
            Source::new(&format!("core/src/{file}"), &format!("//! A sample.\n{text}"), Kind::Product).unwrap()
        };
        let violations = cycles::check(&files.iter().map(source).collect::<Vec<_>>());
        violations.iter().map(|violation| format!("{}:{}", violation.file, violation.line)).collect::<Vec<_>>()
    };
    let both = ["core/src/a.rs:2", "core/src/b.rs:2"];
    assert_eq!(check(&[("a.rs", "use crate::{b::B, c};"), ("b.rs", "use super::a::A;")]), both);
    assert_eq!(check(&[("a.rs", "fn a() { crate::b::b() }"), ("b.rs", "use crate::a;")]), both);
    let inner = [("a/b.rs", "use crate::c::d::D;"), ("c.rs", ""), ("c/d.rs", "use super::super::a::A;"), ("a.rs", "")];
    assert_eq!(check(&inner), ["core/src/a/b.rs:2", "core/src/c/d.rs:2"]);
    let three = [("m/a.rs", "use super::b::B;"), ("m/b.rs", "use super::c::C;"), ("m/c.rs", "use super::a::A;")];
    assert_eq!(check(&[three[0], three[1], three[2], ("m/mod.rs", "")]).len(), 3);
    assert_eq!(check(&[("a.rs", "use crate::b::B;"), ("b.rs", "")]), [""; 0]);
    assert_eq!(check(&[("a.rs", "use crate::a::b::B;"), ("a/b.rs", "use super::A;")]), [""; 0], "parent and child");
    let test = "#[cfg(test)]\nmod tests { use crate::a::A; }";
    assert_eq!(check(&[("a.rs", "use crate::b::B;"), ("b.rs", test)]), [""; 0], "tests");
    assert_eq!(check(&[("a.rs", "use crate::b::B;"), ("b.rs", "pub(in crate::a) fn b() {}")]), [""; 0], "visibility");
}
