//! The one table of verbs: the requests to a node. [`Verb`], [`What`], the routes, the bodies of changes, the
//! OpenAPI document, the kinds of operations and the methods of handles are made from it, and a test holds the command
//! line to it.

use evener_core::{
    command::Selection,
    id::{Position, SegmentId},
    processor::Definition,
    state::ChangeKind,
};

use crate::reset::ResetRequest;

/// Gives the table of verbs to a macro. A verb is one line, and a change has a block behind it:
///
/// ```text
/// Verb: Effect METHOD "path, with {name} for what varies", "words of the command line", "what it does" {
///     /// Documentation of its variant of `What`, and of its method.
///     takes: [name in the path: type] { field: type = "its type in JSON", … } by module: type,
///     kind: its kind in the replicated state, counts: "what it touches",
///     method: its method of the handle;
/// };
/// ```
///
/// `takes` has what the verb takes of: the name in the path; the fields of the body; the module of `wire` that reads,
/// writes and describes the whole body. `method` is left out where no handle has one.
macro_rules! verbs {
    ($then:ident) => {
        $then! {
            events {
                Append: Appends POST "/events", "append", "add events: all or none";
                AppendMany: Appends POST "/events/batch", "import", "add events in many appends, one a line";
                Read: Reads GET "/events", "read", "read events";
                ReadBy: Reads POST "/events/read", "export", "read events by full criteria";
                Tail: Reads GET "/events/tail", "tail", "follow events as they come";
            }
            processors {
                Processors: Reads GET "/processors", "processor list", "list processors";
                Create: Changes POST "/processors", "processor create", "create a processor" {
                    /// Creates a processor.
                    takes: by definition: Box<Definition>,
                    kind: Create, counts: "processor";
                };
                Processor: Reads GET "/processors/{name}", "processor show", "show a processor and its segments";
                Delete: Destroys DELETE "/processors/{name}", "processor delete",
                    "delete a processor and its progress" {
                    /// Deletes it, its progress, and what it has set aside.
                    takes: [name: String] {},
                    kind: Delete, counts: "processor",
                    method: delete;
                };
                Pause: Changes POST "/processors/{name}/pause", "processor pause", "stop a processor" {
                    /// Stops it.
                    takes: [name: String] {},
                    kind: Pause, counts: "processor",
                    method: pause;
                };
                Resume: Changes POST "/processors/{name}/resume", "processor resume", "let a processor go on" {
                    /// Lets it go on.
                    takes: [name: String] {},
                    kind: Resume, counts: "processor",
                    method: resume;
                };
                Reset: Destroys POST "/processors/{name}/reset", "processor reset",
                    "move a processor to another position, so that events are handled again or skipped" {
                    /// Moves it to another position. Events that it had passed are replayed: handled again, and marked.
                    takes: [name: String] by reset: ResetRequest,
                    kind: Reset, counts: "position",
                    method: reset;
                };
                Split: Changes POST "/processors/{name}/split", "processor split", "split a segment in two" {
                    /// Splits a segment in two; without a number the one that covers the most keys, or of these the one
                    /// that is furthest behind.
                    takes: [name: String] { segment: Option<SegmentId> = "integer" },
                    kind: Split, counts: "segment",
                    method: split;
                };
                Merge: Changes POST "/processors/{name}/merge", "processor merge",
                    "merge a segment with the other half of what was split" {
                    /// Merges a segment with its sibling, the other half of what was split; without a number those that
                    /// cover the fewest keys.
                    takes: [name: String] { segment: Option<SegmentId> = "integer" },
                    kind: Merge, counts: "pair",
                    method: merge;
                };
                Move: Changes POST "/processors/{name}/move", "processor move",
                    "move a segment to a node and pin it there" {
                    /// Moves a segment to the node of this name, and pins it there.
                    takes: [name: String] { segment: SegmentId = "integer", node: String = "string" },
                    kind: Move, counts: "segment",
                    method: move_segment;
                };
                Unpin: Changes POST "/processors/{name}/unpin", "processor unpin",
                    "unbind a segment from its node" {
                    /// Unbinds a segment from the node an operator bound it to.
                    takes: [name: String] { segment: SegmentId = "integer" },
                    kind: Unpin, counts: "segment",
                    method: unpin;
                };
                Release: Changes POST "/processors/{name}/release", "processor release",
                    "take a segment from its owner" {
                    /// Takes a segment from its owner, who may not have it back for two leases.
                    takes: [name: String] { segment: SegmentId = "integer" },
                    kind: Release, counts: "segment",
                    method: release;
                };
                Claim: Changes POST "/processors/{name}/claim", "processor claim",
                    "give a segment to a node, which keeps it" {
                    /// Gives a segment to the node of this name, and binds it to that; none is the node that is asked.
                    takes: [name: String] { segment: SegmentId = "integer", node: Option<String> = "string" },
                    kind: Claim, counts: "segment",
                    method: claim;
                };
                SkipEvent: Changes POST "/processors/{name}/skip-event", "processor skip-event",
                    "pass over the event that a segment waits with" {
                    /// Passes over the event that a segment waits with, which is the one at this position: see
                    /// [`waits_with`](crate::engine::Segment::waits_with).
                    takes: [name: String] { segment: SegmentId = "integer", position: Position = "integer" },
                    kind: SkipEvent, counts: "event",
                    method: skip_event;
                };
                Promote: NotYet POST "/processors/{name}/promote", "processor promote",
                    "put a new version in place";
            }
            dead_letters {
                DeadLetters: Reads GET "/processors/{name}/dead-letters", "dead-letter list",
                    "list what a processor has set aside, with causes";
                Edit: NotYet POST "/processors/{name}/dead-letters/edit", "dead-letter edit",
                    "change a letter's payload";
                Retry: Changes POST "/processors/{name}/dead-letters/retry", "dead-letter retry",
                    "retry events that are set aside now, with a new count of attempts" {
                    /// Retries sequences now, with a new count of attempts.
                    takes: [name: String] by selection: Selection,
                    kind: Retry, counts: "sequence",
                    method: retry;
                };
                Skip: Destroys POST "/processors/{name}/dead-letters/skip", "dead-letter skip",
                    "pass over the letter that fails" {
                    /// Passes over the letter that fails; those behind it are tried now.
                    takes: [name: String] by selection: Selection,
                    kind: Skip, counts: "event",
                    method: skip;
                };
                Drop: Destroys POST "/processors/{name}/dead-letters/drop", "dead-letter drop",
                    "give up all its letters" {
                    /// Gives up all letters of sequences.
                    takes: [name: String] by selection: Selection,
                    kind: Drop, counts: "sequence",
                    method: drop;
                };
            }
            cluster {
                Status: Reads GET "/status", "status", "what this node does, actor by actor";
                ClusterStatus: Reads GET "/status/cluster", "cluster status",
                    "the members, the leader, and who is missing";
                Join: Changes POST "/cluster/join", "cluster join", "admit a node that waits to be a member" {
                    /// Admits the node at this peer address.
                    takes: { peer: String = "string" },
                    kind: Expect, counts: "member";
                };
                Leave: Destroys POST "/cluster/leave", "cluster leave", "let a member leave for ever" {
                    /// Lets a member leave for ever.
                    takes: { node: String = "string" },
                    kind: Leave, counts: "member";
                };
                Transfer: Changes POST "/cluster/transfer", "cluster transfer", "let another member lead" {
                    /// Lets another member lead; none leaves the choice to the cluster.
                    takes: { node: Option<String> = "string" },
                    kind: Lead, counts: "member";
                };
            }
            operations {
                Operations: Reads GET "/operations", "operations",
                    "list the latest changes, the newest first, with reasons";
                Operation: Reads GET "/operations/{id}", "operations show", "what came of a change, and its reason";
                Backup: NotYet POST "/backup", "backup", "copy the log and the state";
            }
        }
    };
}

