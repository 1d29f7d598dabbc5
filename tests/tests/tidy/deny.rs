//! Holds `deny.toml` over every crate that the lock file brings in: licences, bans and sources.
//!
//! `cargo deny check` reads the same file and says the same; it has more dependencies than Evener itself and
//! would cost each fresh machine minutes, so the part that needs no network is held here, for everybody who
//! runs the tests.

use cargo_metadata::Metadata;
use serde::Deserialize;

use crate::rules::Broken;

/// The part of `deny.toml` that is held here.
#[derive(Deserialize)]
pub struct Rules {
    advisories: Advisories,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Advisories {
    ignore: Vec<Ignore>,
}

#[derive(Deserialize)]
struct Ignore {
    id: String,
    reason: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
struct Sources {
    #[serde(rename = "allow-registry")]
    allow_registry: Vec<String>,
}

/// A crate as the rules see it.
pub struct Crate {
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    /// None for our own.
    pub source: Option<String>,
}

impl Rules {
    pub fn parse(text: &str) -> Self {
        toml::from_str(text).expect("deny.toml has licenses, bans, sources and advisories")
    }

    /// What of `crates` these rules refuse.
    pub fn check(&self, crates: &[Crate]) -> Vec<Broken> {
        crates.iter().flat_map(|each| self.check_crate(each)).collect()
    }

    fn check_crate(&self, each: &Crate) -> Vec<Broken> {
        let name = format!("{} {}", each.name, each.version);
        let broken = |why| Broken { file: "Cargo.lock".into(), line: 1, why };
        let mut found = Vec::new();
        if !self.admits(each.license.as_deref()) {
            let license = each.license.as_deref().unwrap_or("no licence");
            found.push(broken(format!("{name} is under `{license}`, which deny.toml does not allow")));
        }
        if let Some(ban) = self.bans.deny.iter().find(|ban| ban.name == each.name) {
            found.push(broken(format!("{name} is banned: {}", ban.reason)));
        }
        let known = |source: &String| self.sources.allow_registry.iter().any(|registry| source.ends_with(registry));
        if let Some(source) = each.source.as_ref().filter(|source| !known(source)) {
            found.push(broken(format!("{name} comes from {source}, which deny.toml does not allow")));
        }
        found
    }

    fn admits(&self, license: Option<&str>) -> bool {
        let Some(license) = license else { return false };
        let Ok(expression) = spdx::Expression::parse_mode(license, spdx::ParseMode::LAX) else { return false };
        let allowed = |requirement: &spdx::LicenseReq| self.licenses.allow.contains(&requirement.to_string());
        expression.evaluate(allowed)
    }

    /// Every exception has its reason.
    pub fn reasoned(&self) -> bool {
        self.advisories.ignore.iter().all(|ignore| ignore.id.starts_with("RUSTSEC-") && ignore.reason.len() > 20)
    }
}

/// Every crate that `metadata` resolved.
pub fn crates(metadata: &Metadata) -> Vec<Crate> {
    let one = |package: &cargo_metadata::Package| Crate {
        name: package.name.to_string(),
        version: package.version.to_string(),
        license: package.license.clone(),
        source: package.source.as_ref().map(|source| source.repr.clone()),
    };
    metadata.packages.iter().map(one).collect()
}
