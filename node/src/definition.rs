//! The definition of a processor in JSON: what `POST /processors` takes and what showing a processor gives back.

use std::time::Duration;

use evener_core::{
    backoff::Backoff,
    criteria::{Criteria, Criterion},
    id::{ContextId, Position},
    processor::{Definition, Handler, OnError, Start},
    sequence::Sequencing,
};
use serde::{Deserialize, Serialize};

use crate::{codes, context, error::ApiError, settings::Value};

/// The default number of segments of a processor.
pub const SEGMENTS: u32 = 16;

/// The fields of a definition.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// Unique in the cluster.
    pub name: String,
    /// Whose events, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The program, run by `sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<String>,
    /// Not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<StartAt>,
    /// Any of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// All of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// In place of types and tags: any of these items.
    #[serde(skip_serializing_if = "Criteria::is_any")]
    pub criteria: Criteria,
    /// `key-else-stream`, `stream`, `tag:NAME`, `extension:NAME`, `whole` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequencing: Option<String>,
    /// `set-aside`, `stop` or `skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// How failed work is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryFields>,
}

/// Where a processor starts.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartAt {
    /// With the first event there is.
    Beginning,
    /// With the first event after its creation.
    Head,
    /// With this position.
    Position(u64),
    /// Not yet.
    Time(String),
}

/// Retry policy for failed events; omitted fields have their defaults.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryFields {
    /// The wait after the first failure, as `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// No wait is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Attempts in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}

impl Fields {
    /// Returns the definition that these fields describe.
    pub fn definition(self) -> Result<Definition, ApiError> {
        let handler = match (self.exec, self.webhook) {
            (_, Some(_)) => return Err(ApiError::not_yet("a processor with `webhook`")),
            (Some(command), None) if !command.trim().is_empty() => Handler::Exec(command),
            _ => {
                return Err(wrong("a processor needs `exec`: the command that handles its events").hint(
                    "give `\"exec\":\"CMD\"`, or --exec 'CMD' on the command line; processors in Rust are created by \
                           their own program",
                ));
            }
        };
        let item = Criterion { types: self.types, tags: self.tags };
        let criteria = match (item.is_any(), self.criteria.0.is_empty()) {
            (true, _) => self.criteria,
            (false, true) => Criteria(vec![item]),
            (false, false) => return Err(wrong("`criteria` replaces `types` and `tags`: give one or the other")),
        };
        Ok(Definition {
            name: self.name,
            context: self.context.as_deref().map_or(Ok(ContextId::DEFAULT), context::named)?,
            handler,
            segments: self.segments.unwrap_or(SEGMENTS),
            start: self.start.map_or(Ok(Start::Beginning), StartAt::start)?,
            criteria,
            sequencing: self.sequencing.as_deref().map_or(Ok(Sequencing::default()), sequencing)?,
            on_error: self.on_error.unwrap_or_default(),
            backoff: self.retry.unwrap_or_default().backoff()?,
        })
    }
}

impl From<&Definition> for Fields {
    fn from(definition: &Definition) -> Self {
        let (exec, webhook) = match &definition.handler {
            Handler::Embedded => (None, None),
            Handler::Exec(command) => (Some(command.clone()), None),
            Handler::Webhook(url) => (None, Some(url.clone())),
        };
        let (types, tags, criteria) = match definition.criteria.0.as_slice() {
            [item] => (item.types.clone(), item.tags.clone(), Criteria::ANY),
            _ => (Vec::new(), Vec::new(), definition.criteria.clone()),
        };
        let millis = |ms: u32| Some(Value::show(&Duration::from_millis(u64::from(ms))));
        let Backoff { first_ms, max_ms, attempts } = definition.backoff;
        Self {
            name: definition.name.clone(),
            context: (definition.context != ContextId::DEFAULT).then(|| definition.context.to_string()),
            exec,
            webhook,
            segments: Some(definition.segments),
            start: Some(match definition.start {
                Start::Beginning => StartAt::Beginning,
                Start::Head => StartAt::Head,
                Start::At(position) => StartAt::Position(position.0),
            }),
            types,
            tags,
            criteria,
            sequencing: Some(sequencing_word(&definition.sequencing)),
            on_error: Some(definition.on_error),
            retry: Some(RetryFields { first: millis(first_ms), max: millis(max_ms), attempts: Some(attempts) }),
        }
    }
}

impl StartAt {
    /// Parses a command line value: `beginning`, `head`, a position, or a time, which begins with a digit.
    pub fn of_word(word: &str) -> Result<Self, ApiError> {
        match (word, word.parse()) {
            ("beginning", _) => Ok(Self::Beginning),
            ("head", _) => Ok(Self::Head),
            (_, Ok(position)) => Ok(Self::Position(position)),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => Ok(Self::Time(word.to_owned())),
            _ => {
                let words = ["beginning", "head"].map(str::to_owned).into_iter();
                let error = ApiError::new(
                    &codes::USAGE,
                    format!("--start is '{word}': it must be `beginning`, `head` or a position"),
                );
                Err(match crate::settings::nearest(&word.to_ascii_lowercase(), words) {
                    Some(near) => error.hint(format!("did you mean --start {near}?")),
                    None => error,
                })
            }
        }
    }

