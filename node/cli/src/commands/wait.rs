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
    args::{Whom, duration, number_from_1},
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
const LOOK: Duration = Duration::from_millis(100);
/// However little time is given, one look may take so long.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// What can be waited for
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Until every server named can do its work
    Ready(Until),
    /// Until every member of the cluster is alive, also those that are not named as servers
    Alive(Until),
    /// Until at least so many members vote: of three, one may be lost
    Voters {
        /// How many
        #[arg(value_parser = number_from_1::<u64>, allow_negative_numbers = true)]
        count: u64,
        #[command(flatten)]
        until: Until,
    },
    /// Until a processor has handled everything that is stored now, or set it aside
    CaughtUp(caught_up::Args),
    /// Until every segment has an owner and the nodes' shares differ by at most one
    Balanced {
        /// Only this processor; several: all of them [default: all there are]
        names: Vec<String>,
        #[command(flatten)]
        until: Until,
    },
}

/// How long
#[derive(Debug, clap::Args)]
pub struct Until {
    /// How long at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    whom: Whom,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It is so.
    So,
    /// Not yet, for this reason.
    NotYet(String),
    /// Not yet, and time alone will not bring it: whoever waits is told at once.
    Stuck(String),
}

impl From<Option<String>> for Standing {
    fn from(missing: Option<String>) -> Self {
        missing.map_or(Self::So, Self::NotYet)
    }
}

impl Command {
    /// Waits.
    pub fn run(self) -> Result<(), ApiError> {
        match self {
            Self::Ready(until) => block_on(async {
                let client = until.client()?;
                until.wait(&client, "ready", async || Ok(client.not_ready().await.into())).await
            }),
            Self::Alive(until) => block_on(async {
                let client = until.client()?;
                until.wait(&client, "all members are alive", async || gone(&client).await).await
            }),
            Self::Voters { count, until } => block_on(async {
                let client = until.client()?;
                until.wait(&client, "enough vote", async || too_few(&client, count).await).await
            }),
            Self::CaughtUp(args) => args.run(),
            Self::Balanced { names, until } => block_on(async {
                let client = until.client()?;
                until.wait(&client, "balanced", async || uneven(&client, &names).await).await
            }),
        }
    }
}

impl Until {
    /// A client that does not repeat by itself: what is missing is told when the time is over.
    fn client(&self) -> Result<Client, ApiError> {
        Ok(Client::connect(self.whom.servers())?.with_patience(Duration::ZERO))
    }

    /// Looks until it is so; `what` names that.
    async fn wait(
        &self,
        client: &Client,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Standing, ApiError>,
    ) -> Result<(), ApiError> {
        let begun = Instant::now();
        let mut missing = None;
        loop {
            let left = self.timeout.saturating_sub(begun.elapsed()).max(LOOK_MIN);
            let failed = match timeout(left, look()).await {
                Ok(Ok(Standing::So)) => return say(&format!("{what} after {:.1} s\n", begun.elapsed().as_secs_f64())),
                Ok(Ok(Standing::NotYet(why))) => {
                    missing = Some(why);
                    None
                }
                Ok(Ok(Standing::Stuck(why))) => {
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
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How it stands where the server asked has no majority behind it; the next time another is asked. None where it has:
/// then what it tells is what all agree on, and not what stood in its log when it was left alone.
async fn leaderless(client: &Client) -> Result<Option<Standing>, ApiError> {
    let Reply::Status(status) = client.ask(&Request::Status).await? else {
        unreachable!("the status is answered with the status");
    };
    if status.leader.is_none() {
        client.go_on();
        let why = format!("nobody leads, as far as {} knows: most of the voters must be alive", status.node);
        return Ok(Some(Standing::Stuck(why + " and reach each other (see: evener cluster status)")));
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
async fn gone(client: &Client) -> Result<Standing, ApiError> {
    if let Some(standing) = leaderless(client).await? {
        return Ok(standing);
    }
    Ok(not_alive(&cluster(client).await?.members).into())
}

fn not_alive(members: &[Member]) -> Option<String> {
    let gone: Vec<&str> = members.iter().filter(|member| !member.alive).map(|member| member.name.as_str()).collect();
    let are = if gone.len() == 1 { "is" } else { "are" };
    (!gone.is_empty()).then(|| format!("{} of {} members {are} gone: {}", gone.len(), members.len(), gone.join(", ")))
}

/// Why fewer members vote.
async fn too_few(client: &Client, wanted: u64) -> Result<Standing, ApiError> {
    if let Some(standing) = leaderless(client).await? {
        return Ok(standing);
    }
    let cluster = cluster(client).await?;
    if cluster.voters >= wanted {
        return Ok(Standing::So);
    }
    let why = |member: Member| Some(format!("; {}: {}", member.name, member.why?));
    let reasons: String = cluster.members.into_iter().filter_map(why).collect();
    Ok(Standing::NotYet(format!("{} vote and {wanted} should{reasons}", cluster.voters)))
}

async fn uneven(client: &Client, names: &[String]) -> Result<Standing, ApiError> {
    if let Some(standing) = leaderless(client).await? {
        return Ok(standing);
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
        if let Some(missing) = spread(processor, able.map(|member| member.name.as_str()).collect()) {
            return Ok(Standing::NotYet(missing));
        }
    }
    Ok(Standing::So)
}

/// Why the shares of `nodes` are not even.
fn spread(processor: &Processor, nodes: Vec<&str>) -> Option<String> {
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
        let missing = |owners: &[Option<&str>], nodes: &[&str]| spread(&processor(owners), nodes.to_vec());
        assert_eq!(missing(&[Some("a"), Some("b"), Some("a")], &["a", "b"]), None);
        let one_has_none = missing(&[Some("a"), Some("a")], &["a", "b"]).unwrap();
        assert!(one_has_none.contains(r#"{"a": 2, "b": 0}"#), "{one_has_none}");
        assert_eq!(missing(&[Some("a"), None], &["a"]).unwrap(), "nobody owns p/1");
        let mut bound = processor(&[Some("a"), Some("a"), Some("a"), Some("b")]);
        bound.segments[..3].iter_mut().for_each(|segment| segment.pinned = Some("a".into()));
        assert_eq!(spread(&bound, vec!["a", "b"]), None, "an operator wants it so");
        bound.segments[2].pinned = None;
        assert!(spread(&bound, vec!["a", "b"]).is_some(), "this one may go");
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
            not_alive(&members)
        };
        assert_eq!((missing(&[true]), missing(&[true, true, true])), (None, None));
        assert_eq!(missing(&[true, false, true]).unwrap(), "1 of 3 members is gone: b");
        assert_eq!(missing(&[false, false, true]).unwrap(), "2 of 3 members are gone: a, b");
    }

    #[tokio::test(start_paused = true)]
    async fn no_look_outlasts_the_time_that_is_given() {
        let frozen = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let whom = Whom { server: frozen.local_addr().unwrap().to_string(), output: None };
        for (timeout, took) in [(Duration::ZERO, LOOK_MIN), (LOOK_MIN * 3, LOOK_MIN * 3)] {
            let until = Until { timeout, whom: whom.clone() };
            let (client, begun) = (until.client().unwrap(), Instant::now());
            let told = until.wait(&client, "well", async || too_few(&client, 1).await).await.unwrap_err();
            assert!(told.is(&codes::WAITED) && told.message.ends_with("has not answered in time"), "{told}");
            assert!((took..took + LOOK_MIN).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
    }
}
