//! The builder of a node: its settings and its processors.

use std::{ffi::OsString, path::Path};

use super::{
    Node,
    arguments::{self, Arguments, Flags},
    environment::Environment,
    running_node,
};
use crate::{
    actors::Embedded,
    codes,
    error::ApiError,
    handler::{Processor, Ready},
    logs::{self, Log},
    settings::{Settings, Sources},
};

/// The builder of a node.
#[must_use = "a node does nothing until it is started"]
pub struct NodeBuilder {
    settings: Settings,
    /// Whether it founds its own cluster if the directory is empty and the settings do not say otherwise.
    standalone: bool,
    environment: Option<Environment>,
    processors: Vec<Processor>,
    log: Option<Log>,
}

impl Node {
    /// Creates a node from the program's arguments (the flags of `evener serve`), `EVENER_*` variables, `evener.toml`,
    /// and defaults, in this order of precedence. The default is one node named `node-1`, a cluster of its own, with
    /// its data in `./data`, clients on `127.0.0.1:4750` and peers on `127.0.0.1:4751`.
    ///
    /// `--help` prints the flags and exits. Arguments after `--` are left to the program; a program with its own flags
    /// passes those of the node to [`Node::from_args`].
    ///
    /// # Errors
    /// If an argument, variable or key of the file is unknown, or its value is invalid.
    pub fn from_env() -> Result<NodeBuilder, ApiError> {
        Self::from_args(std::env::args_os().skip(1))
    }

    /// Creates a node as [`Node::from_env`] does, from these arguments (without the program's name).
    ///
    /// ```no_run
    /// # use evener::prelude::*;
    /// # fn example() -> Result {
    /// // `billing --dry-run -- --data /var/lib/billing`
    /// let node = Node::from_args(std::env::args_os().skip_while(|argument| argument != "--").skip(1))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Node::from_env`].
    pub fn from_args<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<NodeBuilder, ApiError> {
        match Arguments::parse(arguments.into_iter().map(Into::into))? {
            Arguments::Flags(Flags { config, given }) => {
                let loaded = Sources::of_process(given, config.as_deref())?.load()?;
                Ok(NodeBuilder { standalone: true, ..Self::with(loaded.settings) })
            }
            Arguments::Help => {
                let program = std::env::args_os().next().unwrap_or_default();
                print!("{}", arguments::help(Path::new(&program)));
                std::process::exit(0);
            }
        }
    }

    /// Creates a node with exactly these settings: arguments, variables and files are ignored. Its data directory must
    /// belong to a node already, unless `bootstrap` or `join` is set.
    pub fn with(settings: Settings) -> NodeBuilder {
        NodeBuilder { settings, standalone: false, environment: None, processors: Vec::new(), log: None }
    }

    /// Creates a node for a test: a single node in memory that uses the current runtime and its clock, so that a test
    /// with a paused clock never waits. It opens no port, has only the settings of [`NodeBuilder::set`], and loses its
    /// data when the last handle is dropped.
    ///
    /// **Available with the feature `testing` only**: `cargo add evener --dev --features testing`.
    ///
    /// ```
    /// use evener::prelude::*;
    /// use std::sync::{Arc, atomic::{AtomicI64, Ordering::SeqCst}};
    ///
    /// #[derive(Event, Serialize, Deserialize)]
    /// #[event(name = "account.credited.v1", key = account)]
    /// struct Credited { account: String, cents: i64 }
    ///
    /// async fn sum(event: Credited, State(total): State<Arc<AtomicI64>>) {
    ///     total.fetch_add(event.cents, SeqCst);
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result {
    /// // #[tokio::test(start_paused = true)]: given …
    /// let total = Arc::new(AtomicI64::new(0));
    /// let processor = Processor::new("total").on(sum).with_state(total.clone());
    /// let node = Node::ephemeral().processor(processor).start().await?;
    /// // … when …
    /// node.append("account-7", [Credited { account: "7".into(), cents: 100 }]).await?;
    /// node.caught_up("total").await?;
    /// // … then.
    /// assert_eq!(total.load(SeqCst), 100);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(any(test, feature = "testing"))]
    pub fn ephemeral() -> NodeBuilder {
        use std::sync::Arc;

        use evener_cluster::{sim_wire, transport::PausableClock};
        use evener_store::disk::{DiskImage, MemoryDisk};

        let threads = tokio::runtime::Handle::current();
        let scheduler = Arc::new(move |job: Box<dyn FnOnce() + Send>| {
            threads.spawn(async move { job() });
        });
        let seed = rand::random();
        let wire = sim_wire::SimNet::new(sim_wire::Settings::seeded(seed));
        let environment = Environment {
            disk: Arc::new(MemoryDisk::with(DiskImage::default(), scheduler)),
            transport: Arc::new(wire.host("127.0.0.1")),
            clock: Arc::new(PausableClock::start()),
            seed,
        };
        NodeBuilder { standalone: true, ..Self::with(Settings::default()) }.with_environment(environment)
    }
}

impl NodeBuilder {
    /// Adds a processor. Every node of the cluster that has it can run it.
    pub fn processor(mut self, processor: impl Ready) -> Self {
        self.processors.push(processor.ready());
        self
    }