    fn start(self) -> Result<Start, ApiError> {
        match self {
            Self::Beginning => Ok(Start::Beginning),
            Self::Head => Ok(Start::Head),
            Self::Position(position) => Ok(Start::At(Position(position))),
            Self::Time(_) => {
                Err(ApiError::not_yet("starting a processor at a time")
                    .hint("start at `beginning`, `head` or a position"))
            }
        }
    }
}

impl RetryFields {
    fn backoff(self) -> Result<Backoff, ApiError> {
        let usual = Backoff::default();
        let millis = |field: &str, text: Option<String>, usual: u32| match text {
            None => Ok(usual),
            Some(text) => {
                Duration::parse(&text).ok().and_then(|wait| u32::try_from(wait.as_millis()).ok()).ok_or_else(|| {
                    wrong(&format!("`retry.{field}` is '{text}': it must be a time with its unit, as 500ms or 1s"))
                })
            }
        };
        let first_ms = millis("first", self.first, usual.first_ms)?;
        let max_ms = millis("max", self.max, usual.max_ms.max(first_ms))?;
        if first_ms > max_ms {
            return Err(wrong(&format!("`retry.first` ({first_ms} ms) is longer than `retry.max` ({max_ms} ms)")));
        }
        Ok(Backoff { first_ms, max_ms, attempts: self.attempts.unwrap_or(usual.attempts) })
    }
}

/// Reads a sequencing policy.
pub fn sequencing(word: &str) -> Result<Sequencing, ApiError> {
    let named = |name: &str, make: fn(String) -> Sequencing| (!name.is_empty()).then(|| make(name.to_owned()));
    let found = match word.split_once(':') {
        None => match word {
            "key-else-stream" => Some(Sequencing::KeyElseStream),
            "stream" => Some(Sequencing::Stream),
            "whole" => Some(Sequencing::Whole),
            "none" => Some(Sequencing::None),
            _ => None,
        },
        Some(("tag", name)) => named(name, Sequencing::Tag),
        Some(("extension", name)) => named(name, Sequencing::Extension),
        Some(_) => None,
    };
    found.ok_or_else(|| {
        wrong(&format!(
            "`sequencing` is '{word}': it must be key-else-stream, stream, tag:NAME, extension:NAME, whole or none"
        ))
    })
}

fn sequencing_word(sequencing: &Sequencing) -> String {
    match sequencing {
        Sequencing::KeyElseStream => "key-else-stream".to_owned(),
        Sequencing::Stream => "stream".to_owned(),
        Sequencing::Tag(name) => format!("tag:{name}"),
        Sequencing::Extension(name) => format!("extension:{name}"),
        Sequencing::Whole => "whole".to_owned(),
        Sequencing::None => "none".to_owned(),
    }
}

fn wrong(message: &str) -> ApiError {
    ApiError::new(&codes::INVALID_CHANGE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Definition, ApiError> {
        serde_json::from_str::<Fields>(json).expect("it is well-formed").definition()
    }

    #[test]
    fn what_is_left_out_is_as_usual() {
        let definition = read(r#"{"name":"p","exec":"cat"}"#).unwrap();
        assert_eq!((definition.segments, definition.start), (16, Start::Beginning));
        assert_eq!((definition.on_error, definition.backoff), (OnError::SetAside, Backoff::default()));
        assert!(definition.criteria.is_any());
    }

    #[test]
    fn what_is_shown_can_be_created_again() {
        let json = r#"{"name":"p","exec":"cat","segments":4,"start":{"position":7},"types":["a"],"tags":["b=c"],
            "sequencing":"tag:case","on_error":"stop","retry":{"first":"100ms","attempts":3}}"#;
        let definition = read(json).unwrap();
        assert_eq!(definition.backoff, Backoff { first_ms: 100, max_ms: 60_000, attempts: 3 });
        assert_eq!(Fields::from(&definition).definition().unwrap(), definition);
    }

    #[test]
    fn a_start_that_is_misspelt_is_no_time() {
        let wrong = |word: &str| StartAt::of_word(word).expect_err("it is no start");
        assert_eq!(wrong("begining").hint.as_ref(), "did you mean --start beginning?");
        assert_eq!(wrong("Head").hint.as_ref(), "did you mean --start head?");
        assert!(wrong("x").is(&codes::USAGE) && wrong("").message.contains("`beginning`, `head` or a position"));
        assert!(matches!(StartAt::of_word("2026-01-01"), Ok(StartAt::Time(_))));
        assert!(matches!(StartAt::of_word("7"), Ok(StartAt::Position(7))));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let check = |json: &str, code: &str, part: &str| {
            let error = read(json).unwrap_err();
            assert_eq!(error.code, code, "{json}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(r#"{"name":"p"}"#, "EV0303", "`exec`");
        check(r#"{"name":"p","webhook":"http://x"}"#, "EV0900", "webhook");
        check(r#"{"name":"p","exec":"cat","start":{"time":"2026-01-01T00:00:00Z"}}"#, "EV0900", "at a time");
        check(r#"{"name":"p","exec":"cat","sequencing":"tag:"}"#, "EV0303", "extension:NAME");
        check(r#"{"name":"p","exec":"cat","retry":{"first":"1"}}"#, "EV0303", "`retry.first` is '1'");
        check(r#"{"name":"p","exec":"cat","retry":{"first":"2s","max":"1s"}}"#, "EV0303", "longer than");
    }
}
