//! Arguments that several commands share.

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

/// The servers, the timeout and the output format.
#[derive(Clone, Debug, Args)]
pub(crate) struct Server {
    /// The servers and the output format.
    #[command(flatten)]
    pub server_args: ServerArgs,
    /// Give up if there is no answer within this time [default: about 15s, less if no server can be reached]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// The servers and the output format.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// Servers of the cluster, tried in turn until one answers
    #[arg(long, env = "EVENER_SERVER", value_name = "URL[,URL…]", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Output format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

impl Server {
    /// Returns a client of these servers.
    pub(crate) fn client(&self) -> Result<Client, ApiError> {
        let client = Client::connect(self.server_args.servers())?;
        Ok(match self.timeout {
            Some(time) => client.within(time),
            None => client,
        })
    }

    /// Returns a client that retries for `patience` unless --timeout is given.
    pub(crate) fn client_with(&self, patience: Duration) -> Result<Client, ApiError> {
        let client = self.client()?;
        Ok(if self.timeout.is_some() { client } else { client.with_retry_time(patience) })
    }

    /// Returns the output format: a table unless one is given.
    pub(crate) fn format(&self) -> Format {
        self.server_args.output.unwrap_or(Format::Table)
    }

    /// Sends a request, and returns the reply.
    pub(crate) fn ask(&self, action: &str, request: impl Into<Request>) -> Result<Reply, ApiError> {
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

/// The server if none is given.
const DEFAULT_SERVER: &str = "http://127.0.0.1:4750";

impl ServerArgs {
    /// Returns the servers. An empty variable counts as unset; an empty flag is an error.
    pub(crate) fn servers(&self) -> &str {
        let unset = std::env::var_os("EVENER_SERVER").is_some_and(|servers| servers.is_empty());
        if self.server.is_empty() && unset { DEFAULT_SERVER } else { &self.server }
    }
}

/// The arguments of every change.
#[derive(Clone, Debug, Args)]
pub(super) struct ChangeArgs {
    /// Reason, stored with the operation and shown by `evener operations`
    #[arg(long)]
    pub reason: Option<String>,
    /// Show what would change, without changing it
    #[arg(long)]
    pub dry_run: bool,
    /// Operation id: a command repeated with the same id takes effect once
    #[arg(long, value_name = "UUID")]
    pub operation: Option<Uuid>,
    #[command(flatten)]
    pub server: Server,
}

impl ChangeArgs {
    /// Makes a change and shows its outcome.
    pub(super) fn change(self, action: &str, what: What) -> Result<(), ApiError> {
        self.change_with(action, what, |operation| outcome_line(action, operation))
    }

    /// Makes a change and shows its outcome, with `words` as the text of a table.
    pub(super) fn change_with(
        self,
        action: &str,
        what: What,
        words: impl Fn(&Operation) -> String,
    ) -> Result<(), ApiError> {
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
    /// Returns the stored outcome of the operation with the given id, if it exists.
    pub(super) fn previous_outcome(&self, action: &str) -> Result<Option<Operation>, ApiError> {
        let Some(id) = self.operation else { return Ok(None) };
        match self.server.ask(action, Request::Operation(id)) {
            Ok(Reply::Operation(known)) => Ok(Some(known)),
            Ok(_) => unreachable!("an operation is answered with an operation"),
            Err(error) if error.is(&codes::UNKNOWN_OPERATION) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The arguments of a change that discards data permanently.
#[derive(Clone, Debug, Args)]
pub(super) struct DestructiveArgs {
    /// Do not ask for confirmation: required without a terminal, as in scripts
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub changing: ChangeArgs,
}

impl DestructiveArgs {
    /// Asks for confirmation, makes a change and shows its outcome.
    pub(super) fn change(self, action: &str, what: What) -> Result<(), ApiError> {
        self.change_with(action, what, |operation| outcome_line(action, operation))
    }

    /// Makes a change as [`change`](Self::change), with `words` as the text of a table.
    pub(super) fn change_with(
        self,
        action: &str,
        what: What,
        words: impl Fn(&Operation) -> String,
    ) -> Result<(), ApiError> {
        if !self.yes && !self.changing.dry_run {
            self.confirm(action, &what)?;
        }
        self.changing.change_with(action, what, words)
    }

    /// Asks at the terminal whether to discard what the server counted.
    fn confirm(&self, action: &str, what: &What) -> Result<(), ApiError> {
        let server = &self.changing.server;
        // An operation that exists already has no further effect.
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
        eprint!("{losses}. Continue? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(ApiError::new(&codes::NOT_CONFIRMED, format!("{action}: not confirmed, so nothing was changed"))),
        }
    }
}

/// Describes what a change would discard.
fn losses(action: &str, what: &What, trial: &Operation) -> String {
    let (touched, events) = (trial.changed.unwrap_or(0), trial.events.unwrap_or(0));
    let (sequences, lost) = (some(touched, "sequence"), some(events, "event"));
    match what {
        What::Delete(_) if events == 0 => format!("{action} discards its progress"),
        What::Delete(_) => format!("{action} discards its progress and {lost} set aside"),
        What::Drop(..) => format!("{action} discards {lost} of {sequences}"),
        What::Skip(..) => format!("{action} discards {lost}, the first of each of {sequences}"),
        What::Reset(..) => match trial.why.as_deref().and_then(|why| why.split(';').next()) {
            Some(touched) => format!("{action}: {touched}"),
            None => action.to_owned(),
        },
        What::Leave(node) => format!("{action} is permanent: {node} cannot rejoin with its current data"),
        _ => action.to_owned(),
    }
}

/// Adds a hint to an error with an unknown outcome: how to repeat the command so that it takes effect once.
pub(super) fn with_repeat_hint(error: ApiError, flag: &str, id: &impl std::fmt::Display) -> ApiError {
    match error.class {
        Class::Unknown => error.hint(format!("repeat it with {flag} {id}: it then takes effect once")),
        _ => error,
    }
}

/// Returns the line that describes the outcome of a change.
pub(super) fn outcome_line(action: &str, operation: &Operation) -> String {
    let state = match (operation.dry_run, operation.state) {
        (true, _) => "would be done",
        (false, OperationState::Done) => "done",
        (false, OperationState::Waiting) => "waiting",
        (false, OperationState::Refused) => "refused",
    };
    let why = operation.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{action}: {state}{why}\n")
}

/// The events to read.
#[derive(Clone, Debug, Args)]
pub(super) struct ReadArgs {
    /// Start at this position (inclusive)
    #[arg(long, value_name = "POSITION", value_parser = number::<u64>)]
    pub from: Option<u64>,
    /// End before this position (exclusive)
    #[arg(long, value_name = "POSITION", value_parser = number::<u64>)]
    pub to: Option<u64>,
    /// Maximum number of events
    #[arg(long, value_name = "N", value_parser = number::<u64>)]
    pub limit: Option<u64>,
    /// Only events of this type (repeatable: any of the types)
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events with exactly this tag, any text such as account=7 (repeatable: all of the tags)
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only events of this stream
    #[arg(long)]
    pub stream: Option<String>,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Answer from the server's own data, without asking the other nodes
    #[arg(long)]
    pub local: bool,
}

impl ReadArgs {
    /// Returns the read that these arguments describe.
    pub(super) fn read(&self) -> Result<Read, ApiError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            let message = format!("there are no positions from {from} to {to}");
            let hint = "--to is exclusive, so it must be greater than --from";
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
    /// Prints a note on stderr if the read starts beyond the head: otherwise its empty output would have no
    /// explanation.
    pub(super) fn note_beyond_head(&self, head: Position) {
        if let Some(from) = self.from.filter(|from| *from > head.0) {
            eprintln!(
                "nothing is stored from position {from} on yet: the head is {head}, the position of the next event"
            );
        }
    }
}

/// Returns the name of a file in messages.
pub(super) fn name_of(path: &Path) -> String {
    if path.to_str() == Some("-") { "stdin".into() } else { path.display().to_string() }
}

/// Returns clap's parser of names. An empty name is usually an unset variable of a script.
pub(super) fn name() -> clap::builder::NonEmptyStringValueParser {
    clap::builder::NonEmptyStringValueParser::new()
}

/// Parses a whole number, with a clearer error than clap's own.
pub(super) fn number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number: u64 = text.parse().map_err(|_| "it must be a whole number, from 0 on")?;
    number.try_into().map_err(|_| "the number is too large".into())
}

/// Parses a whole number as [`number`] does, but not 0.
pub(super) fn number_from_1<N: TryFrom<u64> + Default + PartialEq>(text: &str) -> Result<N, String> {
    let wrong = || "it must be a whole number, from 1 on".to_owned();
    number(text).map_err(|_| wrong()).and_then(|number| if number == N::default() { Err(wrong()) } else { Ok(number) })
}

/// Parses a duration with its unit, for clap.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
}
