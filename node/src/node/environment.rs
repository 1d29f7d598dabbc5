//! The environment of a node: its interfaces to the outside, and the configuration of its parts.

use std::{collections::BTreeMap, io::ErrorKind, path::Path, sync::Arc};

use evener_cluster::{
    Config,
    config::Raft,
    transport::{Clock, SystemClock, TcpTransport, Transport},
};
use evener_core::{coordinator::Bounds, id::ClusterId, name};
use evener_store::{Disk, disk::FileDisk, error::OpenError};
use uuid::Uuid;

use crate::{
    actors::{self, Embedded},
    codes,
    error::ApiError,
    exec,
    settings::Settings,
    threads::Threads,
};

/// The interfaces of a node to the outside (disk, network, clock) and its random seed.
pub struct Environment {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The network.
    pub transport: Arc<dyn Transport>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The seed of all random numbers.
    pub seed: u64,
}

impl Environment {
    /// Opens this machine's disk, network and clock. The data directory is created last, so that a refused start leaves
    /// none behind.
    pub(super) async fn of_machine(settings: &Settings, standalone: bool, threads: &Threads) -> Result<Self, ApiError> {
        // An existing node keeps its name.
        if is_empty(&settings.data)
            && let Err(error) = name::check(&settings.name)
        {
            return Err(ApiError::new(&codes::BAD_SETTING, format!("node.name is {:?}: it {error}", settings.name)));
        }
        if !founds(settings, standalone) && settings.join.is_empty() && is_empty(&settings.data) {
            let message = format!("{} holds no node", settings.data.display());
            return Err(ApiError::new(&codes::NOTHING_TO_START, message));
        }
        let address = settings.peer_listen.to_string();
        let free = threads.spawn(async move { TcpTransport.bind(&address).await.map(drop) }).await;
        free.map_err(std::io::Error::other)
            .flatten()
            .map_err(|error| ApiError::new(&codes::PORT_IN_USE, error.to_string()))?;
        Ok(Self {
            disk: Arc::new(FileDisk::open(&settings.data).map_err(not_opened)?),
            transport: Arc::new(TcpTransport),
            clock: Arc::new(SystemClock),
            seed: rand::random(),
        })
    }
}

/// Returns whether a new cluster is founded if the directory is empty.
pub(super) fn founds(settings: &Settings, standalone: bool) -> bool {
    settings.bootstrap || (standalone && settings.join.is_empty() && settings.cluster.is_none())
}

fn is_empty(data: &Path) -> bool {
    std::fs::read_dir(data)
        .map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |mut entries| entries.next().is_none())
}

/// Returns the cluster's configuration for these settings.
pub(super) fn config(settings: &Settings, standalone: bool, http: String, seed: u64, embedded: &[Embedded]) -> Config {
    let mut config = Config::new(settings.name.clone(), settings.peer_listen.to_string());
    config.peer = settings.peer_advertise.as_ref().map(ToString::to_string);
    config.http = http;
    config.cluster = settings.cluster.map(ClusterId);
    config.join = settings.join.iter().map(ToString::to_string).collect();
    config.bootstrap = founds(settings, standalone);
    let capability = |(definition, _): &Embedded| (definition.name.clone(), vec![VERSION]);
    config.capabilities = embedded.iter().map(capability).collect::<BTreeMap<_, _>>();
    config.seed = seed;
    config.random_id = Uuid::from_u64_pair(seed, seed.rotate_left(32) ^ INCARNATION_SALT);
    config.raft = Raft::new(settings.heartbeat, settings.election);
    config.lease = settings.lease;
    config.describe = crate::describe::refusal_reason;
    if let Some(size) = settings.chunk_bytes {
        config.journal.chunk_bytes = size.0;
    }
    config.disk_reserve = settings.disk_reserve.map(|size| size.0);
    config
}

/// Returns the actors' configuration for these settings.
pub(super) fn actors(settings: &Settings) -> actors::Settings {
    let programs =
        exec::Settings { allowed: settings.allow_exec, answer_wait: settings.answer_wait, ..exec::Settings::default() };
    let bounds = Bounds { hand_over_wait: settings.hand_over_wait, ..Bounds::default() };
    actors::Settings { bounds, programs }
}

/// The version of an embedded processor; there is only one so far.
const VERSION: u32 = 1;
/// An arbitrary constant: the second half of the random id of this process run.
const INCARNATION_SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Converts the error of opening a data directory.
pub(super) fn not_opened(error: OpenError) -> ApiError {
    let code = match &error {
        OpenError::Locked { .. } => &codes::DATA_LOCKED,
        OpenError::Damaged(_) => &codes::DAMAGED,
        OpenError::ChunkBytes { .. } | OpenError::Setting(_) => &codes::BAD_SETTING,
        OpenError::Io { .. } => &codes::START,
    };
    let notice = ApiError::new(code, error.to_string());
    match &error {
        OpenError::Io { source, .. } => match disk_hint(source.kind()) {
            Some(hint) => notice.hint(hint),
            None => notice,
        },
        _ => notice,
    }
}

/// Returns the hint for an error of the disk.
fn disk_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("free space there, or move the directory to a larger disk and name it with --data; then start again")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("give the node's user the right to write there, or another directory with --data")
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::NotFound => {
            Some("give a directory with --data that is there or can be made, and is no file")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_default_of_the_cluster_is_that_of_the_setting() {
        let (set, own) = (config(&Settings::default(), true, String::new(), 0, &[]), Config::new("n", "l"));
        assert_eq!((set.raft, set.lease, set.disk_reserve), (own.raft, own.lease, own.disk_reserve));
        assert_eq!(set.journal, own.journal);
    }

    #[test]
    fn what_actors_are_set_to_is_what_the_settings_say() {
        let (hand_over_wait, answer_wait) = (Duration::from_millis(7), Duration::from_millis(9));
        let set = actors(&Settings { hand_over_wait, answer_wait, ..Settings::default() });
        assert_eq!((set.bounds.hand_over_wait, set.programs.answer_wait), (hand_over_wait, answer_wait));
    }
}
