//! What several commands take.

use std::{io::IsTerminal, path::Path, time::Duration};

use clap::Args;
use evener_core::{
    criteria::{Criteria, Criterion},
    id::Position,
};
use uuid::Uuid;

use super::{
    block_on, leaderless,
    output::{Format, some},
};
use evener::{
    client::Client,
    codes, context,
    engine::{Change, Consistency, Operation, OperationState, Read, Reply, Request, What},
    error::{ApiError, Class},
    settings::Value,
};

/// Whom to ask, how long, and how to show the answer.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Whom to ask, and how to show the answer.
    #[command(flatten)]
    pub server_args: ServerArgs,
    /// Give up if there is no answer within this time [default: about 15s, less if no server can be reached]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// Whom to ask, and how to show the answer.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// Servers of the cluster: the next is asked when one fails
    #[arg(long, env = "EVENER_SERVER", value_name = "URL[,URL…]", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// How to show the answer
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

impl Server {
    /// A client of these servers.
    pub fn client(&self) -> Result<Client, ApiError> {
        let client = Client::connect(self.server_args.servers())?;
        Ok(match self.timeout {
            Some(time) => client.within(time),
            None => client,
        })
    }

    /// As [`client`](Self::client), with this patience unless somebody says otherwise.
    pub fn client_with(&self, patience: Duration) -> Result<Client, ApiError> {
        let client = self.client()?;
        Ok(if self.timeout.is_some() { client } else { client.with_patience(patience) })
    }

    /// How to show the answer, unless somebody says otherwise as a table.
    pub fn format(&self) -> Format {
        self.server_args.output.unwrap_or(Format::Table)
    }

    /// Asks.
    pub fn ask(&self, action: &str, request: impl Into<Request>) -> Result<Reply, ApiError> {
        let (client, request) = (self.client()?, request.into());
        let reply = block_on(async {
            match request {
                Request::Processors | Request::Processor(_) | Request::Operations(_) | Request::Operation(_) => {
                    leaderless::request(&client, &request).await
                }
                _ => client.ask(&request).await,
            }
        });
        reply.map_err(|error| error.doing(action))
    }
}

/// Whom to ask unless somebody says otherwise.
const DEFAULT_SERVER: &str = "http://127.0.0.1:4750";

impl ServerArgs {
    /// Returns the servers to ask. An empty variable is one that nobody has set; an empty flag is a mistake.
    pub fn servers(&self) -> &str {
        let unset = std::env::var_os("EVENER_SERVER").is_some_and(|servers| servers.is_empty());
        if self.server.is_empty() && unset { DEFAULT_SERVER } else { &self.server }
    }
}

/// What every change can say.
#[derive(Clone, Debug, Args)]
pub struct ChangeArgs {
    /// Why: it is kept with the operation, and `evener operations` shows it
    #[arg(long)]
    pub reason: Option<String>,
    /// Only say what it would come to
    #[arg(long)]
    pub dry_run: bool,
    /// The operation's id: repeated with the same it is done once
    #[arg(long, value_name = "UUID")]
    pub operation: Option<Uuid>,
    #[command(flatten)]
    pub server: Server,
}

impl ChangeArgs {
    /// Makes a change and shows what came of it.
    pub fn change(self, action: &str, what: What) -> Result<(), ApiError> {
        self.change_with(action, what, |operation| outcome_line(action, operation))
    }

    /// Makes a change and shows what came of it, to people in these words.
    pub fn change_with(self, action: &str, what: What, words: impl Fn(&Operation) -> String) -> Result<(), ApiError> {
        let operation = self.operation.unwrap_or_else(Uuid::new_v4);
        let change = Change { operation, principal: None, reason: self.reason, dry_run: self.dry_run, what };
        let answer =
            self.server.ask(action, change).map_err(|error| with_repeat_hint(error, "--operation", &operation));
        let Reply::Operation(operation) = answer? else {
            unreachable!("a change is answered with an operation");
        };
        let format = self.server.format();
        if operation.dry_run {
            return format.show(&operation, || words(&operation));
        }
        format.show_done(&operation, || words(&operation))
    }
}

