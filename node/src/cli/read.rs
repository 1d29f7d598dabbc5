//! `evener read`

use std::io::IsTerminal;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Format, Server,
    args::Which,
    block_on,
    output::{maybe, say},
};
use crate::{client::Line, error::ApiError};

/// Read events
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// The last first
    #[arg(long)]
    backwards: bool,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Reads them, and shows each as it comes.
    pub fn run(self) -> Result<(), ApiError> {
        let mut read = self.which.read()?;
        read.backwards = self.backwards;
        let mut reading = self.server.client()?.read(read);
        let mut show = Show::new(&self.server);
        block_on(async {
            while let Some(line) = reading.next().await.map_err(|error| error.doing("failed to read events"))? {
                show.line(&line)?;
            }
            show.end()
        })
    }
}

/// Shows events one by one: to people as lines of a table, to programs as NDJSON unless they want otherwise.
pub struct Show {
    format: Format,
    all: Vec<serde_json::Value>,
}

impl Show {
    /// As the command line says.
    pub fn new(server: &Server) -> Self {
        let usual = if std::io::stdout().is_terminal() { Format::Table } else { Format::Ndjson };
        Self { format: server.output.unwrap_or(usual), all: Vec::new() }
    }

    /// Shows an event, or where the read ended.
    pub fn line(&mut self, line: &Line) -> Result<(), ApiError> {
        match (self.format, line) {
            (Format::Table, Line::Event(_, json)) => say(&row(json)),
            (Format::Ndjson, Line::Event(_, json)) => say(&format!("{json}\n")),
            (Format::Ndjson, Line::Progress { next, marker }) => {
                say(&format!("{{\"next\":{next},\"marker\":{marker}}}\n"))
            }
            (Format::Json | Format::Yaml, Line::Event(_, json)) => {
                self.all.extend(serde_json::from_str(json));
                Ok(())
            }
            (_, Line::Progress { .. }) => Ok(()),
        }
    }

    /// Shows what was gathered.
    pub fn end(self) -> Result<(), ApiError> {
        match self.format {
            Format::Json | Format::Yaml => self.format.show(&self.all, String::new),
            Format::Table | Format::Ndjson => Ok(()),
        }
    }
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

/// One event as a line for people.
fn row(json: &str) -> String {
    let Ok(row) = serde_json::from_str::<Row<'_>>(json) else { return format!("{json}\n") };
    let revision = row.revision.map(|revision| format!("@{revision}")).unwrap_or_default();
    let stream = maybe(row.stream) + &revision;
    let data = row.data.map_or("", RawValue::get);
    let short: String = data.chars().take(80).collect();
    let more = if short.len() < data.len() { "…" } else { "" };
    format!("{:>8}  {stream:<24}  {:<32}  {short}{more}\n", row.position, row.kind)
}
