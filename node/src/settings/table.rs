//! The one table of settings.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use uuid::Uuid;

use super::value::{Address, LogFormat, Size, Value};

/// One setting: what people are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.key`, as in `evener.toml`.
    pub name: &'static str,
    /// `--flag` of `evener serve`, without the dashes.
    pub flag: &'static str,
    /// What kind of value it has.
    pub kind: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What it is unless somebody says otherwise; empty is none.
    pub default: &'static str,
    /// Why that is its default.
    pub reason: &'static str,
    /// The version that had it first.
    pub since: &'static str,
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
    pub(super) show: fn(&Settings) -> String,
}

impl Setting {
    /// The environment variable for it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("EVENER_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Whether its flag stands alone.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.kind == bool::KIND
    }

    /// The setting of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }
}

/// The default of a setting, for its documentation.
macro_rules! default_text {
    ("") => {
        "unset by default"
    };
    ($default:literal) => {
        concat!("by default `", $default, "`")
    };
}

macro_rules! settings {
    ($($name:literal $field:ident: $type:ty = $default:tt, $flag:literal, $about:literal, $reason:literal;)*) => {
        /// What is set: each field is a setting that a flag, a variable and a key of `evener.toml` have, too.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $(
                #[doc = concat!($about, ". Setting `", $name, "`, ", default_text!($default), ": ", $reason, ".")]
                pub $field: $type,
            )*
        }

        /// Every setting there is.
        pub const TABLE: &[Setting] = &[$(Setting {
            name: $name,
            flag: $flag,
            kind: <$type as Value>::KIND,
            about: $about,
            default: $default,
            reason: $reason,
            since: "0.1",
            set: |settings, text| {
                settings.$field = Value::parse(text)?;
                Ok(())
            },
            show: |settings| Value::show(&settings.$field),
        },)*];

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: Value::parse($default).expect("a test reads every default"),)* }
            }
        }
    };
}

settings! {
    "node.data" data: PathBuf = "./data", "data",
        "The directory that holds everything this node must not forget",
        "visible where one stands";
    "node.name" name: String = "node-1", "name",
        "What this node is called in its cluster; unique there",
        "one node needs no thought";
    "node.listen" listen: Address = "127.0.0.1:4750", "listen",
        "Where clients reach this node: HTTP and the page",
        "loopback, since there is no TLS and no authentication yet";
    "node.peer_listen" peer_listen: Address = "127.0.0.1:4751", "peer-listen",
        "Where the other nodes reach this one",
        "loopback, since there is no TLS and no authentication yet";
    "node.advertise" advertise: Option<Address> = "", "advertise",
        "The address that clients are told, where it is not the one listened on",
        "usually they are the same";
    "node.peer_advertise" peer_advertise: Option<Address> = "", "peer-advertise",
        "The address that the other nodes are told, where it is not the one listened on",
        "usually they are the same";
    "node.insecure_listen" insecure_listen: bool = "false", "insecure-listen",
        "Accept to listen beyond loopback without TLS and authentication",
        "whoever reaches the address can read and write everything";
    "http.allowed_hosts" allowed_hosts: Vec<String> = "", "allowed-hosts",
        "Further host names under which clients may address this node, as behind a proxy; separated by commas",
        "a name that another site made up must not reach a node on this machine";
    "cluster.bootstrap" bootstrap: bool = "false", "bootstrap",
        "Found a new cluster, if the data directory is empty",
        "two clusters by mistake are worse than none";
    "cluster.join" join: Vec<Address> = "", "join",
        "Peer addresses of nodes whose cluster to join, if the data directory is empty",
        "a node never joins by guessing";
    "cluster.id" cluster: Option<Uuid> = "", "cluster",
        "The cluster's id: any other is refused",
        "the data directory knows it";
    "cluster.lease" lease: Duration = "5s", "lease",
        "How long a silent node keeps its segments; one whose process ends is noticed at once",
        "longer than a pause of a loaded machine, shorter than a person's patience";
    "cluster.heartbeat" heartbeat: Duration = "250ms", "heartbeat",
        "How often the leader shows that it is there",
        "a quarter of the shortest election time";
    "cluster.election" election: Duration = "1s", "election",
        "How long a silent leader is waited for: half as long again where a majority misses it, else up to four \
         times as long. A closed connection is noticed at once",
        "four missed heartbeats";
    "store.chunk_bytes" chunk_bytes: Option<Size> = "", "chunk-bytes",
        "The size of a chunk of the log, for a cluster that is founded: 64MiB unless said. It stays for ever, on all \
         nodes; one that asks for another later takes the cluster's, and says so",
        "large enough to be few, small enough to be shipped";
    "store.disk_reserve" disk_reserve: Option<Size> = "", "disk-reserve",
        "Refuse appends while less than this is free on the disk; unset is the largest of 16MiB, three chunks and a \
         hundredth of the file system, the last at most 4GiB",
        "progress, claims and operations must go on, and people need time to make room";
    "processing.handler_threads" handler_threads: Option<NonZeroU32> = "", "handler-threads",
        "Threads for handlers; unset is one for each processor core, at least two",
        "handlers must not hold up heartbeats, so they have threads of their own";
    "processing.hand_over_wait" hand_over_wait: Duration = "5s", "hand-over-wait",
        "How long a segment that moves waits for the handler at work on it",
        "as long as a lease: longer waits are put off instead";
    "processing.allow_exec" allow_exec: bool = "false", "allow-exec",
        "Run handler programs on this node, and let clients of this node create processors that run them",
        "whoever may send requests could otherwise run commands on this machine";
    "processing.answer_wait" answer_wait: Duration = "30s", "answer-wait",
        "How long a handler program may take for one event; then it is killed, and the attempt has failed",
        "longer than a slow service, shorter than it takes to wonder";
    "log.format" log: LogFormat = "text", "log",
        "How log lines are written on stderr",
        "people read it first";
    "log.filter" log_filter: String = "info,openraft=error", "log-filter",
        "Which log lines are written, as `info,evener_cluster=debug`; EVENER_LOG is short for its variable",
        "what an operator acts on, and no more: of a peer that does not answer we tell once, openraft at every try";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_read_and_shows_as_it_is_written() {
        let settings = Settings::default();
        for setting in TABLE {
            assert_eq!((setting.show)(&settings), setting.default, "{}", setting.name);
        }
    }

    #[test]
    fn names_flags_and_variables_are_unique_and_well_formed() {
        for (n, setting) in TABLE.iter().enumerate() {
            assert_eq!(setting.name.split('.').count(), 2, "{}", setting.name);
            assert!(!setting.about.is_empty() && !setting.reason.is_empty() && !setting.since.is_empty());
            for other in &TABLE[n + 1..] {
                assert!(setting.name != other.name && setting.flag != other.flag, "{}", setting.name);
            }
        }
        let chunk = Setting::find("store.chunk_bytes").unwrap();
        assert_eq!((chunk.variable().as_str(), chunk.kind), ("EVENER_STORE__CHUNK_BYTES", "SIZE"));
    }
}
