//! Checks documents: their commands exist, and their links have targets.

use std::path::Path;

/// Returns the commands of all `sh` blocks of a document, with their line numbers; continued lines are joined.
pub(crate) fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut inside, mut continues) = (false, false);
    for (n, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```sh";
        } else if inside && !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            let part = line.trim().trim_end_matches('\\').trim_end();
            match found.last_mut().filter(|_| continues) {
                Some((_, command)) => {
                    command.push(' ');
                    command.push_str(part);
                }
                None => found.push((n + 1, part.into())),
            }
            continues = line.trim_end().ends_with('\\');
        }
    }
    found
}

/// Returns the links to files that do not exist in the repository.
pub(crate) fn dead_links(text: &str, folder: &Path) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let path = |target: &str| folder.join(target.split('#').next().expect("split gives at least one part"));
    local.filter(|target| !path(target).exists()).map(String::from).collect()
}

/// Returns which package or target of a `cargo …` command does not exist; none if all do.
pub(crate) fn cargo_refuses(command: &str, metadata: &cargo_metadata::Metadata) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().take_while(|word| *word != "--").collect();
    let packages = metadata.workspace_packages();
    let value = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1));
    let package = value("-p").copied();
    if package.is_some_and(|name| !packages.iter().any(|package| package.name == name)) {
        return Some(format!("there is no package {}", package.unwrap_or_default()));
    }
    for flag in ["--test", "--bin", "--example"] {
        let Some(name) = value(flag) else { continue };
        let kind = flag.trim_start_matches('-');
        let mut targets =
            packages.iter().filter(|p| package.is_none_or(|name| p.name == name)).flat_map(|p| &p.targets);
        if !targets.any(|target| target.name == **name && target.kind.iter().any(|k| k.to_string() == kind)) {
            return Some(format!("there is no {kind} {name}"));
        }
    }
    None
}
