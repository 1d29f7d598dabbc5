//! Merges the sources of settings, and keeps the origin of each value.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::table::{Setting, Settings, TABLE};
use crate::{codes, error::ApiError};

/// The settings file that is read if no other is named.
pub(super) const FILE: &str = "evener.toml";

/// Variables with the prefix of settings that are not settings, or that are short for one.
const OTHER_VARIABLES: &[&str] = &["EVENER_SERVER", "EVENER_CONFIG", "EVENER_LOG"];

/// The sources of settings, strongest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name of the setting and its text.
    pub flags: Vec<(&'static str, String)>,
    /// The process's environment.
    pub variables: Vec<(String, String)>,
    /// The settings file and its text.
    pub file: Option<(PathBuf, String)>,
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The settings file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// This flag, without the dashes.
    Flag(&'static str),
}

/// Complete settings with the origin of each.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    origins: Vec<Origin>,
}

/// One setting as `evener config` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingRow {
    /// `section.key`.
    pub name: &'static str,
    /// Its current value; empty if unset.
    pub value: String,
    /// Origin of the value.
    pub origin: String,
    /// Its default.
    pub default: &'static str,
    /// Its environment variable.
    pub variable: String,
    /// Its flag.
    pub flag: String,
    /// Description.
    pub about: &'static str,
    /// Reason for the default.
    pub reason: &'static str,
    /// First version that has it.
    pub since: &'static str,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

impl Sources {
    /// Returns the sources of this process: these flags, its environment, and the file `config`, else
    /// `evener.toml` if it exists.
    pub fn of_process(flags: Vec<(&'static str, String)>, config: Option<&Path>) -> Result<Self, ApiError> {
        let variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| name.starts_with("EVENER_") && is_set(value))
            .collect();
        let named = variables.iter().find(|(name, _)| name == "EVENER_CONFIG").map(|(_, path)| PathBuf::from(path));
        let file = match config.map(Path::to_owned).or(named) {
            Some(path) => Some(path),
            None => Path::new(FILE).exists().then(|| PathBuf::from(FILE)),
        };
        let read = |path: PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(error) => {
                let message = format!("failed to read {}: {error}", path.display());
                Err(ApiError::new(&codes::SETTINGS_FILE, message))
            }
        };
        Ok(Self { flags, variables, file: file.map(read).transpose()? })
    }

    /// Merges and parses them.
    pub fn load(self) -> Result<Loaded, ApiError> {
        let mut loaded = Loaded { settings: Settings::default(), origins: vec![Origin::Default; TABLE.len()] };
        if let Some((path, text)) = &self.file {
            for (name, value) in read_file(path, text)? {
                loaded.set(&name, &value, Origin::File(path.clone()))?;
            }
        }
        for (variable, value) in self.variables.iter().filter(|(_, value)| is_set(value)) {
            if let Some(name) = setting_of(variable)? {
                loaded.set(name, value, Origin::Variable(variable.clone()))?;
            }
        }
        for (name, value) in &self.flags {
            let setting = Setting::find(name).expect("flags are made from the table");
            loaded.set(name, value, Origin::Flag(setting.flag))?;
        }
        Ok(loaded)
    }
}

impl Loaded {
    fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), ApiError> {
        let Some(place) = TABLE.iter().position(|setting| setting.name == name) else {
            return Err(unknown(name, &origin.to_string(), TABLE.iter().map(|s| s.name.to_owned())));
        };
        (TABLE[place].set)(&mut self.settings, value)
            .map_err(|why| ApiError::new(&codes::BAD_SETTING, format!("{name} = '{value}' ({origin}): {why}")))?;
        self.origins[place] = origin;
        Ok(())
    }

    /// Returns the origin of the value of this setting.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        TABLE.iter().position(|setting| setting.name == name).map(|place| &self.origins[place])
    }

    /// Returns all settings as `evener config` shows them.
    #[must_use]
    pub fn rows(&self) -> Vec<SettingRow> {
        let rows = TABLE.iter().zip(&self.origins).map(|(setting, origin)| SettingRow {
            name: setting.name,
            value: (setting.show)(&self.settings),
            origin: origin.to_string(),
            default: setting.default,
            variable: setting.variable(),
            flag: format!("--{}", setting.flag),
            about: setting.about,
            reason: setting.reason,
            since: setting.since,
        });
        rows.collect()
    }
}

/// Returns whether an environment variable is set: unit files, compose files and shells pass unset variables on as
/// empty ones.
fn is_set(value: &str) -> bool {
    !value.is_empty()
}

fn read_file(path: &Path, text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let wrong = |why: String| ApiError::new(&codes::SETTINGS_FILE, format!("failed to read {}: {why}", path.display()));
    let table: toml::Table = toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    let mut settings = Vec::new();
    for (section, keys) in table {
        let toml::Value::Table(keys) = keys else {
            return Err(wrong(format!("'{section}' is outside of a section such as [node]")));
        };
        for (key, value) in keys {
            let text = text_of(&value).ok_or_else(|| wrong(format!("{section}.{key} is not a plain value")))?;
            settings.push((format!("{section}.{key}"), text));
        }
    }
    Ok(settings)
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(items) => Some(items.iter().map(text_of).collect::<Option<Vec<_>>>()?.join(",")),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// Returns the setting of a variable; none if it belongs to another program.
fn setting_of(variable: &str) -> Result<Option<&'static str>, ApiError> {
    if variable == "EVENER_LOG" {
        return Ok(Some("log.filter"));
    }
    let known = || TABLE.iter().map(Setting::variable);
    if let Some(setting) = TABLE.iter().find(|setting| setting.variable() == variable) {
        return Ok(Some(setting.name));
    }
    let Some(rest) = variable.strip_prefix("EVENER_") else { return Ok(None) };
    if OTHER_VARIABLES.contains(&variable) {
        return Ok(None);
    }
    // Without the two underscores it may be a variable of another program, unless it names a key: then it is a typo.
    let slip = TABLE.iter().find(|s| s.name.ends_with(&format!(".{}", rest.to_ascii_lowercase())));
    match slip {
        Some(setting) => Err(unknown(variable, "the environment", std::iter::once(setting.variable()))),
        None if rest.contains("__") => Err(unknown(variable, "the environment", known())),
        None => Ok(None),
    }
}

