//! `evener import FILE|-`: events go in the order of the file, some hundred in an append, one append after the
//! other. Every append is all or nothing and its ids make it harmless to repeat, so an import that ended can
//! simply be run again.

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

/// Bytes of the events of one append: well below what an append may have.
const APPEND_BYTES: usize = 256 << 10;
/// How long one append is repeated: longer than a cluster takes to recover from anything it recovers from alone.
const RETRY_TIME: Duration = Duration::from_secs(120);

/// As [`PATIENCE`] is told.
const TIMEOUT: &str = "Give up where one append has no answer in this time [default: 120 s at most: sooner where no \
                       server ever answers, or all say that they will not in the time that is left]";

const EXAMPLE: &str = r#"Example:
echo '{"id":"1","source":"/bank","type":"credited","subject":"account-7"}' |
  evener import -

`id` and `source` name the event for ever, so that the same import again stores nothing twice; `subject` is its stream.
A JSON array is made lines of by `jq -c '.[]'`, objects over several lines by `jq -c .`."#;

/// Add the events of a file of CloudEvents, one JSON object a line
///
/// It takes what `evener export` and `evener read` write, as in `evener read | evener import - --server URL`, and what
/// GET /events answers: its last line, {"next":P,"marker":M}, is no event and is passed over.
///
/// From a pipe, as in `tail -f FILE | evener import -`, events are sent as soon as the input pauses.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE, mut_arg("timeout", |arg| arg.help(TIMEOUT)))]
pub struct Args {
    /// The file; - is stdin
    file: PathBuf,
    /// Events of one append, at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=5_000))]
    batch: u16,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// No progress bar and no last words
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    server: Server,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Events read from the file and known to be stored.
    pub events: u64,
    /// Of them, stored by this run.
    pub stored: u64,
    /// Of them, stored before.
    pub already: u64,
    /// The position of the first that this run stored.
    pub first: Option<u64>,
    /// The position after the last that this run stored.
    pub next: Option<u64>,
}

impl Args {
    /// Imports, and says what was stored, also where it ends early.
    pub fn run(self) -> Result<(), ApiError> {
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
        result.map_err(|error| said(error, &summary))?;
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

/// Standard input as a file of its own, so that its kind can be told.
fn stdin() -> std::io::Result<File> {
    use std::os::fd::AsFd;
    std::io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

/// Whether a line is the last one that a read is answered with.
fn is_trailer(line: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only the form counts")]
    struct Trailer {
        next: u64,
        marker: u64,
    }
    serde_json::from_slice::<Trailer>(line).is_ok()
}

/// JSON in another form than one object a line: what is odd about it, and what makes lines of it.
fn other_form(line: &[u8], error: &cloudevent::Error) -> Option<(&'static str, &'static str)> {
    match error {
        _ if line.trim_ascii().starts_with(b"[") => Some(("it begins a JSON array", "jq -c '.[]'")),
        cloudevent::Error::Json(error) if error.is_eof() => Some(("its JSON does not end on the line", "jq -c .")),
        _ => None,
    }
}

/// How to import what `jq` makes of the file.
fn piped(jq: &str, name: &str) -> String {
    let file = if name == "stdin" { String::new() } else { format!(" {name}") };
    format!("{jq}{file} | evener import -")
}

/// What was stored, added to an error.
fn said(mut error: ApiError, summary: &Summary) -> ApiError {
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

/// An import under way.
struct Import {
    client: Client,
    wait_reporter: WaitReporter,
    /// Bytes of the file that were read; where a send has succeeded, that is what is stored.
    read: u64,
    context: ContextId,
    name: String,
    summary: Summary,
    /// Read, and not sent yet, with their lines.
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
                        // What stands before the broken line is stored, so that the order of the file holds.
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
            // It is the line of a file that somebody looks for, and the parser knows this one only.
            let why = why.to_string().replace(" at line 1 column ", " at column ");
            ApiError::new(&codes::BAD_LINE, format!("line {number} of {} is not an event: {why}", self.name))
        };
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(wrong(&format!("it has more than {LINE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(line).map_err(|error| wrong(&error))?;
        cloudevent::from_json(text.trim()).map_err(|error| match other_form(line, &error) {
            Some((why, jq)) => wrong(&why).hint(format!("a line has one whole JSON object: {}", piped(jq, &self.name))),
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

    /// The bar tells what is stored, and not what was read ahead.
    fn show(&self) {
        self.wait_reporter.bar.set_position(self.read);
        self.wait_reporter.bar.set_message(some(self.summary.events, "event"));
    }

    /// Sends what is pending: as one append where that works, else without what is stored already, else one by
    /// one, so that the line that does not work is named.
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
            unreachable!("an append is answered with its place");
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
    fn what_was_stored_is_told_in_the_number_that_fits() {
        let told = |events, first: u64| {
            words(&Summary { events, stored: events, already: 0, first: Some(first), next: Some(first + events) })
        };
        assert_eq!(told(1, 4), "1 event is stored: 1 by this run, at position 4, 0 before it");
        assert_eq!(told(3, 4), "3 events are stored: 3 by this run, at positions 4 to 6, 0 before it");
    }

    #[test]
    fn json_that_is_not_one_object_a_line_is_told_how_to_become_it() {
        let jq = |line: &str| other_form(line.as_bytes(), &cloudevent::from_json(line).unwrap_err()).map(|(_, jq)| jq);
        assert_eq!(["[\n", "[{\"id\":\"1\"}]\n"].map(jq), [Some("jq -c '.[]'"); 2]);
        assert_eq!(["{\r\n", "{\"id\": \"1\",\n"].map(jq), [Some("jq -c ."); 2]);
        assert_eq!(
            ["{\"id\":1}", "id,source", "{\"id\": \"1\", oops"].map(jq),
            [None; 3],
            "another form mends nothing"
        );
        assert_eq!(piped("jq -c .", "a.json"), "jq -c . a.json | evener import -");
        assert_eq!(piped("jq -c .", "stdin"), "jq -c . | evener import -");
    }

    #[test]
    fn the_last_line_of_a_read_is_known_by_its_form_alone() {
        assert!(is_trailer(b"{\"next\":6,\"marker\":6}\n"));
        for line in ["{\"next\":6}", "{\"next\":6,\"marker\":6,\"id\":\"x\"}", "{\"next\":-6,\"marker\":6}", "{}"] {
            assert!(!is_trailer(line.as_bytes()), "{line} is a broken line");
        }
    }
}
