//! `evener dead-letter …`

mod show;

use clap::{ArgGroup, Args, Subcommand};
use evener_core::{command::Selection, id::ComponentId};

use super::{
    Server,
    args::{ChangeArgs, DestructiveArgs, name, number},
    block_on, leaderless, not_yet,
    output::{count, due, maybe, some, table, wrapped},
};
use evener::{
    client::Client,
    engine::{DeadLetter, Operation, Reply, Request, Verb, What},
    error::ApiError,
};

/// Manage the events that processors have set aside
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the sequences that a processor has set aside, with their causes
    List {
        /// Name of the processor
        #[arg(value_parser = name())]
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Show a sequence, the cause of its failure, and its events with their data
    Show {
        /// Name of the processor
        #[arg(value_parser = name())]
        name: String,
        /// Name of the sequence as shown by `list`; '' for the sequence of events without a subject
        #[arg(long)]
        sequence: String,
        #[command(flatten)]
        server: Server,
    },
    /// Edit the payload of a letter (not built yet)
    Edit(not_yet::Args),
    /// Retry sequences now, with new attempts; `list` shows the outcome
    ///
    /// Run `evener processor pause` and `resume` first if the handler program was changed: they restart it.
    Retry(Retried),
    /// Skip the failing event of sequences, and retry with the next
    Skip(GivenUp),
    /// Drop all events of sequences
    Drop(GivenUp),
}

/// The arguments of `retry`.
#[derive(Debug, Args)]
pub(super) struct Retried {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    changing: ChangeArgs,
}

/// The arguments of `skip` and `drop`.
#[derive(Debug, Args)]
pub(super) struct GivenUp {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    giving_up: DestructiveArgs,
}

/// The sequences of a processor that a change applies to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["sequence", "all"])))]
pub(super) struct Which {
    /// Name of the processor
    #[arg(value_parser = name())]
    name: String,
    /// Name of the sequence as shown by `list`; '' for the sequence of events without a subject
    #[arg(long)]
    sequence: Option<String>,
    /// Component of the sequence
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<u16>)]
    component: u16,
    /// All sequences that are set aside
    #[arg(long)]
    all: bool,
}

impl Command {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), ApiError> {
        match self {
            Self::List { name, server } => list(&name, &server),
            Self::Show { name, sequence, server } => show::show(&name, &sequence, &server),
            Self::Edit(args) => args.run(Verb::Edit),
            Self::Retry(Retried { which, changing }) => {
                let (name, action, selection) = which.describe("retry");
                changing.change_with(&action, What::Retry(name.clone(), selection), |done| {
                    outcome_line("retry", &name, done)
                })
            }
            Self::Skip(given_up) => given_up.change("skip", What::Skip),
            Self::Drop(given_up) => given_up.change("drop", What::Drop),
        }
    }
}

impl GivenUp {
    fn change(self, verb: &str, what: impl FnOnce(String, Selection) -> What) -> Result<(), ApiError> {
        let Self { which, giving_up } = self;
        let one = which.sequence.is_some();
        let (name, action, selection) = which.describe(verb);
        let (what, words) = (what(name.clone(), selection), |done: &Operation| outcome_line(verb, &name, done));
        // Skipping one event of a named sequence needs no confirmation.
        if one && verb == "skip" {
            return giving_up.changing.change_with(&action, what, words);
        }
        giving_up.change_with(&action, what, words)
    }
}

impl Which {
    /// Returns the processor's name, a description of the action, and the selected sequences.
    fn describe(self, verb: &str) -> (String, String, Selection) {
        let (label, selection) = match self.sequence {
            Some(sequence) => {
                (format!("sequence '{sequence}'"), Selection::Sequence(ComponentId(self.component), sequence))
            }
            None => ("all sequences".to_owned(), Selection::All),
        };
        let action = format!("{verb} {label} of {}", self.name);
        (self.name, action, selection)
    }
}

/// Describes the outcome. A retry is only scheduled: whether it succeeds is shown by `list`.
fn outcome_line(verb: &str, name: &str, operation: &Operation) -> String {
    let touched = operation.changed.unwrap_or(0);
    let sequences = some(touched, "sequence");
    if touched == 0 {
        return format!("nothing of {name} is set aside\n");
    }
    let lost = operation.events.map(|events| some(events, "event"));
    if operation.dry_run {
        let what = match (verb, lost) {
            ("skip", _) => format!("skip {}, the first of {}", some(touched, "event"), each(&sequences, touched)),
            (_, Some(lost)) => format!("{verb} {lost}, of {sequences}"),
            (_, None) => format!("{verb} {sequences}"),
        };
        let hint = if verb == "retry" { take_up(name) + "\n" } else { String::new() };
        return format!("it would {what} of {name}; nothing was changed\n{hint}");
    }
    let lost = lost.map(|lost| format!("{lost} of ")).unwrap_or_default();
    let (is, its) = if touched == 1 { ("is", "its first event") } else { ("are", "their first events") };
    let see = format!("outcome: evener dead-letter list {name} (handled sequences are no longer listed)");
    match verb {
        "retry" => format!("{sequences} of {name} {is} retried now, from {its} on\n{see}\n{}\n", take_up(name)),
        "skip" => format!("{sequences} of {name} skipped {its}, and {is} retried from the next\n{see}\n"),
        _ => format!("{lost}{sequences} of {name} are dropped: they count as skipped\n"),
    }
}

