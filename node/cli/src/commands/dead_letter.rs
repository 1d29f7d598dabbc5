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

/// What can be done with what processors have set aside
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what a processor has set aside, with causes
    List {
        /// The processor's name
        #[arg(value_parser = name())]
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Show one sequence: why it fails, and its events with their data
    Show {
        /// The processor's name
        #[arg(value_parser = name())]
        name: String,
        /// The sequence, by the name that the list shows; '' is the one without a name, as of events without a subject
        #[arg(long)]
        sequence: String,
        #[command(flatten)]
        server: Server,
    },
    /// Change a letter's payload (not built yet)
    Edit(not_yet::Args),
    /// Try it now, its attempts counted anew; what comes of it the list shows
    ///
    /// A handler program that was changed is taken up by `evener processor pause` and `resume`: do that before.
    Retry(Retried),
    /// Pass over the event that fails, and try the one behind it
    Skip(GivenUp),
    /// Give up all its events
    Drop(GivenUp),
}

/// Which sequences of a processor are tried again
#[derive(Debug, Args)]
pub struct Retried {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    changing: ChangeArgs,
}

/// Which sequences of a processor are given up, or their first events
#[derive(Debug, Args)]
pub struct GivenUp {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    giving_up: DestructiveArgs,
}

/// Which sequences of a processor
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["sequence", "all"])))]
pub struct Which {
    /// The processor's name
    #[arg(value_parser = name())]
    name: String,
    /// The sequence, by the name that the list shows; '' is the one without a name, as of events without a subject
    #[arg(long)]
    sequence: Option<String>,
    /// The component whose sequence it is
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<u16>)]
    component: u16,
    /// All that is set aside
    #[arg(long)]
    all: bool,
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<(), ApiError> {
        match self {
            Self::List { name, server } => list(&name, &server),
            Self::Show { name, sequence, server } => show::show(&name, &sequence, &server),
            Self::Edit(args) => args.run(Verb::Edit),
            Self::Retry(Retried { which, changing }) => {
                let (name, action, selection) = which.told("retry");
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
        let (name, action, selection) = which.told(verb);
        let (what, words) = (what(name.clone(), selection), |done: &Operation| outcome_line(verb, &name, done));
        // One event of a sequence that is named is what `skip` says; no question makes that clearer.
        if one && verb == "skip" {
            return giving_up.changing.change_with(&action, what, words);
        }
        giving_up.change_with(&action, what, words)
    }
}

impl Which {
    /// The processor, what is done to which of its sequences in words, and which they are.
    fn told(self, verb: &str) -> (String, String, Selection) {
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

/// What came of it, for people: that a try is due is not that it went well.
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
    let see = format!("what comes of it: evener dead-letter list {name}, where what is handled is gone");
    match verb {
        "retry" => format!("{sequences} of {name} {is} tried again now, from {its} on\n{see}\n{}\n", take_up(name)),
        "skip" => format!("{sequences} of {name} went past {its}, and {is} tried again behind it\n{see}\n"),
        _ => format!("{lost}{sequences} of {name} are given up: they count as skipped\n"),
    }
}

/// What must be done before a retry where the program is another one. It is said before that, too.
fn take_up(name: &str) -> String {
    format!("a program that was changed is taken up by `evener processor pause {name}` and `resume`, before a retry")
}

fn each(sequences: &str, count: u64) -> String {
    if count == 1 { sequences.to_owned() } else { format!("each of {sequences}") }
}

/// What a processor has set aside.
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
        text += &format!("\n{unnamed} is a sequence without a name: type it as --sequence ''\n");
    }
    text + &wrapped(&format!("\n{}\n", take_up(name)))
}

#[cfg(test)]
mod tests {
    use evener_core::id::Position;
    use uuid::Uuid;

    use super::*;
    use evener::engine::{Letter, OperationState};

    fn told(verb: &str, changed: u64, dry_run: bool) -> String {
        let (operation, state, note) = (Uuid::nil(), OperationState::Done, None);
        let changed = Some(changed);
        let events = (verb != "retry").then_some(900);
        outcome_line(verb, "totals", &Operation { operation, state, why: None, changed, events, dry_run, note })
    }

    #[test]
    fn a_retry_tells_how_many_are_tried_and_where_its_outcome_shows() {
        let retried = told("retry", 2, false);
        assert!(retried.starts_with("2 sequences of totals are tried again now, from their first events on\n"));
        assert!(retried.contains("evener dead-letter list totals"), "{retried}");
        assert!(told("drop", 1, false).starts_with("900 events of 1 sequence of totals are given up"));
        assert_eq!(
            told("skip", 1, true),
            "it would skip 1 event, the first of 1 sequence of totals; nothing was changed\n"
        );
        assert_eq!(
            told("skip", 2, true),
            "it would skip 2 events, the first of each of 2 sequences of totals; nothing was changed\n"
        );
        assert_eq!(told("drop", 3, true), "it would drop 900 events, of 3 sequences of totals; nothing was changed\n");
        assert_eq!(told("retry", 0, false), "nothing of totals is set aside\n");
    }

    #[test]
    fn how_a_changed_program_is_taken_up_is_said_before_a_retry_and_with_it() {
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
        for told in [text("totals", &[aside]), shown, told("retry", 1, true), told("retry", 1, false)] {
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains("`evener processor pause totals` and `resume`, before a retry"), "{told}");
        }
        assert!(!told("skip", 1, true).contains("pause") && !text("totals", &[]).contains("pause"));
    }

    #[test]
    fn a_sequence_without_a_name_is_seen_and_can_be_typed() {
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
        let told = text("totals", &[aside]);
        assert!(told.contains("\n(no subject)  dead ") && told.contains("--sequence ''"), "{told}");
    }
}
