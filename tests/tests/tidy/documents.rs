//! Tests of the files beside the code: documents and `deploy/`.

use std::fs;

use evener::settings::{Sources, TABLE};

use crate::{deploy, docs, metadata, top};

const DOCUMENTS: &[&str] = &["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "tests/README.md", "deploy/runbook.md"];

fn read(file: &str) -> String {
    fs::read_to_string(top().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn links_in_documents_have_existing_targets() {
    for file in DOCUMENTS {
        let path = top().join(file);
        assert_eq!(docs::dead_links(&read(file), path.parent().unwrap()), [""; 0], "in {file}");
    }
    assert_eq!(docs::dead_links("[a](b.md) [c](https://d) [e](#f)", &top()), ["b.md"]);
}

#[test]
fn commands_in_documents_exist() {
    let metadata = metadata();
    for file in DOCUMENTS {
        for (line, command) in docs::commands(&read(file)) {
            let refused = command.starts_with("cargo ").then(|| docs::cargo_refuses(&command, &metadata)).flatten();
            assert_eq!(refused, None, "{file}:{line}: `{command}`");
        }
        assert_eq!(deploy::unknown_flags(&read(file)).into_iter().collect::<Vec<_>>(), [""; 0], "in {file}");
    }
    assert!(docs::cargo_refuses("cargo test -p evener-tests --test nowhere", &metadata).is_some());
    assert!(docs::cargo_refuses("cargo run -p no-such-package", &metadata).is_some());
    let text = "```sh\n# c\ncargo a \\\n  b\n```\ncargo x\n```rust\ncargo y\n```";
    assert_eq!(docs::commands(text), [(3, "cargo a b".to_string())]);
}

#[test]
fn settings_named_in_deploy_exist() {
    for file in ["Dockerfile", "compose.yaml", "systemd/evener.service", "helm/evener/templates/nodes.yaml"] {
        let text = read(&format!("deploy/{file}"));
        assert_eq!(deploy::unknown_variables(&text).into_iter().collect::<Vec<_>>(), [""; 0], "in {file}");
        assert_eq!(deploy::unknown_flags(&text).into_iter().collect::<Vec<_>>(), [""; 0], "in {file}");
    }
    assert!(deploy::unknown_variables("EVENER_NODE__NAMES: x").contains("EVENER_NODE__NAMES"));
    assert!(deploy::unknown_flags("evener serve --names x \\\n --data y").contains("names"));
}

#[test]
fn the_compose_file_runs_three_nodes_of_one_cluster() {
    let mut compose: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read("deploy/compose.yaml")).unwrap();
    compose.apply_merge().unwrap();
    let services = compose["services"].as_mapping().unwrap();
    assert_eq!(services.len(), 3);
    let founders = services.values().filter(|node| node["environment"].get("EVENER_CLUSTER__BOOTSTRAP").is_some());
    assert_eq!(founders.count(), 1);
    for (name, node) in services {
        assert_eq!(node["environment"]["EVENER_NODE__NAME"], *name);
        assert_eq!(node["build"]["dockerfile"], "deploy/Dockerfile");
        for port in node["ports"].as_sequence().unwrap() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name:?} publishes {port:?}");
        }
    }
}

#[test]
fn the_unit_drains_and_is_confined() {
    let unit = deploy::unit(&read("deploy/systemd/evener.service")).unwrap();
    let holds = |section: &str, key: &str, value: &str| {
        assert!(unit.contains(&(section.into(), key.into(), value.into())), "[{section}] {key}={value}");
    };
    holds("Service", "Type", "notify");
    holds("Service", "KillSignal", "SIGTERM");
    holds("Service", "NoNewPrivileges", "yes");
    holds("Service", "ProtectSystem", "strict");
    // A joining node may take long to become ready, and handler programs may compile at run time.
    holds("Service", "TimeoutStartSec", "infinity");
    holds("Service", "WorkingDirectory", "%S/evener");
    assert!(!unit.iter().any(|(_, key, _)| key == "MemoryDenyWriteExecute"));
    assert!(deploy::unit("a=b").is_err());
}