    /// Changes the settings; [`Settings`] documents their defaults.
    pub fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Writes log lines to stderr in the format `log.format` (default: text), filtered by `log.filter` (default:
    /// `info,openraft=error`). Without it nothing is written, unless the program installs its own `tracing` subscriber;
    /// one that is already installed is kept.
    ///
    /// A stuck reader of stderr does not block the node: lines are queued up to 1 MiB, then dropped and counted. Panics
    /// are logged as well.
    ///
    /// # Errors
    /// If `log.filter` is invalid, or no thread can be created.
    pub fn log_to_stderr(mut self) -> Result<Self, ApiError> {
        self.log = Some(logs::start(&self.settings)?);
        Ok(self)
    }

    /// Replaces the disk, network and clock. The node then runs on the current runtime only and serves no HTTP.
    #[doc(hidden)]
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Starts the node: it becomes a member of its cluster, creates its processors in the log, and runs its handlers.
    /// It waits for other nodes if it joins a cluster or needs them for a majority.
    ///
    /// # Errors
    /// If settings contradict each other or a resource is not available, with a hint what to do.
    pub async fn start(self) -> Result<Node, ApiError> {
        let Self { settings, standalone, environment, processors, log } = self;
        settings.check()?;
        let embedded: Vec<Embedded> = processors
            .into_iter()
            .map(Processor::into_parts)
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::new(&codes::INVALID_CHANGE, error.to_string()))?;
        let mut names: Vec<&str> = embedded.iter().map(|(definition, _)| definition.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("two processors of this program are named {:?}", twice[0]);
            return Err(ApiError::new(&codes::EXISTS, message));
        }
        running_node::start(settings, standalone, environment, embedded, log).await
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use evener_cluster::sim_wire::SimClock;
    use evener_core::time::Timestamp;
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        engine::{Reply, Request, WantedBy},
        prelude::{Claim, Event, Raw, State},
        status::SegmentsWanted,
    };

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Happened {
        nth: u64,
    }

    impl Event for Happened {
        const NAMES: &'static [&'static str] = &["happened.v1"];

        fn name(&self) -> &'static str {
            Self::NAMES[0]
        }

        fn key(&self) -> Option<std::borrow::Cow<'_, str>> {
            None
        }
    }

    async fn epochs(_: Raw, claim: Claim, State(seen): State<Arc<Mutex<Vec<u64>>>>) {
        seen.lock().push(claim.epoch.0);
    }

    /// Tokio's time has not passed, so its claims look as good as before.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_suspended_handles_nothing_under_the_claims_that_it_had() {
        let (clock, seen) = (SimClock::new(Timestamp(1_700_000_000_000)), Arc::new(Mutex::new(Vec::new())));
        let mut builder =
            Node::ephemeral().processor(Processor::new("p").on_any(epochs).with_state(seen.clone()).segments(1));
        builder.environment.as_mut().unwrap().clock = Arc::new(clock.clone());
        let node = builder.start().await.unwrap();
        let event = || Happened { nth: 1 };
        node.append("a", [event()]).await.unwrap();
        node.caught_up("p").await.unwrap();
        clock.suspend(Duration::from_secs(60));
        node.append("a", [event()]).await.unwrap();
        node.caught_up("p").await.unwrap();
        let seen = seen.lock().clone();
        assert!(seen.len() == 2 && seen[0] < seen[1], "the second one is handled under a new claim: {seen:?}");
    }
    async fn ignore(_: Raw) {}

    #[tokio::test(start_paused = true)]
    async fn other_segments_than_a_processor_was_created_with_are_shown_where_one_looks_for_it() {
        let of = |segments| Node::ephemeral().processor(Processor::new("p").on_any(ignore).segments(segments));
        let (first, mut second) = (of(8), of(16));
        second.environment.as_mut().unwrap().disk = first.environment.as_ref().unwrap().disk.clone();
        first.start().await.unwrap().stop().await;
        let node = second.start().await.unwrap();
        let Reply::Status(status) = node.ask(Request::Status).await.unwrap() else { panic!("it is the status") };
        assert_eq!(status.segments_wanted, [SegmentsWanted { processor: "p".into(), stored: 8, wanted: 16 }]);
        let shown = node.processor("p").status().await.unwrap();
        assert_eq!(shown.segments.len(), 8);
        assert_eq!(shown.segments_wanted, [WantedBy { node: "node-1".into(), stored: 8, wanted: 16 }]);
    }
}
