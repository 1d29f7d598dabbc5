//! What several commands take.

use std::time::Duration;

use clap::Args;
use evener_core::{
    criteria::{Criteria, Criterion},
    id::Position,
};
use uuid::Uuid;

use super::{block_on, output::Format};
use crate::{
    client::Client,
    engine::{Change, Consistency, Operation, OperationState, Read, Reply, Request, What},
    error::ApiError,
    settings::Value,
    wire,
};

/// Whom to ask, and how to show the answer.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Servers of the cluster: the next is asked when one fails
    #[arg(long, env = "EVENER_SERVER", value_name = "URL[,URL…]", default_value = "http://127.0.0.1:4750")]
    pub server: String,
    /// How to show the answer
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Format>,
}

impl Server {
    /// A client of these servers.
    pub fn client(&self) -> Result<Client, ApiError> {
        Client::connect(&self.server)
    }

    /// How to show the answer, unless somebody says otherwise as a table.
    pub fn format(&self) -> Format {
        self.output.unwrap_or(Format::Table)
    }

    /// Asks.
    pub fn ask(&self, doing: &str, request: impl Into<Request>) -> Result<Reply, ApiError> {
        let (client, request) = (self.client()?, request.into());
        block_on(async { client.ask(&request).await }).map_err(|error| error.doing(doing))
    }
}

/// What every change can say.
#[derive(Clone, Debug, Args)]
pub struct Changing {
    /// Why: it is kept with the operation
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

impl Changing {
    /// Makes a change and shows what came of it.
    pub fn change(self, doing: &str, what: What) -> Result<(), ApiError> {
        let operation = self.operation.unwrap_or_else(Uuid::new_v4);
        let change = Change { operation, reason: self.reason, dry_run: self.dry_run, what };
        let Reply::Operation(operation) = self.server.ask(doing, change)? else {
            unreachable!("a change is answered with an operation");
        };
        self.server.format().show(&operation, || sentence(doing, &operation))
    }
}

/// What came of a change, for people.
fn sentence(doing: &str, operation: &Operation) -> String {
    let state = match (operation.dry_run, operation.state) {
        (true, _) => "would be done",
        (false, OperationState::Done) => "done",
        (false, OperationState::Waiting) => "waiting",
        (false, OperationState::Refused) => "refused",
    };
    let why = operation.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{doing}: {state}{why}\n")
}

/// Which events.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// The first position that is meant
    #[arg(long, value_name = "POSITION")]
    pub from: Option<u64>,
    /// The position after the last that is meant
    #[arg(long, value_name = "POSITION")]
    pub to: Option<u64>,
    /// No more events than this
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Only events of this type; several: any of them
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only events with this tag; several: all of them
    #[arg(long = "tag", value_name = "KEY=VALUE")]
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

impl Which {
    /// The read that these words ask for.
    pub fn read(&self) -> Result<Read, ApiError> {
        let item = Criterion { types: self.types.clone(), tags: self.tags.clone() };
        Ok(Read {
            context: self.context.as_deref().map_or(Ok(Default::default()), wire::context)?,
            from: Position(self.from.unwrap_or(0)),
            to: self.to.map(Position),
            limit: self.limit,
            criteria: if item.is_any() { Criteria::ANY } else { Criteria(vec![item]) },
            stream: self.stream.clone(),
            backwards: false,
            consistency: if self.local { Consistency::Local } else { Consistency::Linearizable },
        })
    }
}

/// A duration with its unit, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
}
