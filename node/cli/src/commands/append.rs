//! `evener append`

use std::{io::Read as _, path::PathBuf};

use evener_core::{
    append::{Condition, Expect, Expected, Request},
    criteria::{Criteria, Criterion},
    event::{DataKind, Event},
    id::{Position, Revision},
};
use uuid::Uuid;

use super::{
    Server,
    args::{name_of, number, with_repeat_hint},
    output::maybe,
};
use evener::{
    cloudevent, codes, context,
    engine::{Reply, Request as Asked},
    error::ApiError,
    wire,
};

/// Append one event, or with --json an append in the format of POST /events
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\nevener append account-7 --type credited --data '{\"cents\": 100}'")]
pub(super) struct Args {
    /// The stream of the event, its subject: events of one stream are handled one after the other
    stream: Option<String>,
    /// The stream, by its CloudEvents name
    #[arg(long, value_name = "STREAM", conflicts_with = "stream", hide = true)]
    subject: Option<String>,
    /// The type of the event
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "json")]
    kind: Option<String>,
    /// The source of the event
    #[arg(long, default_value = "/evener/cli")]
    source: String,
    /// The id of the event: an event repeated with the same source, id and content is stored once [default: a new id]
    #[arg(long)]
    id: Option<String>,
    /// The ordering key, if it is not the stream
    #[arg(long)]
    key: Option<String>,
    /// A label, any text such as account=7 (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The data of the event, as JSON
    #[arg(long, value_name = "JSON", conflicts_with = "data_file")]
    data: Option<String>,
    /// A file that holds the data, as JSON (- for stdin)
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// The expected revision of the stream: a number, `none` or `any`
    #[arg(long, value_name = "REVISION")]
    expect: Option<String>,
    /// Refuse if an event of this type is at or after the marker (repeatable: any of the types)
    #[arg(long, value_name = "TYPE", requires = "marker")]
    unless_type: Vec<String>,
    /// Refuse if an event with this tag is at or after the marker (repeatable: all of the tags)
    #[arg(long, value_name = "TAG", requires = "marker")]
    unless_tag: Vec<String>,
    /// The marker returned by the preceding read (see `evener read --trailer`)
    #[arg(long, value_name = "POSITION", value_parser = number::<u64>)]
    marker: Option<u64>,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// A file that holds the append, as JSON (- for stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stream", "subject", "kind"])]
    json: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Appends, and prints the position.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let request = match &self.json {
            Some(file) => wire::append::parse(&read_file(file)?)?,
            None => self.request()?,
        };
        let events = request.events.len();
        let id = self.json.is_none().then(|| self.id.clone().unwrap_or_else(|| request.events[0].id.to_string()));
        let reply = self.server.ask("failed to append", Asked::Append(request)).map_err(|error| match &id {
            Some(id) => with_repeat_hint(error, "--id", id),
            // The ids are in the file.
            None => error,
        })?;
        let Reply::Appended(appended) = &reply else { unreachable!("an append is answered with its position") };
        let json = wire::encode(&reply).expect("it is no page");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("it was written just now");
        self.server.format().show_done(&json, || {
            let (first, next) = (appended.first, appended.next);
            let again = if appended.repeated { " already" } else { "" };
            if events == 1 {
                return format!("stored{again} at position {first}\n");
            }
            format!("{events} events stored{again} from position {first}, next is {next}\n")
        })
    }

    fn request(&self) -> Result<Request, ApiError> {
        let event = self.event()?;
        let expect = self.expect.as_deref().map(|word| self.expectation(word)).transpose()?;
        let item = Criterion { types: self.unless_type.clone(), tags: self.unless_tag.clone() };
        let condition = self.marker.map(|marker| Condition {
            criteria: Criteria(if item.is_any() { Vec::new() } else { vec![item] }),
            marker: Position(marker),
        });
        Ok(Request {
            context: self.context.as_deref().map_or(Ok(Default::default()), context::named)?,
            request: cloudevent::request_id(std::slice::from_ref(&event)),
            conditions: condition.into_iter().collect(),
            expect: expect.into_iter().collect(),
            events: vec![event],
        })
    }

    fn stream(&self) -> Option<&String> {
        self.stream.as_ref().or(self.subject.as_ref())
    }

    fn event(&self) -> Result<Event, ApiError> {
        let data = match (&self.data, &self.data_file) {
            (Some(data), _) => Some(data.clone().into_bytes()),
            (None, Some(file)) => Some(read_file(file)?),
            (None, None) => None,
        };
        if let Some(Err(error)) = data.as_deref().map(serde_json::from_slice::<serde::de::IgnoredAny>) {
            return Err(ApiError::new(&codes::USAGE, format!("the data is not valid JSON: {error}")).hint(
                "quote a string for the shell as well: --data '\"text\"'; for bytes use --json with `data_base64`",
            ));
        }
        let id = self.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        Ok(Event {
            id: cloudevent::derived_id(&self.source, &id),
            given_id: Some(id),
            source: self.source.clone(),
            kind: maybe(self.kind.as_ref()),
            stream: self.stream().cloned(),
            key: self.key.clone(),
            tags: self.tags.clone(),
            data_kind: if data.is_some() { DataKind::Json } else { DataKind::None },
            data: data.unwrap_or_default(),
            ..Event::default()
        })
    }

    fn expectation(&self, word: &str) -> Result<Expect, ApiError> {
        let Some(stream) = self.stream().cloned() else {
            return Err(ApiError::new(&codes::USAGE, "--expect needs a stream, and none is given"));
        };
        let at = match (word, word.parse()) {
            ("none", _) => Expected::NoStream,
            ("any", _) => Expected::Any,
            (_, Ok(revision)) => Expected::At(Revision(revision)),
            _ => {
                let message = format!("--expect is '{word}': it must be a revision, `none` or `any`");
                return Err(ApiError::new(&codes::USAGE, message));
            }
        };
        Ok(Expect { stream, at })
    }
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().read_to_end(&mut bytes),
        _ => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    match read {
        Ok(_) => Ok(wire::without_bom(&bytes).to_vec()),
        Err(error) => Err(ApiError::new(&codes::FILE, format!("failed to read {}: {error}", name_of(path)))),
    }
}
