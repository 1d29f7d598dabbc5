//! `evener import FILE|-`: events are appended in the order of the file, some hundred per append, one append after the
//! other. Appends are atomic and, by their ids, idempotent, so an interrupted import can simply be run again.

mod lines;
mod wait_reporter;

use std::{collections::BTreeMap, fs::File, io::IsTerminal, path::PathBuf, time::Duration};

use evener_core::{
    append::{Appended, Request},
    event::Event,
    id::{ContextId, Position},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use lines::{LINE_BYTES_MAX, Lines};
use wait_reporter::WaitReporter;

use super::{
    Server,
    args::name_of,
    block_on,
    output::{count, some},
};
use evener::{
    client::Client,
    cloudevent, codes, context,
    engine::{Reply, Request as Asked},
    error::{ApiError, StoredId},
    wire,
};

/// The most bytes of events per append: well below the limit of an append.
const APPEND_BYTES: usize = 256 << 10;
/// How long one append is retried: longer than a cluster needs for any recovery without an operator.
const RETRY_TIME: Duration = Duration::from_secs(120);

/// The help of --timeout, with [`RETRY_TIME`] as its default.
const TIMEOUT: &str = "Give up if one append has no answer within this time [default: 120s, less if no server can be \
                       reached or none will be ready in time]";

const EXAMPLE: &str = r#"Example:
echo '{"id":"1","source":"/bank","type":"credited","subject":"account-7"}' |
  evener import -

`id` and `source` identify the event permanently, so a repeated import stores nothing twice; `subject` is its stream.
To convert a JSON array use `jq -c '.[]'`, and for objects over several lines `jq -c .`."#;

/// Import events from a file of CloudEvents, one JSON object per line
///
/// The input may be the output of `evener export` or `evener read`, as in `evener read | evener import - --server URL`,
/// or the answer to GET /events, whose last line, {"next":P,"marker":M}, is skipped.
///
/// Events from a pipe, as in `tail -f FILE | evener import -`, are sent as soon as the input pauses.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE, mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub(super) struct Args {
    /// The file to import (- for stdin)
    file: PathBuf,
    /// Maximum number of events per append
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    batch: u16,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Print no progress bar and no summary
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    server: Server,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    /// Events read from the file and known to be stored.
    pub events: u64,
    /// The number of these stored by this run.
    pub stored: u64,
    /// The number of these stored before.
    pub already: u64,
    /// The position of the first event that this run stored.
    pub first: Option<u64>,
    /// The position after the last event that this run stored.
    pub next: Option<u64>,
}

impl Args {
    /// Imports, and reports what was stored, even if the import ends early.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let context = self.context.as_deref().map_or(Ok(ContextId::DEFAULT), context::named)?;
        let (lines, bytes) = open(&self.file)?;
        let bar = self.bar(bytes);
        let client = self.server.client_with(RETRY_TIME)?;
        let retry_time = self.server.timeout.unwrap_or(RETRY_TIME);
        let mut import = Import {
            client,
            wait_reporter: WaitReporter { bar: bar.clone(), quiet: self.quiet, retry_time },
            read: 0,
            context,
            name: name_of(&self.file),
            summary: Summary::default(),
            pending: Vec::new(),
            pending_bytes: 0,
            batch: usize::from(self.batch),
        };
        let result = block_on(async {
            tokio::select! {
                result = import.run(lines) => result,
                _ = tokio::signal::ctrl_c() => {
                    Err(ApiError::new(&codes::INTERRUPTED, "the import was interrupted"))
                }
            }
        });
        bar.finish_and_clear();
        let summary = import.summary;
        result.map_err(|error| with_summary(error, &summary))?;
        if self.quiet {
            return Ok(());
        }
        self.server.format().show_done(&summary, || format!("{}\n", words(&summary)))
    }

    fn bar(&self, bytes: Option<u64>) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let (bar, style) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {percent:>3}%  {msg}  {binary_bytes_per_sec}"),
            None => (ProgressBar::no_length(), "{spinner} {msg}  {binary_bytes_per_sec}"),
        };
        bar.with_style(ProgressStyle::with_template(style).expect("the template is well-formed"))
    }
}

fn open(path: &PathBuf) -> Result<(Lines, Option<u64>), ApiError> {
    let failed = |error| ApiError::new(&codes::FILE, format!("failed to read {}: {error}", name_of(path)));
    let standard = path.to_str() == Some("-");
    let file = if standard { stdin() } else { File::open(path) }.map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let lines = if metadata.is_file() { Lines::of_file(file) } else { Lines::of_pipe(file) };
    Ok((lines.map_err(failed)?, metadata.is_file().then_some(metadata.len())))
}

