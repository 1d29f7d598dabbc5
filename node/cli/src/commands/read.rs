//! `evener read`

use std::io::IsTerminal;

use evener_core::id::Position;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Format, Server,
    args::ReadArgs,
    block_on,
    output::{columns, maybe, say, say_json},
};
use crate::text::truncate;
use evener::{client::Line, codes, error::ApiError, printable::printable};

/// Read events
///
/// Without a terminal, each event is one line of JSON, suitable for `evener import` and `jq`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    read_args: ReadArgs,
    /// Read backwards, the last event first
    #[arg(long)]
    backwards: bool,
    /// Print a trailer {"next":P,"marker":M}: the next position, and the marker for `evener append --marker`
    #[arg(long)]
    trailer: bool,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Reads the events, and shows each as it arrives.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let mut read = self.read_args.read()?;
        read.backwards = self.backwards;
        let mut reading = self.server.client()?.read(read);
        let mut show = Show::new(&self.server);
        block_on(async {
            while let Some(line) = reading.next().await.map_err(|error| error.doing("failed to read events"))? {
                match line {
                    Line::Event(_, json) => show.event(&json)?,
                    Line::Progress { next, marker } => {
                        if self.trailer {
                            show.trailer(next, marker)?;
                        }
                        self.read_args.note_beyond_head(marker);
                    }
                }
            }
            show.end()
        })
    }
}

/// Shows events one by one: as lines of a table on a terminal, as NDJSON otherwise, or in the requested format.
pub(super) struct Show {
    format: Format,
    columns: Option<u16>,
    all: Vec<serde_json::Value>,
}

impl Show {
    /// Creates it with the format of the command line.
    pub(super) fn new(server: &Server) -> Self {
        let usual = if std::io::stdout().is_terminal() { Format::Table } else { Format::Ndjson };
        Self { format: server.server_args.output.unwrap_or(usual), columns: columns(), all: Vec::new() }
    }

    /// Shows an event.
    pub(super) fn event(&mut self, json: &str) -> Result<(), ApiError> {
        match self.format {
            Format::Table => say(&printable(&row(json, self.columns))),
            _ => self.line(json),
        }
    }

    /// Shows the trailer of the read.
    fn trailer(&mut self, next: Position, marker: Position) -> Result<(), ApiError> {
        match self.format {
            Format::Table => say(&format!("next {next}, marker {marker}\n")),
            _ => self.line(&format!("{{\"next\":{next},\"marker\":{marker}}}")),
        }
    }

    fn line(&mut self, json: &str) -> Result<(), ApiError> {
        match self.format {
            Format::Table | Format::Ndjson => say_json(json),
            Format::Json | Format::Yaml => {
                let value = serde_json::from_str(json).map_err(|error| unparsable(json, &error))?;
                self.all.push(value);
                Ok(())
            }
        }
    }

    /// Shows the events that were collected for one document.
    pub(super) fn end(self) -> Result<(), ApiError> {
        match self.format {
            Format::Json | Format::Yaml => self.format.show(&self.all, String::new),
            Format::Table | Format::Ndjson => Ok(()),
        }
    }
}

/// Returns the error for an event that cannot be converted: it must not be omitted silently.
fn unparsable(json: &str, error: &serde_json::Error) -> ApiError {
    let start: String = json.chars().take(80).collect();
    ApiError::new(&codes::NOT_EVENER, format!("failed to parse {start}…: {error}"))
        .hint("-o ndjson shows every line unchanged")
}

#[derive(Deserialize)]
struct Row<'a> {
    position: u64,
    #[serde(rename = "type")]
    kind: String,
    stream: Option<String>,
    revision: Option<u64>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Formats an event as one line, truncated to the terminal if there is one.
fn row(json: &str, columns: Option<u16>) -> String {
    let Ok(row) = serde_json::from_str::<Row<'_>>(json) else { return format!("{json}\n") };
    let revision = row.revision.map(|revision| format!("@{revision}")).unwrap_or_default();
    let (stream, data) = (maybe(row.stream) + &revision, row.data.map_or("", RawValue::get));
    let (stream_width, kind_width, data_width) = match columns {
        Some(columns) => (20, 24, usize::from(columns).saturating_sub(8 + 20 + 24 + 6)),
        None => (usize::MAX, usize::MAX, 80),
    };
    let (stream, kind, data) =
        (truncate(&stream, stream_width), truncate(&row.kind, kind_width), truncate(data, data_width));
    format!("{:>8}  {stream:<20}  {kind:<24}  {data}", row.position).trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_the_terminal() {
        let json = format!(
            r#"{{"position":7,"type":"t.v1","stream":"{}","revision":0,"data":"é{}"}}"#,
            "s".repeat(60),
            "x".repeat(200)
        );
        let line = row(&json, Some(80));
        assert_eq!(line.trim_end().chars().count(), 80, "{line}");
        assert!(line.starts_with("       7  sssssssssssssssssss…  t.v1 "), "{line}");
        assert!(row(&json, None).contains(&format!("{}@0", "s".repeat(60))), "a pipe gets the whole stream name");
    }

    #[test]
    fn an_event_that_cannot_be_converted_is_an_error() {
        let mut show = Show { format: Format::Json, columns: None, all: Vec::new() };
        show.event(r#"{"position":7}"#).unwrap();
        let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        let error = show.event(&deep).unwrap_err();
        assert!(error.message.contains("recursion limit") && error.hint.contains("-o ndjson"), "{error:?}");
    }
}