#[test]
fn the_sample_has_every_setting_and_each_can_be_used() {
    let sample = read("deploy/evener.toml");
    let used = sample.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line));
    for text in [sample.clone(), used.collect::<Vec<_>>().join("\n")] {
        let sources = Sources { file: Some(("evener.toml".into(), text)), ..Sources::default() };
        sources.load().unwrap().settings.check().unwrap();
    }
    for setting in TABLE {
        let key = setting.name.rsplit('.').next().unwrap();
        let named = |line: &str| line.trim_start_matches('#').starts_with(&format!("{key} = "));
        assert!(sample.lines().any(named), "{} is missing", setting.name);
    }
}

#[test]
fn a_container_can_be_reached_at_its_published_port() {
    let dockerfile = read("deploy/Dockerfile");
    let words = dockerfile.split_whitespace().filter_map(|word| word.split_once('='));
    let variables = words.filter(|(name, _)| name.starts_with("EVENER_"));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let settings = Sources { variables, ..Sources::default() }.load().unwrap().settings;
    settings.check().unwrap();
    assert!(settings.listen.is_wildcard() && settings.listen.port() == 4750);
}

#[test]
fn the_chart_renders_with_its_values() {
    let values: serde_yaml_ng::Value = serde_yaml_ng::from_str(&read("deploy/helm/evener/values.yaml")).unwrap();
    let template = read("deploy/helm/evener/templates/nodes.yaml");
    let objects = deploy::documents(&deploy::render(&template, &values).unwrap()).unwrap();
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["StatefulSet", "Service", "Service", "PodDisruptionBudget"]);
    assert_eq!(objects[0]["spec"]["replicas"], 3);
    let pod = &objects[0]["spec"]["template"]["spec"];
    assert!(pod["affinity"]["podAntiAffinity"].is_mapping() && pod["volumes"].is_sequence());
    let notes = read("deploy/helm/evener/templates/NOTES.txt");
    assert!(deploy::render(&notes, &values).unwrap().starts_with("3 nodes of evener start"));
    assert!(deploy::render("{{ .Values.nothing }}", &values).is_err());
    deploy::documents(&read("deploy/helm/evener/Chart.yaml")).unwrap();
}

#[test]
fn metrics_named_in_deploy_exist_and_each_alert_has_its_page() {
    for file in ["deploy/prometheus/alerts.yaml", "deploy/grafana/evener.json"] {
        assert_eq!(deploy::unknown_metrics(&read(file)).into_iter().collect::<Vec<_>>(), [""; 0], "in {file}");
    }
    assert_eq!(deploy::unknown_metrics("x evener_nothing_total{} > 1").len(), 1);
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/evener.json")).unwrap();
    assert!(!dashboard["panels"].as_array().unwrap().is_empty());
    let alerts = deploy::documents(&read("deploy/prometheus/alerts.yaml")).unwrap();
    let anchors = deploy::anchors(&read("deploy/runbook.md"));
    for rule in alerts[0]["groups"][0]["rules"].as_sequence().unwrap() {
        let page = rule["annotations"]["runbook"].as_str().unwrap();
        let anchor = page.strip_prefix("deploy/runbook.md#").unwrap();
        assert!(anchors.contains(anchor), "{page} does not exist");
    }
}

/// Returns the source files named in `text` that are not the end of any path in `files`; `c/` stands for the folder of
/// cluster's sources.
fn missing_files(text: &str, files: &[&str]) -> Vec<String> {
    let named = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
    let paths = named.map(|name| name.strip_prefix("c/").map_or(name.into(), |name| format!("cluster/src/{name}")));
    let exists = |path: &String| files.iter().any(|file| file == path || file.ends_with(&format!("/{path}")));
    paths.filter(|path| !exists(path)).collect()
}

#[test]
fn files_named_in_the_architecture_exist() {
    let files = crate::files();
    let files: Vec<_> = files.keys().map(AsRef::as_ref).collect();
    assert_eq!(missing_files(&read("ARCHITECTURE.md"), &files), [""; 0]);
    let text = "`a/b.rs` is there, and so are `b.rs` and `c/d.rs`, but not `e.rs`; `f` is no file";
    assert_eq!(missing_files(text, &["a/b.rs", "cluster/src/d.rs"]), ["e.rs"]);
}