pub(crate) use verbs;

/// What asking a verb does to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Reads,
    /// It adds events.
    Appends,
    /// It changes something, and so takes an operation's id, a reason, and `dry_run`.
    Changes,
    /// It changes something and gives up events or data for good, so that the command line asks first.
    Destroys,
    /// It is a change in the contract, and not built yet.
    NotYet,
}

/// How one verb is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerbEntry {
    /// Which verb.
    pub verb: Verb,
    /// What it does to the cluster.
    pub effect: Effect,
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with `{name}` for what varies.
    pub path: &'static str,
    /// The words of the command line.
    pub words: &'static str,
    /// What it does.
    pub about: &'static str,
}

impl Verb {
    /// Returns how it is reached.
    #[must_use]
    pub const fn entry(self) -> &'static VerbEntry {
        &TABLE[self as usize]
    }
}

impl VerbEntry {
    /// Returns whether it is a change.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        matches!(self.effect, Effect::Changes | Effect::Destroys | Effect::NotYet)
    }

    /// Returns whether it is not built yet.
    #[must_use]
    pub const fn is_not_yet(&self) -> bool {
        matches!(self.effect, Effect::NotYet)
    }

    /// Returns the last of its words, such as `skip-event`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.words.rsplit(' ').next().unwrap_or(self.words)
    }
}

