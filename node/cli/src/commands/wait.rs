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

/// How often it is looked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// However little time is given, one look may take so long.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);

/// What can be waited for
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Until every server named can do its work
    Ready(WaitArgs),
    /// Until every member of the cluster is alive, also those that are not named as servers
    Alive(WaitArgs),
    /// Until at least so many members vote: of three, one may be lost
    Voters {
        /// How many
        #[arg(value_parser = number_from_1::<u64>, allow_negative_numbers = true)]
        count: u64,
        #[command(flatten)]
        wait_args: WaitArgs,
    },
    /// Until a processor has handled everything that is stored now, or set it aside
    CaughtUp(caught_up::Args),
    /// Until every segment has an owner and the nodes' shares differ by at most one
    Balanced {
        /// Only this processor; several: all of them [default: all there are]
        names: Vec<String>,
        #[command(flatten)]
        wait_args: WaitArgs,
    },
}

/// How long
#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// How long at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    server_args: ServerArgs,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// It is so.
    Met,
    /// Not yet, for this reason.
    Unmet(String),
    /// Not yet, and time alone will not bring it: whoever waits is told at once.
    Blocked(String),
}

impl From<Option<String>> for Condition {
    fn from(missing: Option<String>) -> Self {
        missing.map_or(Self::Met, Self::Unmet)
    }
}

impl Command {
    /// Waits.
    pub fn run(self) -> Result<(), ApiError> {
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
                wait_args.wait(&client, "enough vote", async || enough_voters(&client, count).await).await
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
    /// A client that does not repeat by itself: what is missing is told when the time is over.
    fn client(&self) -> Result<Client, ApiError> {
        Ok(Client::connect(self.server_args.servers())?.with_patience(Duration::ZERO))
    }

    /// Looks until it is so; `what` names that.
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
                let message = format!("waited {:.1} s in vain: {}", self.timeout.as_secs_f64(), why.join("; "));
                return Err(ApiError::new(&codes::WAITED, message));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// How it stands where the server asked has no majority behind it; the next time another is asked. None where it has:
/// then what it tells is what all agree on, and not what stood in its log when it was left alone.
async fn leaderless(client: &Client) -> Result<Option<Condition>, ApiError> {
    let Reply::Status(status) = client.ask(&Request::Status).await? else {
        unreachable!("the status is answered with the status");
    };
    if status.leader.is_none() {
        client.go_on();
        let why = format!("nobody leads, as far as {} knows: most of the voters must be alive", status.node);
        return Ok(Some(Condition::Blocked(why + " and reach each other (see: evener cluster status)")));
    }
    client.head(ContextId::DEFAULT, Consistency::Linearizable).await?;
    Ok(None)
}

/// How the cluster stands, for those who wait for its members.
async fn cluster(client: &Client) -> Result<Cluster, ApiError> {
    match client.ask(&Request::ClusterStatus).await? {
        Reply::Cluster(cluster) => Ok(*cluster),
        _ => unreachable!("the cluster is answered with the cluster"),
    }
}

/// Which members are not alive.
async fn members_down(client: &Client) -> Result<Condition, ApiError> {
    if let Some(condition) = leaderless(client).await? {
        return Ok(condition);
    }
    Ok(describe_down(&cluster(client).await?.members).into())
}

fn describe_down(members: &[Member]) -> Option<String> {
    let gone: Vec<&str> = members.iter().filter(|member| !member.alive).map(|member| member.name.as_str()).collect();
    let are = if gone.len() == 1 { "is" } else { "are" };
    (!gone.is_empty()).then(|| format!("{} of {} members {are} gone: {}", gone.len(), members.len(), gone.join(", ")))
}

/// Why fewer members vote.
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
    Ok(Condition::Unmet(format!("{} vote and {wanted} should{reasons}", cluster.voters)))
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
    // A node may have more than its share if an operator bound all that it has to it.
    let mut may_give = BTreeSet::new();
    for segment in &processor.segments {
        let Some(owner) = segment.owner.as_deref() else {
            return Some(format!("nobody owns {}/{}", processor.name, segment.id));
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
        assert_eq!(missing(&[Some("a"), None], &["a"]).unwrap(), "nobody owns p/1");
        let mut bound = processor(&[Some("a"), Some("a"), Some("a"), Some("b")]);
        bound.segments[..3].iter_mut().for_each(|segment| segment.pinned = Some("a".into()));
        assert_eq!(imbalance(&bound, vec!["a", "b"]), None, "an operator wants it so");
        bound.segments[2].pinned = None;
        assert!(imbalance(&bound, vec!["a", "b"]).is_some(), "this one may go");
    }

    #[test]
    fn members_that_are_not_alive_are_named() {
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
        assert_eq!(missing(&[true, false, true]).unwrap(), "1 of 3 members is gone: b");
        assert_eq!(missing(&[false, false, true]).unwrap(), "2 of 3 members are gone: a, b");
    }

    #[tokio::test(start_paused = true)]
    async fn no_look_outlasts_the_time_that_is_given() {
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