/// Returns standard input as a file, so that its type can be determined.
fn stdin() -> std::io::Result<File> {
    use std::os::fd::AsFd;
    std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

/// Returns whether a line is the trailer of a read.
fn is_trailer(line: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the fields' names and types count")]
    struct Trailer {
        next: u64,
        marker: u64,
    }
    serde_json::from_slice::<Trailer>(line).is_ok()
}

/// Recognizes JSON in another layout than one object per line: what is different, and the command that converts it.
fn other_form(line: &[u8], error: &cloudevent::Error) -> Option<(&'static str, &'static str)> {
    match error {
        _ if line.trim_ascii().starts_with(b"[") => Some(("it begins a JSON array", "jq -c '.[]'")),
        cloudevent::Error::Json(error) if error.is_eof() => Some(("its JSON does not end on the line", "jq -c .")),
        _ => None,
    }
}

/// Returns the command that converts the file with `jq` and imports it.
fn piped(jq: &str, name: &str) -> String {
    let file = if name == "stdin" { String::new() } else { format!(" {name}") };
    format!("{jq}{file} | evener import -")
}

/// Adds the summary to an error.
fn with_summary(mut error: ApiError, summary: &Summary) -> ApiError {
    error.message = format!("{}\n{}", error.message, words(summary));
    error
}

fn words(summary: &Summary) -> String {
    let Summary { events, stored, already, first, next } = summary;
    let range = match (first, next.map(|next| next - 1)) {
        (Some(first), Some(last)) if *first < last => format!(", at positions {first} to {last}"),
        (Some(first), _) => format!(", at position {first}"),
        (None, _) => String::new(),
    };
    let (events, are) = (some(*events, "event"), if *events == 1 { "is" } else { "are" });
    format!("{events} {are} stored: {} by this run{range}, {} before it", count(*stored), count(*already))
}

/// A running import.
struct Import {
    client: Client,
    wait_reporter: WaitReporter,
    /// Bytes of the file that were read. After a successful send all their events are stored.
    read: u64,
    context: ContextId,
    name: String,
    summary: Summary,
    /// Events read and not sent yet, with their line numbers.
    pending: Vec<(u64, Event)>,
    pending_bytes: usize,
    batch: usize,
}

impl Import {
    async fn run(&mut self, mut lines: Lines) -> Result<(), ApiError> {
        self.show();
        for number in 1.. {
            if lines.pauses() {
                self.send().await?;
            }
            let Some(line) = lines.next().await else { break };
            let line = line.map_err(|error| {
                ApiError::new(&codes::FILE, format!("failed to read line {number} of {}: {error}", self.name))
            })?;
            let text = if number == 1 { wire::without_bom(&line) } else { &line };
            if !text.trim_ascii().is_empty() {
                match self.event(number, text) {
                    Ok(event) => self.take(number, event).await?,
                    Err(_) if is_trailer(text) => {}
                    Err(error) => {
                        // The lines before the malformed one are stored first, in the order of the file.
                        self.send().await?;
                        return Err(error);
                    }
                }
            }
            self.read += line.len() as u64;
        }
        self.send().await
    }

    fn event(&self, number: u64, line: &[u8]) -> Result<Event, ApiError> {
        let wrong = |why: &dyn std::fmt::Display| {
            // The parser sees a single line: its line number would be misleading.
            let why = why.to_string().replace(" at line 1 column ", " at column ");
            ApiError::new(&codes::BAD_LINE, format!("line {number} of {} is not an event: {why}", self.name))
        };
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(wrong(&format!("it has more than {LINE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(line).map_err(|error| wrong(&error))?;
        cloudevent::from_json(text.trim()).map_err(|error| match other_form(line, &error) {
            Some((why, jq)) => {
                wrong(&why).hint(format!("each line must be one complete JSON object: {}", piped(jq, &self.name)))
            }
            None => wrong(&error),
        })
    }

    async fn take(&mut self, number: u64, event: Event) -> Result<(), ApiError> {
        let bytes = event.size();
        if !self.pending.is_empty() && self.pending_bytes + bytes > APPEND_BYTES {
            self.send().await?;
        }
        self.pending_bytes += bytes;
        self.pending.push((number, event));
        if self.pending.len() >= self.batch {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), ApiError> {
        self.send_pending().await?;
        self.show();
        Ok(())
    }

    /// Updates the bar, which shows what is stored and not what was read ahead.
    fn show(&self) {
        self.wait_reporter.bar.set_position(self.read);
        self.wait_reporter.bar.set_message(some(self.summary.events, "event"));
    }

    /// Sends the pending events as one append; if some are stored already, without those; if that fails, one by one, so
    /// that the failing line is reported.
    async fn send_pending(&mut self) -> Result<(), ApiError> {
        self.pending_bytes = 0;
        let mut batch = std::mem::take(&mut self.pending);
        while !batch.is_empty() {
            let Err(error) = self.append(&batch).await else { return Ok(()) };
            let conflict = error.conflict.clone().unwrap_or_default();
            let by_id = |stored: &StoredId| stored.given.clone().unwrap_or_else(|| stored.id.to_string());
            let mut known = BTreeMap::<String, Vec<&StoredId>>::new();
            conflict.stored.iter().for_each(|stored| known.entry(by_id(stored)).or_default().push(stored));
            let is_known = |event: &Event| {
                let same_id = event.given_id.as_ref().and_then(|id| known.get(id));
                same_id.is_some_and(|stored| stored.iter().any(|stored| stored.is(event)))
            };
            let rest = || batch.iter().filter(|(_, event)| !is_known(event));
            if error.is(&codes::PARTLY_STORED) && rest().count() < batch.len() {
                let rest: Vec<_> = rest().cloned().collect();
                self.count_already(batch.len() - rest.len());
                batch = rest;
                continue;
            }
            if batch.len() == 1 || error.may_repeat() {
                return Err(self.at_line(error, batch[0].0));
            }
            return self.one_by_one(batch).await;
        }
        Ok(())
    }

    async fn one_by_one(&mut self, batch: Vec<(u64, Event)>) -> Result<(), ApiError> {
        for pair in batch.chunks(1) {
            if let Err(error) = self.append(pair).await {
                return Err(self.at_line(error, pair[0].0));
            }
        }
        Ok(())
    }

    async fn append(&mut self, batch: &[(u64, Event)]) -> Result<(), ApiError> {
        let events: Vec<Event> = batch.iter().map(|(_, event)| event.clone()).collect();
        let request = cloudevent::request_id(&events);
        let request = Request { context: self.context, request, events, ..Request::default() };
        let asked = Asked::Append(request);
        let Reply::Appended(appended) = self.wait_reporter.watch(&self.client, self.client.ask(&asked)).await? else {
            unreachable!("an append is answered with its position");
        };
        self.count(&appended, batch.len());
        Ok(())
    }

    fn count(&mut self, appended: &Appended, events: usize) {
        if appended.repeated {
            return self.count_already(events);
        }
        let Appended { first: Position(first), next: Position(next), .. } = *appended;
        self.summary.events += events as u64;
        self.summary.stored += events as u64;
        self.summary.first.get_or_insert(first);
        self.summary.next = Some(next);
    }

    fn count_already(&mut self, events: usize) {
        self.summary.events += events as u64;
        self.summary.already += events as u64;
    }

    fn at_line(&self, error: ApiError, number: u64) -> ApiError {
        error.doing(format!("failed to store line {number} of {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_uses_singular_and_plural() {
        let line = |events, first: u64| {
            words(&Summary { events, stored: events, already: 0, first: Some(first), next: Some(first + events) })
        };
        assert_eq!(line(1, 4), "1 event is stored: 1 by this run, at position 4, 0 before it");
        assert_eq!(line(3, 4), "3 events are stored: 3 by this run, at positions 4 to 6, 0 before it");
    }

    #[test]
    fn json_in_another_layout_gets_a_conversion_command() {
        let jq = |line: &str| other_form(line.as_bytes(), &cloudevent::from_json(line).unwrap_err()).map(|(_, jq)| jq);
        assert_eq!(["[\n", "[{\"id\":\"1\"}]\n"].map(jq), [Some("jq -c '.[]'"); 2]);
        assert_eq!(["{\r\n", "{\"id\": \"1\",\n"].map(jq), [Some("jq -c ."); 2]);
        assert_eq!(
            ["{\"id\":1}", "id,source", "{\"id\": \"1\", oops"].map(jq),
            [None; 3],
            "a conversion would not help"
        );
        assert_eq!(piped("jq -c .", "a.json"), "jq -c . a.json | evener import -");
        assert_eq!(piped("jq -c .", "stdin"), "jq -c . | evener import -");
    }

    #[test]
    fn the_trailer_of_a_read_is_recognized_by_its_fields() {
        assert!(is_trailer(b"{\"next\":6,\"marker\":6}\n"));
        for line in ["{\"next\":6}", "{\"next\":6,\"marker\":6,\"id\":\"x\"}", "{\"next\":-6,\"marker\":6}", "{}"] {
            assert!(!is_trailer(line.as_bytes()), "{line} is malformed");
        }
    }
}
