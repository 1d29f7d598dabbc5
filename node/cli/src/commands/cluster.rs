//! `evener cluster …`

use clap::Subcommand;

use super::{
    Server,
    args::{ChangeArgs, DestructiveArgs, name},
    fold::{folded, ranges},
    output::{count, maybe, table},
};
use evener::{
    engine::{Cluster, Member, Reply, Request, Unowned, What},
    error::ApiError,
};

/// Manage the members of the cluster
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the members, the leader and the segments without an owner
    Status(Server),
    /// Admit a node that waits to join
    Join {
        /// Peer address of the node, HOST:PORT
        peer: String,
        #[command(flatten)]
        changing: ChangeArgs,
    },
    /// Remove a member permanently
    Leave {
        /// Name of the member
        #[arg(value_parser = name())]
        node: String,
        #[command(flatten)]
        giving_up: DestructiveArgs,
    },
    /// Transfer leadership to another member
    Transfer {
        /// Name of the member [default: the most up-to-date voter]
        node: Option<String>,
        #[command(flatten)]
        changing: ChangeArgs,
    },
}

impl Command {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), ApiError> {
        match self {
            Self::Status(server) => status(&server),
            Self::Join { peer, changing } => changing.change(&format!("join {peer}"), What::Join(peer)),
            Self::Leave { node, giving_up } => giving_up.change(&format!("leave {node}"), What::Leave(node)),
            Self::Transfer { node, changing } => changing.change("transfer", What::Transfer(node)),
        }
    }
}

fn status(server: &Server) -> Result<(), ApiError> {
    let Reply::Cluster(cluster) = server.ask("failed to read the status of the cluster", Request::ClusterStatus)?
    else {
        unreachable!("a cluster status request is answered with the cluster status");
    };
    server.format().show(&cluster, || text(&cluster))
}

fn text(cluster: &Cluster) -> String {
    let rows = cluster.members.iter().map(|member| {
        [
            member.name.clone(),
            if member.alive { "alive" } else { "down" }.to_owned(),
            member.role.clone(),
            member.segments.to_string(),
            maybe(member.applied),
            // Without the scheme, which `--server` does not need.
            member.http.trim_start_matches("http://").to_owned(),
            member.peer.clone(),
        ]
    });
    let members = table(["name", "state", "role", "segments", "applied", "clients", "peers"], rows);
    let leader = maybe(cluster.leader.as_ref());
    let (id, head, all) = (&cluster.cluster, count(cluster.head), cluster.members.len());
    let (voters, may_lose) = (cluster.voters, cluster.may_lose);
    let mut text = match &cluster.trouble {
        Some(why) => format!("NOTHING CAN BE WRITTEN: {why}\n\n"),
        None => String::new(),
    };
    text += &format!("cluster {id}\nleader {leader}; the next event gets position {head}\n");
    let stake = match (may_lose, voters, &cluster.leader) {
        (_, _, None) => {
            let down = cluster.members.iter().filter(|member| !member.alive).map(|member| &*member.name);
            let missing: Vec<&str> = down.collect();
            match &missing[..] {
                [] => "no leader answers, and nothing can be written until one does".to_owned(),
                missing => format!("missing: {}; start or reconnect them", missing.join(", ")),
            }
        }
        (0, 2.., _) => "the cluster stops if another of them is lost".to_owned(),
        (0, ..) => "the cluster stops without any of them".to_owned(),
        _ => format!("the cluster tolerates the loss of {may_lose} of them"),
    };
    let votes = match &cluster.leader {
        Some(_) => format!("{voters} of {all} members vote"),
        None => {
            let voter = |member: &&Member| member.alive && member.role != "learner";
            format!("{} of {voters} voters answer", cluster.members.iter().filter(voter).count())
        }
    };
    text += &format!("{votes}; {stake}\n\n{members}");
    let non_voters = cluster.members.iter().filter_map(|member| Some((&member.name, member.why.as_ref()?)));
    for (nth, (name, why)) in non_voters.enumerate() {
        text += &format!("{}{name} does not vote: {why}\n", if nth == 0 { "\n" } else { "" });
    }
    if !cluster.unowned.is_empty() {
        let of = |unowned: &Unowned| ((unowned.processor.clone(), unowned.reason.clone()), unowned.segment);
        let rows = folded(cluster.unowned.iter().map(of));
        let rows = rows.into_iter().map(|((processor, reason), ids)| [processor, ranges(&ids), reason]);
        text += &format!("\nsegments without an owner:\n{}", table(["processor", "segments", "why"], rows));
    }
    text
}
