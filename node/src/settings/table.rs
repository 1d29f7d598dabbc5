//! The one table of settings.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use uuid::Uuid;

use super::value::{Address, LogFormat, Size, Value};

/// One setting, with its documentation.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.key`, as in `evener.toml`.
    pub name: &'static str,
    /// `--flag` of `evener serve`, without the dashes.
    pub flag: &'static str,
    /// Kind of its value.
    pub kind: &'static str,
    /// Description, in one line.
    pub about: &'static str,
    /// Default value; empty if it has none.
    pub default: &'static str,
    /// Reason for the default.
    pub reason: &'static str,
    /// First version that has it.
    pub since: &'static str,
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
    pub(super) show: fn(&Settings) -> String,
}

impl Setting {
    /// Returns the name of its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("EVENER_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// Returns whether its flag takes no value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.kind == bool::KIND
    }

    /// Returns the setting of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|setting| setting.name == name)
    }
}

/// Describes the default of a setting for its documentation.
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
        /// Settings of a node. Each can be set by a flag, an environment variable or a key of `evener.toml`.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $(
                #[doc = concat!($about, ". Setting `", $name, "`, ", default_text!($default), ": ", $reason, ".")]
                pub $field: $type,
            )*
        }

        /// All settings.
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
                Self { $($field: Value::parse($default).expect("a test parses every default"),)* }
            }
        }
    };
}

settings! {
    "node.data" data: PathBuf = "./data", "data",
        "Directory of everything that this node stores",
        "visible in the current directory";
    "node.name" name: String = "node-1", "name",
        "Name of this node, unique in its cluster",
        "a single node needs no name of its own";
    "node.listen" listen: Address = "127.0.0.1:4750", "listen",
        "Listen for clients (HTTP and the page) at this address",
        "loopback, since there is no TLS and no authentication yet";
    "node.peer_listen" peer_listen: Address = "127.0.0.1:4751", "peer-listen",
        "Listen for the other nodes at this address",
        "loopback, since there is no TLS and no authentication yet";
    "node.advertise" advertise: Option<Address> = "", "advertise",
        "Address at which clients reach this node, if it is not the one listened on",
        "usually they are the same";
    "node.peer_advertise" peer_advertise: Option<Address> = "", "peer-advertise",
        "Address at which the other nodes reach this node, if it is not the one listened on",
        "usually they are the same";
    "node.insecure_listen" insecure_listen: bool = "false", "insecure-listen",
        "Allow listening beyond loopback without TLS and authentication",
        "every client that reaches the address can read and write everything";
    "http.allowed_hosts" allowed_hosts: Vec<String> = "", "allowed-hosts",
        "Further host names that requests may address this node by (behind a proxy, say), separated by commas",
        "protects against DNS rebinding";
    "cluster.bootstrap" bootstrap: bool = "false", "bootstrap",
        "Found a new cluster if the data directory is empty",
        "a second cluster must never be founded by mistake";
    "cluster.join" join: Vec<Address> = "", "join",
        "Join the cluster of the nodes at these peer addresses if the data directory is empty",
        "a node joins only a cluster that is named";
    "cluster.id" cluster: Option<Uuid> = "", "cluster",
        "Id of the cluster; refuse any other",
        "the data directory contains it";
    "cluster.lease" lease: Duration = "5s", "lease",
        "Session timeout: reassign the segments of a node without a heartbeat for this time. The exit of a process is \
         noticed at once",
        "longer than a pause of a loaded machine, short enough for an outage";
    "cluster.heartbeat" heartbeat: Duration = "250ms", "heartbeat",
        "Interval between the leader's heartbeats",
        "a quarter of the shortest election time";
    "cluster.election" election: Duration = "1s", "election",
        "Election timeout without the leader's heartbeat: 1.5 times this if a majority misses it, else up to 4 times \
         this. A closed connection is noticed at once",
        "four missed heartbeats";
    "store.chunk_bytes" chunk_bytes: Option<Size> = "", "chunk-bytes",
        "Size of a chunk of the log, fixed when a cluster is founded; unset is 64MiB. A node with another value later \
         uses the cluster's and logs that",
        "large enough to keep chunks few, small enough to send one";
    "store.disk_reserve" disk_reserve: Option<Size> = "", "disk-reserve",
        "Refuse appends while less than this is free on the disk; unset is the largest of 16MiB, three chunks and \
         1% of the file system (at most 4GiB)",
        "progress, claims and operations must continue until an operator frees space";
    "processing.handler_threads" handler_threads: Option<NonZeroU32> = "", "handler-threads",
        "Number of threads for handlers; unset is the number of processor cores, at least two",
        "handlers must not delay heartbeats, so they have threads of their own";
    "processing.hand_over_wait" hand_over_wait: Duration = "5s", "hand-over-wait",
        "Wait this long for a running handler before its segment moves",
        "as long as a lease: if a handler takes longer, the move is tried again later";
    "processing.allow_exec" allow_exec: bool = "false", "allow-exec",
        "Run handler programs on this node, and allow its clients to create processors that run them",
        "otherwise every client could run commands on this machine";
    "processing.answer_wait" answer_wait: Duration = "30s", "answer-wait",
        "Timeout of a handler program for one event; then it is killed and the attempt has failed",
        "longer than a slow service takes, short enough to notice a hang";
    "log.format" log: LogFormat = "text", "log",
        "Format of the log lines on stderr",
        "readable at a terminal";
    "log.filter" log_filter: String = "info,openraft=error", "log-filter",
        "Filter for log lines, such as `info,evener_cluster=debug`; EVENER_LOG is short for its variable",
        "only what an operator acts on: openraft logs each failed attempt to reach a peer, Evener only the first";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_parses_and_is_shown_as_written() {
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
