//! Checks the files in `deploy/`: they parse, and their settings, flags, metrics and chart values exist.

use std::collections::BTreeSet;

use evener::{
    metrics::{LimitLabels, ProcessorLabels, RequestLabels, RouteLabels, SegmentLabels},
    settings::TABLE,
};
use serde_yaml_ng::Value;

/// Flags of `serve` that are not settings.
const OTHER_FLAGS: &[&str] = &["config", "help"];

/// Returns the variables in `text` that look like settings but are none.
pub(crate) fn unknown_variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("EVENER_") && word.contains("__"));
    ours.filter(|word| !TABLE.iter().any(|setting| setting.variable() == *word)).map(String::from).collect()
}

/// Returns the flags after `evener serve` in `text` that `serve` does not have. A command ends with its line, unless
/// the line ends with a backslash.
pub(crate) fn unknown_flags(text: &str) -> BTreeSet<String> {
    let joined = text.replace("\\\n", " ");
    let commands = joined.lines().filter_map(|line| line.split_once("evener serve").map(|(_, flags)| flags));
    let flags = commands.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix("--"));
    let known = |flag: &str| OTHER_FLAGS.contains(&flag) || TABLE.iter().any(|setting| setting.flag == flag);
    flags.filter(|flag| !known(flag)).map(String::from).collect()
}

/// Returns the names of all metrics of a node.
pub(crate) fn metrics() -> BTreeSet<String> {
    let metrics = evener::metrics::Metrics::default();
    // A family without members is not exported.
    let (route, processor) = ("/".to_string(), "p".to_string());
    drop(metrics.requests.get_or_create(&RequestLabels { route: route.clone(), status: 200 }));
    drop(metrics.request_time.get_or_create(&RouteLabels { route }));
    let of = ProcessorLabels { processor: processor.clone() };
    let families = [&metrics.owned, &metrics.unowned, &metrics.set_aside, &metrics.dead];
    for family in
        families.into_iter().chain([&metrics.skipped, &metrics.letters, &metrics.letters_fullest, &metrics.stalled])
    {
        drop(family.get_or_create(&of));
    }
    drop(metrics.handled.get_or_create(&of));
    drop(metrics.limits.get_or_create(&LimitLabels { limit: "letters_max" }));
    metrics.handler_metrics(&processor).failed("retry");
    let of = SegmentLabels { processor, segment: 0 };
    drop(metrics.lag_events.get_or_create(&of));
    drop(metrics.lag_time.get_or_create(&of));
    let text = metrics.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.split(['{', ' ']).next()).map(String::from).collect()
}

/// Returns the words in `text` that look like metrics but are none.
pub(crate) fn unknown_metrics(text: &str) -> BTreeSet<String> {
    let known = metrics();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("evener_") && !known.contains(*word)).map(String::from).collect()
}

/// Returns the anchors of the headings of a document.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
    headings.map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// Returns the documents of a YAML file.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    use serde::Deserialize;
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents.map(|document| Value::deserialize(document).map_err(|e| e.to_string())).collect()
}

/// Renders a chart's template with its values, for the part of Helm's language that this chart uses. A `range` must be
/// over a list that exists and is empty by default.
pub(crate) fn render(template: &str, values: &Value) -> Result<String, String> {
    let mut out = String::new();
    let mut template = template.to_owned();
    while let Some((before, after)) = template.split_once("{{- range ") {
        let (list, after) = after.split_once("}}").ok_or("a range without its }}")?;
        let (_, after) = after.split_once("{{- end }}").ok_or("a range without its end")?;
        if lookup(&format!("{} | toJson", list.trim()), values)? != "[]" {
            return Err(format!("{list} is not an empty list"));
        }
        template = format!("{}{after}", before.trim_end());
    }
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a {{ without its }}")?;
        out.push_str(before);
        out.push_str(&lookup(name.trim(), values)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup(name: &str, values: &Value) -> Result<String, String> {
    let missing = || format!("the template names {name}, and values.yaml has no such value");
    let (path, json) = name.strip_suffix(" | toJson").map_or((name, false), |path| (path, true));
    match path {
        ".Release.Name" => Ok("evener".into()),
        _ => {
            let path = path.strip_prefix(".Values.").ok_or_else(missing)?;
            match path.split('.').try_fold(values, |value, key| value.get(key)).ok_or_else(missing)? {
                value if json => serde_json::to_string(value).map_err(|error| error.to_string()),
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                Value::Bool(yes) => Ok(yes.to_string()),
                _ => Err(missing()),
            }
        }
    }
}

/// Returns the entries of a systemd unit: `(section, key, value)`.
pub(crate) fn unit(text: &str) -> Result<Vec<(String, String, String)>, String> {
    let mut section = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Some(name.to_string());
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("no `key=value`: {line}"))?;
        let section = section.clone().ok_or_else(|| format!("is in no section: {line}"))?;
        found.push((section, key.into(), value.into()));
    }
    Ok(found)
}
