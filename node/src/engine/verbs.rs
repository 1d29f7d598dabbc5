//! The one table of verbs: what each is called over HTTP and on the command line. The router, the client and
//! the OpenAPI document are made from it, and a test holds the command line to it.

/// What can be asked, without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each has its `about` in the table")]
pub enum Verb {
    Append,
    AppendMany,
    Read,
    ReadBy,
    Tail,
    Processors,
    Create,
    Processor,
    Delete,
    Pause,
    Resume,
    Reset,
    Split,
    Merge,
    Move,
    Unpin,
    Release,
    Claim,
    SkipEvent,
    Promote,
    DeadLetters,
    Edit,
    Retry,
    Skip,
    Drop,
    Status,
    ClusterStatus,
    Join,
    Leave,
    Transfer,
    Operations,
    Operation,
    Backup,
}

/// How one verb is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which verb.
    pub verb: Verb,
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with `{name}` for what varies.
    pub path: &'static str,
    /// The words of the command line; empty where it has none of its own.
    pub words: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether it changes something and so takes `reason` and `dry_run`.
    pub change: bool,
    /// In the contract, and not built yet.
    pub not_yet: bool,
}

impl Verb {
    /// How it is reached.
    #[must_use]
    pub fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.verb == self).expect("a test finds every verb in the table")
    }
}

impl Verb {
    /// Returns whether it gives up events or data for good, so that the command line asks first.
    #[must_use]
    pub const fn gives_up(self) -> bool {
        matches!(self, Self::Delete | Self::Skip | Self::Drop | Self::Leave)
    }
}

const fn ask(verb: Verb, method: &'static str, path: &'static str, words: &'static str, about: &'static str) -> Row {
    Row { verb, method, path, words, about, change: false, not_yet: false }
}

const fn change(verb: Verb, path: &'static str, words: &'static str, about: &'static str) -> Row {
    Row { verb, method: "POST", path, words, about, change: true, not_yet: false }
}

const fn not_yet(verb: Verb, path: &'static str, words: &'static str, about: &'static str) -> Row {
    Row { verb, method: "POST", path, words, about, change: true, not_yet: true }
}

/// Every verb.
pub const TABLE: &[Row] = &[
    ask(Verb::Append, "POST", "/events", "append", "add events: all or none"),
    ask(Verb::AppendMany, "POST", "/events/batch", "import", "add events in many appends, one a line"),
    ask(Verb::Read, "GET", "/events", "read", "read events"),
    ask(Verb::ReadBy, "POST", "/events/read", "export", "read events by full criteria"),
    ask(Verb::Tail, "GET", "/events/tail", "tail", "follow events as they come"),
    ask(Verb::Processors, "GET", "/processors", "processor list", "list processors"),
    change(Verb::Create, "/processors", "processor create", "create a processor"),
    ask(Verb::Processor, "GET", "/processors/{name}", "processor show", "show a processor and its segments"),
    Row {
        method: "DELETE",
        ..change(Verb::Delete, "/processors/{name}", "processor delete", "delete a processor and its progress")
    },
    change(Verb::Pause, "/processors/{name}/pause", "processor pause", "stop a processor"),
    change(Verb::Resume, "/processors/{name}/resume", "processor resume", "let a processor go on"),
    not_yet(Verb::Reset, "/processors/{name}/reset", "processor reset", "start a processor anew from a place"),
    not_yet(Verb::Split, "/processors/{name}/split", "processor split", "cut a segment in two"),
    not_yet(Verb::Merge, "/processors/{name}/merge", "processor merge", "put two segments together"),
    not_yet(Verb::Move, "/processors/{name}/move", "processor move", "bind a segment to a node"),
    change(Verb::Unpin, "/processors/{name}/unpin", "processor unpin", "unbind a segment from its node"),
    change(Verb::Release, "/processors/{name}/release", "processor release", "take a segment from its owner"),
    change(Verb::Claim, "/processors/{name}/claim", "processor claim", "give a segment to a node, which keeps it"),
    change(
        Verb::SkipEvent,
        "/processors/{name}/skip-event",
        "processor skip-event",
        "pass over the event that a segment waits with",
    ),
    not_yet(Verb::Promote, "/processors/{name}/promote", "processor promote", "put a new version in place"),
    ask(
        Verb::DeadLetters,
        "GET",
        "/processors/{name}/dead-letters",
        "dead-letter list",
        "list what a processor has set aside, with causes",
    ),
    not_yet(Verb::Edit, "/processors/{name}/dead-letters/edit", "dead-letter edit", "change a letter's payload"),
    change(
        Verb::Retry,
        "/processors/{name}/dead-letters/retry",
        "dead-letter retry",
        "try what is set aside now, its attempts counted anew",
    ),
    change(Verb::Skip, "/processors/{name}/dead-letters/skip", "dead-letter skip", "pass over the letter that fails"),
    change(Verb::Drop, "/processors/{name}/dead-letters/drop", "dead-letter drop", "give up all its letters"),
    ask(Verb::Status, "GET", "/status", "status", "what this node does, actor by actor"),
    ask(Verb::ClusterStatus, "GET", "/status/cluster", "cluster status", "the members, the leader, and who is missing"),
    change(Verb::Join, "/cluster/join", "cluster join", "admit a node that waits to be a member"),
    change(Verb::Leave, "/cluster/leave", "cluster leave", "let a member leave for ever"),
    change(Verb::Transfer, "/cluster/transfer", "cluster transfer", "let another member lead"),
    ask(
        Verb::Operations,
        "GET",
        "/operations",
        "operations",
        "list the latest changes, the newest first, with reasons",
    ),
    ask(Verb::Operation, "GET", "/operations/{id}", "operations show", "what came of a change, and its reason"),
    not_yet(Verb::Backup, "/backup", "backup", "copy the log and the state"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_words_are_unique() {
        for (n, row) in TABLE.iter().enumerate() {
            assert_eq!(row.verb.row(), row, "a verb stands once in the table");
            for other in &TABLE[n + 1..] {
                assert_ne!((row.method, row.path), (other.method, other.path));
                assert!(row.words.is_empty() || row.words != other.words, "{}", row.words);
            }
        }
    }
}