fn unknown(name: &str, origin: &str, known: impl Iterator<Item = String>) -> ApiError {
    let error = ApiError::new(&codes::UNKNOWN_SETTING, format!("there is no setting '{name}' ({origin})"));
    match nearest(name, known) {
        Some(near) => error.hint(format!("did you mean {near}? `evener config` lists all settings")),
        None => error,
    }
}

/// Returns the known word that is most similar to `word`, if any is.
#[must_use]
pub fn nearest(word: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let scored = known.enumerate().map(|(nth, candidate)| (strsim::jaro_winkler(word, &candidate), nth, candidate));
    // Of equals the first, so that additions to the list change no suggestion.
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    (best.0 > 0.75).then_some(best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str) -> Sources {
        Sources {
            flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            file: (!file.is_empty()).then(|| (PathBuf::from("evener.toml"), file.to_owned())),
        }
    }

    fn error(sources: Sources) -> ApiError {
        sources.load().expect_err("it should be refused")
    }

    #[test]
    fn flags_go_before_variables_before_the_file_before_defaults() {
        let file = "[node]\nname = \"file\"\ndata = \"/file\"\n[cluster]\nlease = \"9s\"\njoin = [\"a:1\", \"b:2\"]";
        let variables = [("EVENER_NODE__NAME", "variable"), ("EVENER_NODE__DATA", "/variable")];
        let loaded = sources(&[("node.name", "flag")], &variables, file).load().unwrap();
        let settings = &loaded.settings;
        assert_eq!((settings.name.as_str(), settings.data.as_path()), ("flag", Path::new("/variable")));
        assert_eq!((settings.lease.as_secs(), settings.join.len()), (9, 2));
        let origins = ["node.name", "node.data", "cluster.lease", "node.listen"];
        let origins = origins.map(|name| loaded.origin(name).unwrap().to_string());
        assert_eq!(origins, ["--name", "EVENER_NODE__DATA", "evener.toml", "default"]);
        let row = &loaded.rows()[1];
        assert_eq!((row.name, row.value.as_str(), row.default), ("node.name", "flag", "node-1"));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        let file = error(sources(&[], &[], "[node]\nlisten_addr = \"a:1\""));
        assert_eq!(file.code, "EV0500");
        assert!(file.hint.contains("did you mean node.listen?"), "{}", file.hint);
        let variable = error(sources(&[], &[("EVENER_CLUSTER__LEASES", "5s")], ""));
        assert!(variable.hint.contains("did you mean EVENER_CLUSTER__LEASE?"), "{}", variable.hint);
        let slip = error(sources(&[], &[("EVENER_LISTEN", "a:1")], ""));
        assert!(slip.hint.contains("did you mean EVENER_NODE__LISTEN?"), "{}", slip.hint);
        let section = error(sources(&[], &[], "listen = \"a:1\""));
        assert!(section.message.contains("outside of a section"), "{}", section.message);
    }

    #[test]
    fn variables_that_are_not_settings_are_left_alone() {
        let others = [("EVENER_SERVER", "http://x"), ("EVENER_CONFIG", "x"), ("EVENER_SEED", "5")];
        assert_eq!(sources(&[], &others, "").load().unwrap().settings, Settings::default());
        let filter = sources(&[], &[("EVENER_LOG", "debug")], "").load().unwrap();
        assert_eq!(filter.settings.log_filter, "debug");
    }

    #[test]
    fn an_empty_variable_is_none() {
        let variables = [("EVENER_LOG", ""), ("EVENER_NODE__NAME", ""), ("EVENER_CLUSTER__LEASE", "")];
        let loaded = sources(&[], &variables, "[node]\nname = \"file\"").load().unwrap();
        assert_eq!((loaded.settings.name.as_str(), loaded.settings.lease.as_secs()), ("file", 5));
        assert_eq!(loaded.origin("log.filter"), Some(&Origin::Default));
        let error = error(sources(&[("node.name", "")], &[], ""));
        assert!(error.message.contains("--name"), "an empty flag is a mistake: {}", error.message);
    }

    #[test]
    fn a_bad_value_names_the_setting_its_origin_and_the_form() {
        let error = error(sources(&[("cluster.lease", "5")], &[], ""));
        assert_eq!(
            error.message,
            "cluster.lease = '5' (--lease): it must be a time with its unit, as 500ms, 5s, 2m or 1h"
        );
    }

    #[test]
    fn a_broken_file_is_named_with_the_place() {
        let error = error(sources(&[], &[], "[node]\nname = "));
        assert!(error.message.contains("evener.toml") && error.message.contains("line 2"), "{}", error.message);
    }
}