impl ChangeArgs {
    /// Returns what is remembered of the operation whose id is given, if it was made before.
    pub fn previous_outcome(&self, action: &str) -> Result<Option<Operation>, ApiError> {
        let Some(id) = self.operation else { return Ok(None) };
        match self.server.ask(action, Request::Operation(id)) {
            Ok(Reply::Operation(known)) => Ok(Some(known)),
            Ok(_) => unreachable!("an operation is answered with an operation"),
            Err(error) if error.is(&codes::UNKNOWN_OPERATION) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a change can say that gives something up for good.
#[derive(Clone, Debug, Args)]
pub struct DestructiveArgs {
    /// Do it without asking: needed in scripts, where nobody can be asked
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub changing: ChangeArgs,
}

impl DestructiveArgs {
    /// Makes a change that somebody has confirmed, and shows what came of it.
    pub fn change(self, action: &str, what: What) -> Result<(), ApiError> {
        self.change_with(action, what, |operation| outcome_line(action, operation))
    }

    /// As [`change`](Self::change), in these words for people.
    pub fn change_with(self, action: &str, what: What, words: impl Fn(&Operation) -> String) -> Result<(), ApiError> {
        if !self.yes && !self.changing.dry_run {
            self.confirm(action, &what)?;
        }
        self.changing.change_with(action, what, words)
    }

    /// Asks whoever sits at the terminal whether to give up what the server counts.
    fn confirm(&self, action: &str, what: &What) -> Result<(), ApiError> {
        let server = &self.changing.server;
        // One that was made already is not made again.
        if self.changing.previous_outcome(action)?.is_some() {
            return Ok(());
        }
        let trial = Change { dry_run: true, ..Change::new(what.clone()) };
        let Reply::Operation(trial) = server.ask(action, trial)? else {
            unreachable!("a change is answered with an operation");
        };
        if trial.changed == Some(0) {
            return Ok(());
        }
        let losses = losses(action, what, &trial);
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(ApiError::new(&codes::NOT_CONFIRMED, format!("{losses}, and there is no terminal to ask at")));
        }
        eprint!("{losses}. Go on? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(ApiError::new(&codes::NOT_CONFIRMED, format!("{action}: not confirmed, so nothing was changed"))),
        }
    }
}

/// What would be lost by a change.
fn losses(action: &str, what: &What, trial: &Operation) -> String {
    let (touched, events) = (trial.changed.unwrap_or(0), trial.events.unwrap_or(0));
    let (sequences, lost) = (some(touched, "sequence"), some(events, "event"));
    match what {
        What::Delete(_) if events == 0 => format!("{action} gives up its progress"),
        What::Delete(_) => format!("{action} gives up its progress and {lost} set aside"),
        What::Drop(..) => format!("{action} gives up {lost} of {sequences}"),
        What::Skip(..) => format!("{action} gives up {lost}, the first of each of {sequences}"),
        What::Leave(node) => format!("{action} is for ever: {node} cannot come back with the data that it has"),
        _ => action.to_owned(),
    }
}

/// Where it is not known whether something happened, how to repeat the command so that it happens once.
pub fn with_repeat_hint(error: ApiError, flag: &str, id: &impl std::fmt::Display) -> ApiError {
    match error.class {
        Class::Unknown => error.hint(format!("repeat it with {flag} {id}: it is then done once")),
        _ => error,
    }
}

/// What came of a change, for people.
pub fn outcome_line(action: &str, operation: &Operation) -> String {
    let state = match (operation.dry_run, operation.state) {
        (true, _) => "would be done",
        (false, OperationState::Done) => "done",
        (false, OperationState::Waiting) => "waiting",
        (false, OperationState::Refused) => "refused",
    };
    let why = operation.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{action}: {state}{why}\n")
}

/// Which events.
#[derive(Clone, Debug, Args)]
pub struct ReadArgs {
    /// The first position that is meant
    #[arg(long, value_name = "POSITION", value_parser = number::<u64>)]
    pub from: Option<u64>,
    /// The position after the last that is meant
    #[arg(long, value_name = "POSITION", value_parser = number::<u64>)]
    pub to: Option<u64>,
    /// No more events than this
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub limit: Option<u64>,
    /// Only events of this type; several: any of them
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events with this very tag, which may be any text, as account=7; several: all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only events of this stream
    #[arg(long)]
    pub stream: Option<String>,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Answer from what the server has, without asking the others
    #[arg(long)]
    pub local: bool,
}

impl ReadArgs {
    /// The read that these words ask for.
    pub fn read(&self) -> Result<Read, ApiError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            let message = format!("there is nothing from position {from} to {to}");
            let hint = "--to is the position after the last that is meant, so it must be greater than --from";
            return Err(ApiError::new(&codes::USAGE, message).hint(hint));
        }
        let item = Criterion { types: self.types.clone(), tags: self.tags.clone() };
        Ok(Read {
            context: self.context.as_deref().map_or(Ok(Default::default()), context::named)?,
            from: Position(self.from.unwrap_or(0)),
            to: self.to.map(Position),
            limit: self.limit,
            criteria: if item.is_any() { Criteria::ANY } else { Criteria(vec![item]) },
            stream: self.stream.clone(),
            backwards: false,
            continues: false,
            consistency: if self.local { Consistency::Local } else { Consistency::Linearizable },
        })
    }
}

impl ReadArgs {
    /// Says so on standard error where a read begins beyond the head: else it would answer nothing and say nothing.
    pub fn note_beyond_head(&self, head: Position) {
        if let Some(from) = self.from.filter(|from| *from > head.0) {
            eprintln!(
                "nothing is stored from position {from} on yet: the head is {head}, the position of the next event"
            );
        }
    }
}

/// What a file is called in messages.
pub fn name_of(path: &Path) -> String {
    if path.to_str() == Some("-") { "stdin".into() } else { path.display().to_string() }
}

/// A name, for clap: an empty one is usually a variable of a script that is not set.
pub fn name() -> clap::builder::NonEmptyStringValueParser {
    clap::builder::NonEmptyStringValueParser::new()
}

/// A whole number, for clap, whose own words for a wrong one are a programmer's.
pub fn number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number: u64 = text.parse().map_err(|_| "it must be a whole number, from 0 on")?;
    number.try_into().map_err(|_| "the number is too large".into())
}

/// As [`number`], where none at all would make no sense.
pub fn number_from_1<N: TryFrom<u64> + Default + PartialEq>(text: &str) -> Result<N, String> {
    let wrong = || "it must be a whole number, from 1 on".to_owned();
    number(text).map_err(|_| wrong()).and_then(|number| if number == N::default() { Err(wrong()) } else { Ok(number) })
}

/// A duration with its unit, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
}