/// An argument of a change, as far as the log line of the change names it.
pub(super) trait Argument {
    /// Returns the name of a processor, of a member, or an address.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Returns the segment.
    fn segment(&self) -> Option<SegmentId> {
        None
    }

    /// Returns the sequence.
    fn sequence(&self) -> Option<&str> {
        None
    }
}

impl Argument for String {
    fn name(&self) -> Option<&str> {
        Some(self)
    }
}

impl Argument for Option<String> {
    fn name(&self) -> Option<&str> {
        self.as_deref()
    }
}

impl Argument for Box<Definition> {
    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }
}

impl Argument for SegmentId {
    fn segment(&self) -> Option<SegmentId> {
        Some(*self)
    }
}

impl Argument for Option<SegmentId> {
    fn segment(&self) -> Option<SegmentId> {
        *self
    }
}

impl Argument for Selection {
    fn sequence(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Sequence(_, sequence) => Some(sequence),
        }
    }
}

impl Argument for Position {}

impl Argument for ResetRequest {}

macro_rules! define {
    ($($section:ident {$(
        $verb:ident: $effect:ident $method:ident $path:literal, $words:literal, $about:literal $({
            $(#[$doc:meta])*
            takes: $([$name:ident: $name_type:ty])? $({ $($field:ident: $type:ty = $json:literal),* })?
                $(by $body:ident: $body_type:ty)?,
            kind: $kind:ident, counts: $counts:literal $(, method: $call:ident)?;
        })?;
    )*})*) => {
        /// What can be asked, without its arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb {
            $($(#[doc = concat!("`", $words, "`: ", $about, ".")] $verb,)*)*
        }

        /// Every verb.
        pub const TABLE: &[VerbEntry] = &[$($(VerbEntry {
            verb: Verb::$verb,
            effect: Effect::$effect,
            method: stringify!($method),
            path: $path,
            words: $words,
            about: $about,
        },)*)*];

        /// What can be changed.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum What {
            $($($($(#[$doc])* $verb($($name_type,)? $($($type,)*)? $($body_type)?),)?)*)*
        }

        impl What {
            /// Returns which verb this is.
            #[must_use]
            pub const fn verb(&self) -> Verb {
                self.verb_and_thing().0
            }

            /// Returns which verb this is, and what things it touches.
            pub(super) const fn verb_and_thing(&self) -> (Verb, &'static str) {
                match self {
                    $($($(Self::$verb(..) => (Verb::$verb, $counts),)?)*)*
                }
            }

            /// Returns its arguments in order.
            pub(super) fn arguments(&self) -> Vec<&dyn Argument> {
                let arguments: &[&dyn Argument] = match self {
                    $($($(Self::$verb($($name,)? $($($field,)*)? $($body)?) => {
                        &[$($name,)? $($($field,)*)? $($body)?]
                    })?)*)*
                };
                arguments.to_vec()
            }
        }

        impl Verb {
            /// Returns the kind of change that it makes, if it makes one.
            pub(super) const fn kind(self) -> Option<ChangeKind> {
                match self {
                    $($($(Self::$verb => Some(ChangeKind::$kind),)?)*)*
                    _ => None,
                }
            }
        }
    };
}

verbs!(define);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_words_are_unique() {
        for (n, row) in TABLE.iter().enumerate() {
            assert_eq!(row.verb.entry(), row, "a verb stands once in the table");
            assert_eq!(row.is_change() && !row.is_not_yet(), row.verb.kind().is_some(), "{}", row.words);
            for other in &TABLE[n + 1..] {
                assert_ne!((row.method, row.path), (other.method, other.path));
                assert_ne!(row.words, other.words);
            }
        }
    }
}