/// Returns the note on how to restart a changed program before a retry.
fn take_up(name: &str) -> String {
    format!("a changed program is restarted by `evener processor pause {name}` and `resume`, before a retry")
}

fn each(sequences: &str, count: u64) -> String {
    if count == 1 { sequences.to_owned() } else { format!("each of {sequences}") }
}

/// Requests the sequences that a processor has set aside.
async fn listed(client: &Client, name: &str) -> Result<Vec<DeadLetter>, ApiError> {
    match leaderless::request(client, &Request::DeadLetters(name.to_owned())).await? {
        Reply::DeadLetters(letters) => Ok(letters),
        _ => unreachable!("dead letters are answered with dead letters"),
    }
}

fn list(name: &str, server: &Server) -> Result<(), ApiError> {
    let client = server.client()?;
    let letters = block_on(async { listed(&client, name).await });
    let letters = letters.map_err(|error| error.doing("failed to list what is set aside"))?;
    server.format().show(&letters, || text(name, &letters))
}

fn text(name: &str, letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return format!("nothing of {name} is set aside\n");
    }
    let rows = letters.iter().map(|aside| {
        let first = aside.letters.first();
        [
            aside.unnamed.clone().unwrap_or_else(|| aside.sequence.clone()),
            aside.state.clone(),
            count(aside.letters.len() as u64),
            maybe(first.map(|letter| letter.position)),
            maybe(first.map(|letter| letter.attempts)),
            maybe(aside.retry_at.as_deref().map(due)),
            aside.cause.clone(),
        ]
    });
    let mut text = table(["sequence", "state", "events", "position", "attempts", "retry", "cause"], rows);
    if let Some(unnamed) = letters.iter().find_map(|aside| aside.unnamed.as_ref()) {
        text += &format!("\n{unnamed} is the sequence without a name: select it with --sequence ''\n");
    }
    text + &wrapped(&format!("\n{}\n", take_up(name)))
}

#[cfg(test)]
mod tests {
    use evener_core::id::Position;
    use uuid::Uuid;

    use super::*;
    use evener::engine::{Letter, OperationState};

    fn line(verb: &str, changed: u64, dry_run: bool) -> String {
        let (operation, state, note) = (Uuid::nil(), OperationState::Done, None);
        let changed = Some(changed);
        let events = (verb != "retry").then_some(900);
        outcome_line(verb, "totals", &Operation { operation, state, why: None, changed, events, dry_run, note })
    }

    #[test]
    fn a_retry_reports_its_count_and_where_to_see_the_outcome() {
        let retried = line("retry", 2, false);
        assert!(retried.starts_with("2 sequences of totals are retried now, from their first events on\n"));
        assert!(retried.contains("evener dead-letter list totals"), "{retried}");
        assert!(line("drop", 1, false).starts_with("900 events of 1 sequence of totals are dropped"));
        assert_eq!(
            line("skip", 1, true),
            "it would skip 1 event, the first of 1 sequence of totals; nothing was changed\n"
        );
        assert_eq!(
            line("skip", 2, true),
            "it would skip 2 events, the first of each of 2 sequences of totals; nothing was changed\n"
        );
        assert_eq!(line("drop", 3, true), "it would drop 900 events, of 3 sequences of totals; nothing was changed\n");
        assert_eq!(line("retry", 0, false), "nothing of totals is set aside\n");
    }

    #[test]
    fn the_note_on_changed_programs_is_shown_before_and_with_a_retry() {
        let letter = Letter { position: Position(3).0, kind: "t".into(), attempts: 1 };
        let aside = DeadLetter {
            sequence: "s".into(),
            unnamed: None,
            state: "dead".into(),
            letters: vec![letter],
            cause: "boom".into(),
            retry_at: None,
            lent_to: None,
            segment: None,
        };
        let shown = show::text("totals", &aside, &[None]);
        for text in [text("totals", &[aside]), shown, line("retry", 1, true), line("retry", 1, false)] {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.contains("`evener processor pause totals` and `resume`, before a retry"), "{text}");
        }
        assert!(!line("skip", 1, true).contains("pause") && !text("totals", &[]).contains("pause"));
    }

    #[test]
    fn a_sequence_without_a_name_is_listed_and_can_be_selected() {
        let letter = Letter { position: Position(3).0, kind: "t".into(), attempts: 1 };
        let aside = DeadLetter {
            sequence: String::new(),
            unnamed: Some("(no subject)".into()),
            state: "dead".into(),
            letters: vec![letter],
            cause: "boom".into(),
            retry_at: None,
            lent_to: None,
            segment: None,
        };
        let shown = text("totals", &[aside]);
        assert!(shown.contains("\n(no subject)  dead ") && shown.contains("--sequence ''"), "{shown}");
    }
}
