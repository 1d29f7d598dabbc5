//! `evener wait …`: for scripts, instead of sleeping.

mod caught_up;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::Subcommand;
use evener_core::id::ContextId;
use tokio::time::{Instant, timeout};

use super::{
    args::{ServerArgs, duration, number_from_1},
    block_on,
    output::say,
};
use evener::{
    client::Client,
    codes,
    engine::{Cluster, Consistency, Member, Processor, Reply, Request},
    error::ApiError,
    printable::printable,
};

/// How often the condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The time that one check may take, even with a shorter --timeout.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);

/// Wait for a condition
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Wait until every given server is ready
    Ready(WaitArgs),
    /// Wait until every member of the cluster is alive, including those not given as servers
    Alive(WaitArgs),
    /// Wait until the cluster has at least this many voters (three tolerate the loss of one)
    Voters {
        /// Number of voters
        #[arg(value_parser = number_from_1::<u64>, allow_negative_numbers = true)]
        count: u64,
        #[command(flatten)]
        wait_args: WaitArgs,
    },
    /// Wait until a processor has handled or set aside every event stored by now
    CaughtUp(caught_up::Args),
    /// Wait until every segment has an owner and the nodes' shares differ by at most one
    Balanced {
        /// Processors to wait for [default: all]
        names: Vec<String>,
        #[command(flatten)]
        wait_args: WaitArgs,
    },
}

/// The arguments of every wait.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// Maximum time to wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    server_args: ServerArgs,
}

/// The state of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// The condition holds.
    Met,
    /// The condition does not hold yet, for this reason.
    Unmet(String),
    /// The condition does not hold, and time alone will not change that: the reason is printed at once.
    Blocked(String),
}

impl From<Option<String>> for Condition {
    fn from(missing: Option<String>) -> Self {
        missing.map_or(Self::Met, Self::Unmet)
    }
}

impl Command {
    /// Waits for the condition.
    pub(super) fn run(self) -> Result<(), ApiError> {
        match self {
            Self::Ready(wait_args) => block_on(async {
                let client = wait_args.client()?;
                wait_args.wait(&client, "ready", async || Ok(client.not_ready().await.into())).await
            }),
            Self::Alive(wait_args) => block_on(async {
                let client = wait_args.client()?;
                wait_args.wait(&client, "all members are alive", async || members_down(&client).await).await
            }),
            Self::Voters { count, wait_args } => block_on(async {
                let client = wait_args.client()?;
                wait_args.wait(&client, "enough members vote", async || enough_voters(&client, count).await).await
            }),
            Self::CaughtUp(args) => args.run(),
            Self::Balanced { names, wait_args } => block_on(async {
                let client = wait_args.client()?;
                wait_args.wait(&client, "balanced", async || balanced(&client, &names).await).await
            }),
        }
    }
}

impl WaitArgs {
    /// Returns a client that does not retry: the wait itself does, and reports the last reason when the time is over.
    fn client(&self) -> Result<Client, ApiError> {
        Ok(Client::connect(self.server_args.servers())?.with_retry_time(Duration::ZERO))
    }

