//! The allowed dependencies of each crate: `core <- store <- cluster <- node <- cli <- tests`, and external crates.

use cargo_metadata::{DependencyKind, Metadata, Package};

use crate::rules::Violation;

/// A crate and its allowed dependencies.
pub(crate) struct Layer {
    pub package: &'static str,
    pub folder: &'static str,
    pub allowed: Allowed,
}

/// The dependencies that a crate may have.
pub(crate) enum Allowed {
    /// Only these.
    Only(&'static [&'static str]),
    /// All except these.
    AllExcept(&'static [&'static str]),
}

pub(crate) const LAYERS: &[Layer] = &[
    Layer { package: "evener-core", folder: "core", allowed: Allowed::Only(&["serde", "uuid"]) },
    Layer {
        package: "evener-store",
        folder: "store",
        allowed: Allowed::Only(&[
            "evener-core",
            "bincode",
            "bytes",
            "crc32c",
            "parking_lot",
            "rustix",
            "serde",
            "thiserror",
            "tracing",
            "uuid",
            "xxhash-rust",
        ]),
    },
    Layer {
        package: "evener-cluster",
        folder: "cluster",
        allowed: Allowed::Only(&[
            "evener-core",
            "evener-store",
            "bytes",
            "futures",
            "jiff",
            "openraft",
            "openraft-rt",
            "openraft-rt-tokio",
            "parking_lot",
            "rustix",
            "rustls",
            "serde",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-util",
            "tracing",
            "uuid",
        ]),
    },
    Layer {
        package: "evener",
        folder: "node",
        allowed: Allowed::AllExcept(&[
            "evener-cli",
            "evener-tests",
            "bincode",
            "openraft",
            "openraft-rt",
            "openraft-rt-tokio",
            // Only the command line needs these; a program that embeds a node does not compile them.
            "clap",
            "comfy-table",
            "crossterm",
            "hdrhistogram",
            "indicatif",
        ]),
    },
    Layer {
        package: "evener-cli",
        folder: "node/cli",
        allowed: Allowed::AllExcept(&[
            "evener-tests",
            "bincode",
            "openraft",
            "openraft-rt",
            "openraft-rt-tokio",
            "ractor",
        ]),
    },
    Layer { package: "evener-derive", folder: "node/derive", allowed: Allowed::Only(&["proc-macro2", "quote", "syn"]) },
    Layer { package: "evener-tests", folder: "tests", allowed: Allowed::AllExcept(&[]) },
];

/// Returns all dependencies in the workspace that are not allowed.
pub(crate) fn check(metadata: &Metadata) -> Vec<Violation> {
    let members = metadata.workspace_packages();
    let mut violations: Vec<_> = members.iter().flat_map(|package| check_package(package)).collect();
    for layer in LAYERS.iter().filter(|layer| !members.iter().any(|package| package.name == layer.package)) {
        let why = format!("package `{}` does not exist, but is one of the layers", layer.package);
        violations.push(Violation { file: "Cargo.toml".into(), line: 1, why });
    }
    violations
}

fn check_package(package: &Package) -> Vec<Violation> {
    let manifest = std::fs::read_to_string(&package.manifest_path).expect("cargo has just read this manifest");
    let Some(layer) = LAYERS.iter().find(|layer| package.name == layer.package) else {
        let why = format!("package `{}` is none of the layers", package.name);
        return vec![Violation { file: package.manifest_path.to_string(), line: 1, why }];
    };
    let file = format!("{}/Cargo.toml", layer.folder);
    let dependencies = package.dependencies.iter().map(|d| (d.name.as_str(), d.kind));
    let mut violations = check_dependencies(layer, &file, &manifest, dependencies);
    if !inherits_lints(&manifest) {
        let why = "does not inherit the workspace's lints (`[lints] workspace = true`), which forbid unsafe code";
        violations.push(Violation { file, line: 1, why: why.into() });
    }
    violations
}

/// Returns the dependencies that the layer may not have. The tests of a crate may use any external crate, but of the
/// workspace only the crates to its left.
pub(crate) fn check_dependencies<'d>(
    layer: &Layer,
    file: &str,
    manifest: &str,
    dependencies: impl Iterator<Item = (&'d str, DependencyKind)>,
) -> Vec<Violation> {
    let allowed = |name: &str| match layer.allowed {
        Allowed::Only(these) => these.contains(&name),
        Allowed::AllExcept(these) => !these.contains(&name),
    };
    let ours = |name: &str| name.starts_with("evener") && name != layer.package;
    let line_of = |name: &str| {
        let found = manifest.lines().position(|line| {
            line.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['.', '=']))
        });
        found.map_or(1, |n| n + 1)
    };
    dependencies
        .filter(|(name, kind)| !allowed(name) && (*kind != DependencyKind::Development || ours(name)))
        .map(|(name, _)| Violation {
            file: file.into(),
            line: line_of(name),
            why: format!("`{}` may not depend on `{name}`: see the map in ARCHITECTURE.md", layer.package),
        })
        .collect()
}

/// Returns whether the manifest has `[lints] workspace = true`.
pub(crate) fn inherits_lints(manifest: &str) -> bool {
    let manifest: toml::Table = manifest.parse().expect("cargo has just read this manifest");
    manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
}
