//! `evener dead-letter …`

use clap::{ArgGroup, Args, Subcommand};
use evener_core::{command::Selection, id::ComponentId};

use super::{
    Server,
    args::{Changing, number},
    not_yet,
    output::{count, from_now, maybe, table},
};
use crate::{
    codes,
    engine::{DeadLetter, Reply, Request, Verb, What},
    error::ApiError,
};

/// What can be done with what processors have set aside
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what a processor has set aside, with causes
    List {
        /// The processor's name
        name: String,
        #[command(flatten)]
        server: Server,
    },
    /// Show one sequence and its letters
    Show {
        /// The processor's name
        name: String,
        /// The sequence
        #[arg(long)]
        sequence: String,
        #[command(flatten)]
        server: Server,
    },
    /// Change a letter's payload (not built yet)
    Edit(not_yet::Args),
    /// Try it now, its attempts counted anew
    Retry(Which),
    /// Pass over the letter that fails
    Skip(Which),
    /// Give up all its letters
    Drop(Which),
}

/// Which sequences of a processor
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["sequence", "all"])))]
pub struct Which {
    /// The processor's name
    name: String,
    /// The sequence
    #[arg(long)]
    sequence: Option<String>,
    /// The component whose sequence it is
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<u16>)]
    component: u16,
    /// All that is set aside
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    changing: Changing,
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<(), ApiError> {
        match self {
            Self::List { name, server } => list(name, &server),
            Self::Show { name, sequence, server } => show(name, &sequence, &server),
            Self::Edit(_) => Err(ApiError::not_yet(&format!("`{}`", Verb::Edit.row().words))),
            Self::Retry(which) => which.change("retry", What::Retry),
            Self::Skip(which) => which.change("skip", What::Skip),
            Self::Drop(which) => which.change("drop", What::Drop),
        }
    }
}

impl Which {
    fn change(self, verb: &str, what: impl FnOnce(String, Selection) -> What) -> Result<(), ApiError> {
        let (label, selection) = match self.sequence {
            Some(sequence) => {
                (format!("sequence '{sequence}'"), Selection::Sequence(ComponentId(self.component), sequence))
            }
            None => ("all sequences".to_owned(), Selection::All),
        };
        self.changing.change(&format!("{verb} {label} of {}", self.name), what(self.name, selection))
    }
}

fn ask(name: String, server: &Server) -> Result<Vec<DeadLetter>, ApiError> {
    match server.ask("failed to list what is set aside", Request::DeadLetters(name))? {
        Reply::DeadLetters(letters) => Ok(letters),
        _ => unreachable!("dead letters are answered with dead letters"),
    }
}

fn list(name: String, server: &Server) -> Result<(), ApiError> {
    let letters = ask(name, server)?;
    server.format().show(&letters, || {
        let rows = letters.iter().map(|aside| {
            let first = aside.letters.first();
            [
                aside.sequence.clone(),
                aside.state.clone(),
                count(aside.letters.len() as u64),
                maybe(first.map(|letter| letter.position)),
                maybe(first.map(|letter| letter.attempts)),
                maybe(aside.retry_at.as_deref().map(from_now)),
                aside.cause.clone(),
            ]
        });
        table(["sequence", "state", "letters", "position", "attempts", "retry", "cause"], rows)
    })
}

fn show(name: String, sequence: &str, server: &Server) -> Result<(), ApiError> {
    let found = ask(name.clone(), server)?.into_iter().find(|aside| aside.sequence == sequence);
    let Some(aside) = found else {
        let message = format!("no sequence '{sequence}' of {name} is set aside");
        return Err(ApiError::new(&codes::UNKNOWN_SEQUENCE, message));
    };
    server.format().show(&aside, || {
        let rows = aside
            .letters
            .iter()
            .map(|letter| [letter.position.to_string(), letter.kind.clone(), letter.attempts.to_string()]);
        format!(
            "sequence '{}': {}\ncause: {}\nretry at: {}\nlent to: {}\n\n{}",
            aside.sequence,
            aside.state,
            aside.cause,
            maybe(aside.retry_at.as_ref()),
            maybe(aside.lent_to.as_ref()),
            table(["position", "type", "attempts"], rows)
        )
    })
}