    /// Checks until the condition holds; `what` describes it.
    async fn wait(
        &self,
        client: &Client,
        what: &str,
        mut check: impl AsyncFnMut() -> Result<Condition, ApiError>,
    ) -> Result<(), ApiError> {
        let begun = Instant::now();
        let mut missing = None;
        loop {
            let left = self.timeout.saturating_sub(begun.elapsed()).max(ATTEMPT_MIN);
            let failed = match timeout(left, check()).await {
                Ok(Ok(Condition::Met)) => {
                    return say(&format!("{what} after {:.1} s\n", begun.elapsed().as_secs_f64()));
                }
                Ok(Ok(Condition::Unmet(why))) => {
                    missing = Some(why);
                    None
                }
                Ok(Ok(Condition::Blocked(why))) => {
                    if missing.as_ref() != Some(&why) {
                        eprintln!("waiting: {}", printable(&why));
                    }
                    missing = Some(why);
                    None
                }
                Ok(Err(error)) if error.may_repeat() => Some(error.message),
                Ok(Err(error)) => return Err(error),
                Err(_) => Some(format!("{} has not answered in time", client.server())),
            };
            if begun.elapsed() >= self.timeout {
                let why: Vec<String> = missing.into_iter().chain(failed).collect();
                let message = format!("timed out after {:.1} s: {}", self.timeout.as_secs_f64(), why.join("; "));
                return Err(ApiError::new(&codes::WAITED, message));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Returns a blocked condition if the server knows no leader; the next check goes to another server. Returns none if
/// the server has a majority: then its data is current, and not that of a partitioned node.
async fn leaderless(client: &Client) -> Result<Option<Condition>, ApiError> {
    let Reply::Status(status) = client.ask(&Request::Status).await? else {
        unreachable!("the status is answered with the status");
    };
    if status.leader.is_none() {
        client.use_next_server();
        let why = format!("{} knows no leader: a majority of the voters must be alive", status.node);
        return Ok(Some(Condition::Blocked(why + " and reach each other (see: evener cluster status)")));
    }
    client.head(ContextId::DEFAULT, Consistency::Linearizable).await?;
    Ok(None)
}

/// Returns the status of the cluster.
async fn cluster(client: &Client) -> Result<Cluster, ApiError> {
    match client.ask(&Request::ClusterStatus).await? {
        Reply::Cluster(cluster) => Ok(*cluster),
        _ => unreachable!("the cluster is answered with the cluster"),
    }
}

/// Checks that all members are alive.
async fn members_down(client: &Client) -> Result<Condition, ApiError> {
    if let Some(condition) = leaderless(client).await? {
        return Ok(condition);
    }
    Ok(describe_down(&cluster(client).await?.members).into())
}

fn describe_down(members: &[Member]) -> Option<String> {
    let down: Vec<&str> = members.iter().filter(|member| !member.alive).map(|member| member.name.as_str()).collect();
    let are = if down.len() == 1 { "is" } else { "are" };
    (!down.is_empty()).then(|| format!("{} of {} members {are} down: {}", down.len(), members.len(), down.join(", ")))
}

/// Checks the number of voters, and gives the reasons of the non-voters.
async fn enough_voters(client: &Client, wanted: u64) -> Result<Condition, ApiError> {
    if let Some(condition) = leaderless(client).await? {
        return Ok(condition);
    }
    let cluster = cluster(client).await?;
    if cluster.voters >= wanted {
        return Ok(Condition::Met);
    }
    let why = |member: Member| Some(format!("; {}: {}", member.name, member.why?));
    let reasons: String = cluster.members.into_iter().filter_map(why).collect();
    Ok(Condition::Unmet(format!("{} of {wanted} voters{reasons}", cluster.voters)))
}

async fn balanced(client: &Client, names: &[String]) -> Result<Condition, ApiError> {
    if let Some(condition) = leaderless(client).await? {
        return Ok(condition);
    }
    let (processors, cluster) = (client.ask(&Request::Processors).await?, client.ask(&Request::ClusterStatus).await?);
    let (Reply::Processors(processors), Reply::Cluster(cluster)) = (processors, cluster) else {
        unreachable!("each request has its own kind of answer");
    };
    if let Some(missing) = names.iter().find(|name| processors.iter().all(|processor| processor.name != **name)) {
        return Err(ApiError::new(&codes::UNKNOWN_PROCESSOR, format!("there is no processor {missing}")));
    }
    for processor in processors.iter().filter(|processor| names.is_empty() || names.contains(&processor.name)) {
        let embedded = processor.definition.get("exec").is_none();
        let able = cluster.members.iter().filter(|member| member.alive);
        let able = able.filter(|member| !embedded || member.capabilities.contains(&processor.name));
        if let Some(missing) = imbalance(processor, able.map(|member| member.name.as_str()).collect()) {
            return Ok(Condition::Unmet(missing));
        }
    }
    Ok(Condition::Met)
}

/// Why the shares of `nodes` are not even.
fn imbalance(processor: &Processor, nodes: Vec<&str>) -> Option<String> {
    let mut shares: BTreeMap<&str, usize> = nodes.into_iter().map(|node| (node, 0)).collect();
    // A node may exceed its share if all its segments are pinned to it.
    let mut may_give = BTreeSet::new();
    for segment in &processor.segments {
        let Some(owner) = segment.owner.as_deref() else {
            return Some(format!("{}/{} has no owner", processor.name, segment.id));
        };
        if segment.state == "moving" {
            return Some(format!("{}/{} is moving", processor.name, segment.id));
        }
        *shares.entry(owner).or_default() += 1;
        if segment.pinned.as_deref() != Some(owner) {
            may_give.insert(owner);
        }
    }
    let giving = shares.iter().filter(|(node, _)| may_give.contains(*node)).map(|(_, share)| share);
    let (least, most) = (shares.values().min()?, giving.max()?);
    (*most > least + 1).then(|| format!("the nodes own {shares:?} segments of {}", processor.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evener::engine::Segment;

    fn processor(owners: &[Option<&str>]) -> Processor {
        let segment = |(id, owner): (usize, &Option<&str>)| Segment {
            id: id as u32,
            owner: owner.map(str::to_owned),
            ..Segment::default()
        };
        Processor {
            name: "p".into(),
            version: 1,
            state: "running".into(),
            display_state: "running".into(),
            head: 0,
            segments: owners.iter().enumerate().map(segment).collect(),
            ..Processor::default()
        }
    }

    #[test]
    fn shares_are_even_when_they_differ_by_one() {
        let missing = |owners: &[Option<&str>], nodes: &[&str]| imbalance(&processor(owners), nodes.to_vec());
        assert_eq!(missing(&[Some("a"), Some("b"), Some("a")], &["a", "b"]), None);
        let one_has_none = missing(&[Some("a"), Some("a")], &["a", "b"]).unwrap();
        assert!(one_has_none.contains(r#"{"a": 2, "b": 0}"#), "{one_has_none}");
        assert_eq!(missing(&[Some("a"), None], &["a"]).unwrap(), "p/1 has no owner");
        let mut bound = processor(&[Some("a"), Some("a"), Some("a"), Some("b")]);
        bound.segments[..3].iter_mut().for_each(|segment| segment.pinned = Some("a".into()));
        assert_eq!(imbalance(&bound, vec!["a", "b"]), None, "pinned by an operator");
        bound.segments[2].pinned = None;
        assert!(imbalance(&bound, vec!["a", "b"]).is_some(), "one segment can move");
    }

    #[test]
    fn members_that_are_down_are_listed() {
        let member = |name: &str, alive: bool| Member {
            name: name.into(),
            id: 1,
            role: "follower".into(),
            why: None,
            peer: String::new(),
            http: String::new(),
            alive,
            applied: None,
            capabilities: Vec::new(),
            segments: 0,
        };
        let missing = |alive: &[bool]| {
            let members: Vec<Member> = alive.iter().zip(["a", "b", "c"]).map(|(is, name)| member(name, *is)).collect();
            describe_down(&members)
        };
        assert_eq!((missing(&[true]), missing(&[true, true, true])), (None, None));
        assert_eq!(missing(&[true, false, true]).unwrap(), "1 of 3 members is down: b");
        assert_eq!(missing(&[false, false, true]).unwrap(), "2 of 3 members are down: a, b");
    }

    #[tokio::test(start_paused = true)]
    async fn no_check_outlasts_the_timeout() {
        let frozen = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server_args = ServerArgs { server: frozen.local_addr().unwrap().to_string(), output: None };
        for (timeout, took) in [(Duration::ZERO, ATTEMPT_MIN), (ATTEMPT_MIN * 3, ATTEMPT_MIN * 3)] {
            let wait_args = WaitArgs { timeout, server_args: server_args.clone() };
            let (client, begun) = (wait_args.client().unwrap(), Instant::now());
            let error = wait_args.wait(&client, "well", async || enough_voters(&client, 1).await).await.unwrap_err();
            assert!(error.is(&codes::WAITED) && error.message.ends_with("has not answered in time"), "{error}");
            assert!((took..took + ATTEMPT_MIN).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    }
}
