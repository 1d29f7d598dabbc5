//! Every error code, in one place: its class, its HTTP status, what to do next, and its page for `evener explain`.
//!
//! Codes are never given a second meaning; EV0309 and EV0513 are retired. EV01 requests, EV02 events, EV03
//! processors, EV04 the cluster, EV05 settings and start, EV06 the command line, EV09 the rest.

use crate::error::Class::{self, Conflict, Invalid, Overloaded, Refused, Unauthorized, Unknown};

/// One code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `EV0123`.
    pub id: &'static str,
    /// The choice the caller has.
    pub class: Class,
    /// The HTTP status that fits.
    pub status: u16,
    /// What it means, in one line.
    pub title: &'static str,
    /// What to do next.
    pub hint: &'static str,
    /// Its page.
    pub page: &'static str,
}

impl Code {
    /// What the command line exits with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.id {
            "EV0601" => 7,
            "EV0606" => 8,
            "EV0608" => 9,
            "EV0609" => 10,
            "EV0901" | "EV0999" => 1,
            _ => self.class.exit_code(),
        }
    }
}

/// What `evener` exits with, and when: part of the contract.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "a promise is broken, or the program itself"),
    (2, "the request or the command line is wrong"),
    (3, "a conflict: the state is not as the request expects"),
    (4, "refused, or not built yet"),
    (5, "unknown: it may have happened"),
    (6, "overloaded, or no leader for now: nothing happened"),
    (7, "no server answers"),
    (8, "timed out waiting"),
    (9, "caught up, and not everything was handled (`wait caught-up --strict`)"),
    (10, "done, and its answer could not be written to standard output"),
];

/// The code named `id`, exactly.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter().find(|code| code.id == id).copied()
}

/// An id in its full form, as people shorten it: `ev304` and `304` are EV0304. What is none stays what it is.
#[must_use]
pub fn full_id(word: &str) -> String {
    let word = word.trim().to_ascii_uppercase();
    let digits = word.strip_prefix("EV").unwrap_or(&word);
    match digits.parse::<u32>() {
        Ok(number) => format!("EV{number:04}"),
        Err(_) => word,
    }
}

macro_rules! codes {
    ($($name:ident = $id:literal $class:ident $status:literal $title:literal, $hint:literal, $page:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: Code = Code {
                id: $id, class: $class, status: $status, title: $title, hint: $hint, page: $page,
            };
        )*
        /// All codes, in order.
        pub const ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    BAD_BODY = "EV0100" Invalid 400 "the body of a request is not what it should be",
        "correct the body; GET /openapi.json describes it",
        "The body is not JSON, or not of the form that this request takes. The message names the field or the \
         place in the text. Unknown fields are refused, so that a misspelt one is not silently ignored.";
    BAD_QUERY = "EV0101" Invalid 400 "a parameter of a request is unknown or malformed",
        "correct the parameter; GET /openapi.json lists them",
        "Parameters follow the `?` of the address, percent-encoded. Lists (`types`, `tags`) are joined by \
         commas after their values have been encoded, so that a value may hold a comma.";
    BODY_TOO_LARGE = "EV0102" Invalid 413 "the body of a request is larger than the server takes",
        "send fewer events in one request, and what is large by reference",
        "The length is looked at before anything is read. One event may have 1,000,000 bytes (`event_bytes_max`), \
         as may all events of an append (`append_bytes_max`); its JSON may be up to 4 MiB, and a batch of appends \
         16 MiB.";
    NO_SUCH_ROUTE = "EV0103" Invalid 404 "there is nothing at this address",
        "ask GET /openapi.json: it lists all routes",
        "The path is not one that this server answers: it may be misspelt, or belong to a newer version than the \
         server's, which `evener status` shows.";
    NO_SUCH_METHOD = "EV0104" Invalid 405 "this address takes another method",
        "ask GET /openapi.json: it lists all routes and their methods",
        "The path exists, and the method (GET, POST, DELETE) is not one that it takes: what only looks is GET, what \
         changes something is POST or DELETE.";
    BAD_EVENT = "EV0105" Invalid 400 "an event is not a CloudEvent that Evener takes",
        "correct the event that the message names",
        "Events are JSON objects of CloudEvents 1.0: `id`, `source` and `type` are required; `subject` is the \
         stream, the extension `tags` is a comma-separated list. Payloads that are not JSON go as `data_base64`.";
    LIMIT = "EV0106" Invalid 413 "a request passes a limit",
        "make the request smaller; `evener cluster status -o json` (GET /status/cluster) shows the limits",
        "Limits are the same on all nodes and are part of the replicated state; `conditions_bytes_max` (65,536 bytes \
         of all criteria of one request together) is the same for every cluster. The message names the limit, what it \
         allows and what was asked for. Nothing of the request is stored.";
    UNKNOWN_CONTEXT = "EV0107" Invalid 404 "there is no such context",
        "leave the context out, or say `default`",
        "A context is an event store of its own. There are `default` (0) and `system` (1).";
    BODY_TOO_SLOW = "EV0108" Invalid 408 "the body of a request does not come",
        "send the body without a pause, or less of it at a time",
        "A body that is on its way holds memory and a connection. Ten seconds without a byte of it, or less than \
         64 KiB a second for long, and the request is refused. Nothing of it happened.";
    MEDIA_TYPE = "EV0109" Invalid 415 "the body of a request is in a format that is not understood",
        "send application/cloudevents+json, application/cloudevents-batch+json, or the attributes as headers ce-…",
        "CloudEvents over HTTP come in three modes: structured (one event as JSON), batch (an array of them), and \
         binary (the attributes in headers `ce-…`, the data as the body, in any format). Events themselves are \
         understood in JSON only, not in Avro, Protobuf or XML.";

    CONDITION = "EV0200" Conflict 409 "a condition of an append does not hold",
        "read again from the marker, decide again, and append with the new marker",
        "An event that matches the condition's criteria is at or after its marker: another client was faster. The \
         answer names the last such event, its position and type. Nothing of the append is stored.";
    REVISION = "EV0201" Conflict 409 "a stream is at another revision than expected",
        "read the stream again, decide again, and append with its new revision",
        "The append expects a stream to be at a revision (`expect`), and it is at another one. Nothing is stored.";
    PARTLY_STORED = "EV0202" Conflict 409 "some of an append's events are stored already, the others are not",
        "send the rest without them, or the same append as before; `evener import` does so by itself",
        "Event ids are unique for ever (P3). The same append sent again is answered as the first time. Here only \
         a part of it exists, so it is another append. The answer lists the ids that are stored, with positions.";
    OTHER_CONTENT = "EV0203" Conflict 409 "an event with this id and other content is stored already",
        "give the event an id of its own; read the stored one at the position named",
        "Event ids are unique for ever (P3). An id counts together with its source, both \
         byte for byte: one id from two sources is two events, and so are two ids that differ in case.";
    CHECK_TOO_OLD = "EV0204" Overloaded 503 "an append waited longer than its conditions may",
        "send it again with the same ids",
        "Conditions are looked at when an append arrives and judged again at its place in the log, over a window \
         of the latest events. This append came out of the window before it was judged. Nothing of it is stored.";
    INVALID_APPEND = "EV0205" Invalid 400 "an append makes no sense",
        "correct the event or condition that the message names; GET /openapi.json and `evener append --help` show \
         their form",
        "Each event of an append needs a type, a source, and an id of its own; an append has at least one event. \
         Nothing of it is stored.";
    MARKER_AHEAD = "EV0206" Invalid 400 "the marker of a condition lies beyond the head of the log",
        "use the marker that a read of this cluster ended with",
        "A condition fails if an event that matches is at or after its marker. A marker beyond the head would let \
         every append pass, and no read can have ended there: it is of another cluster or context, or mistyped. The \
         node that was asked has caught up with the leader before it says so. Nothing of the append is stored.";

    UNKNOWN_PROCESSOR = "EV0300" Invalid 404 "there is no such processor",
        "`evener processor list` (GET /processors) shows those there are",
        "Processors are known by the name they were created with, on all nodes, in upper and lower case as it was \
         given. It may have been deleted, or never created on this cluster: look whether the server that \
         was asked (`--server`) is of the right one.";
    EXISTS = "EV0301" Conflict 409 "it exists already and differs",
        "choose another name, or delete the old one first",
        "Creating what exists already in the same form is no error. What decides which segment an event belongs \
         to (the sequencing policy) never changes silently.";
    UNKNOWN_SEGMENT = "EV0302" Invalid 404 "the processor has no such segment",
        "`evener processor show NAME` (GET /processors/NAME) lists its segments",
        "A segment is called by its number, and they are numbered from 0: one with 16 segments has 0 to 15.";
    INVALID_CHANGE = "EV0303" Invalid 400 "the change cannot be made like this",
        "correct what the message names; GET /openapi.json and `evener processor create --help` show \
         what can be asked for",
        "The request is well formed and asks for something that cannot be, for example a processor without \
         segments, or with more than the limit `segments_max`.";
    UNKNOWN_SEQUENCE = "EV0304" Invalid 404 "no such sequence is set aside",
        "`evener dead-letter list NAME` (GET /processors/NAME/dead-letters) shows those that are",
        "A sequence is set aside when one of its events failed; it is named as the sequencing policy names it, by \
         default by the event's key, else its subject. Events that it finds no name for are one sequence, whose name \
         is empty: `--sequence ''`, or `\"sequence\":\"\"`. It may have been finished in the meantime.";
    FENCED = "EV0305" Conflict 409 "the claim has another owner by now",
        "look again; the new owner goes on with it",
        "A token, a letter and a claim change only under the claim's current epoch (P4). The segment was taken over in \
         the meantime, which is no fault: `evener processor show NAME` shows by whom.";
    OUTDATED = "EV0306" Conflict 409 "the cluster has moved on since the request was made",
        "look again and repeat the request if it still fits",
        "Changes of ownership name the table they were made from and are refused if it has changed since.";
    LIMIT_REACHED = "EV0307" Refused 422 "a limit of the cluster is reached",
        "free what is not needed any more; `evener cluster status -o json` (GET /status/cluster) shows the limits",
        "Limits are part of the replicated state. The message names the one that is reached.";
    UNKNOWN_OPERATION = "EV0308" Invalid 404 "no operation with this id is remembered",
        "`evener operations` lists those that are; older ones are forgotten (`operations_max`)",
        "The latest operations of the cluster are remembered with their outcomes and reasons (`operations_max`, \
         1,024): `evener operations`, GET /operations. One that is not among them is older, or was never done: look \
         at what it should have changed. To repeat one with the same id does it at most once as long as it is \
         remembered.";
    OTHER_CHANGE = "EV0310" Conflict 409 "an operation with this id made another change",
        "give every change an id of its own, or none; `evener explain EV0310` says more",
        "An operation is named by its id, so that a change that is sent twice is made once. Here an id was used again \
         for a different change, and nothing was done; the message names the first change. What came of that one, \
         `evener operations show ID` (GET /operations/{id}) shows it.";

    NO_LEADER = "EV0400" Overloaded 503 "the cluster has no leader, or no majority, for now",
        "repeat it; if it lasts, see which nodes are down: `evener cluster status`",
        "Writing needs a majority of the voting nodes. Where only a minority can reach each other nothing is \
         written until a majority is back; reading with `consistency=local` goes on. Nothing happened.";
    OUTCOME_UNKNOWN = "EV0401" Unknown 504 "it is not known whether this happened",
        "repeat it with the same ids: it is then done once",
        "The connection or the leader was lost after the request was sent on. Event ids and operation ids make a \
         repetition harmless; every client of Evener repeats by itself.";
    OVERLOADED = "EV0402" Overloaded 503 "the server has as much to do as it can hold",
        "wait as long as the answer says and repeat it",
        "Every queue has a bound. What does not fit is refused at once instead of being answered late. Nothing \
         happened.";
    UNKNOWN_NODE = "EV0403" Invalid 404 "no member of the cluster is called so",
        "`evener cluster status` (GET /status/cluster) lists the members",
        "Members are known by the name they were started with (`--name`), not by their address or number. One that has \
         left for ever is no member any more.";
    REFUSED_BY_CLUSTER = "EV0404" Refused 422 "the cluster does not do this for now",
        "look at the members with `evener cluster status`, bring back what is missing, and repeat it",
        "The message says what prevents it. A change of members waits for the one before it, and never \
         leaves fewer voters than can decide.";
    NOT_READY = "EV0405" Overloaded 503 "the server is not ready",
        "wait for it: `evener wait ready`",
        "A node answers requests once it is a member, knows a leader and has applied what the leader had.";
    STOPPING = "EV0406" Overloaded 503 "the server is stopping",
        "ask another node; on the command line name several, --server URL,URL, and the next is asked by itself",
        "The node is shutting down: it finishes running handlers, hands over its segments, and then ends. Nothing \
         of the request happened.";
    FAILED_NODE = "EV0407" Refused 500 "the server has stopped working",
        "look at its log; other nodes go on. Restart it once the cause is mended",
        "A write or sync to its disk failed, or its log met something it does not understand. A node that cannot \
         trust its disk does nothing more (P8).";

    UNREADABLE = "EV0408" Refused 500 "events cannot be read from this server's disk",
        "ask another node, and look at this one's log: what it stores may be damaged",
        "A frame of the log does not have its checksum, is missing, or the disk refuses to read. Nothing wrong is \
         answered instead (P8).";
    DISK_RESERVE = "EV0409" Overloaded 503 "too little space is free for more events",
        "free space on the disks that the message names, or enlarge them; appends go on by themselves",
        "Below `store.disk_reserve` a node takes no appends, so that progress, claims and operations go on from what \
         is left. Appends stop on a node that is low, and on all nodes once less than a majority of the voters has \
         more than its reserve. Nothing of the append is stored; `evener status` shows the free space of a node.";

    UNKNOWN_SETTING = "EV0500" Invalid 400 "there is no such setting",
        "`evener config` lists all settings",
        "Settings come from flags, then EVENER_SECTION__KEY, then evener.toml, then defaults. Unknown ones are \
         errors, so that a misspelt one is not silently ignored.";
    BAD_SETTING = "EV0501" Invalid 400 "a setting has a value that it cannot have",
        "give it a value of its kind: `evener config --reference` has each setting's kind, default and reason",
        "The message names the setting, its value, and the flag, variable or file it comes from; `evener config` \
         shows that for all of them. Durations have a unit (`500ms`, `5s`, `2m`), sizes may have one (`64KiB`, \
         `16MiB`), addresses are `host:port`.";
    SETTINGS_FILE = "EV0502" Invalid 400 "the settings file cannot be read",
        "correct the file, or name another one with --config",
        "The file is TOML: sections in brackets, `key = value` below, as `[node]` and `name = \"n1\"`. `evener \
         config --reference` lists the possible settings. Without --config it is evener.toml in the current \
         directory, if there.";
    OPEN_ADDRESS = "EV0503" Refused 422 "an address that others can reach needs protection",
        "listen on 127.0.0.1, or accept it with --insecure-listen inside a trusted network",
        "There is no TLS and no authentication yet: every client that reaches the address can read and write all. So \
         anything but loopback must be asked for by name.";
    WILDCARD = "EV0504" Invalid 400 "a wildcard address cannot be used by other nodes",
        "say where others reach this node: --advertise HOST:PORT and --peer-advertise HOST:PORT",
        "A node that listens on 0.0.0.0 or [::] needs to know which address other nodes and clients use.";
    PORT_IN_USE = "EV0505" Refused 422 "the address cannot be listened on",
        "free the address, or choose another one with --listen or --peer-listen",
        "Usually another process listens there already, often an earlier node. A name must be known here, and an \
         address must be this machine's.";
    DATA_LOCKED = "EV0506" Refused 422 "another process has this data directory",
        "end the other process, or choose another directory with --data",
        "One data directory belongs to one process at a time, so that two never write the same log. Usually it is an \
         earlier node that still runs: `fuser -v DIR/*` shows which. Nothing is left locked after a crash.";
    OTHER_CLUSTER = "EV0507" Refused 422 "the data directory, or the cluster joined, is another one",
        "point --data, --join and --cluster at the same cluster",
        "Every cluster has an id, given when it was founded and written into every data directory, together with the \
         name of its node.";
    EMPTIED = "EV0508" Refused 422 "a member of this name has another data directory",
        "restore its directory; or join with another --name, and once that node is alive in `evener cluster status`, \
         let the old one go: `evener cluster leave NAME`",
        "A node whose directory was emptied or replaced has lost what it promised to keep, so it may not vote \
         under its old name. It joins as a new node, under a new name. That one comes first and the lost one leaves \
         then: so the new vote replaces the lost one in one step. The other way round, of three members two are left, \
         of which one votes until the new node is there: what it alone has stored counts as stored meanwhile.";
    CLUSTER_ANSWERS = "EV0509" Refused 422 "a cluster answers where a new one should be founded",
        "join it: leave out --bootstrap",
        "With both --bootstrap and --join the addresses are asked first, so that two clusters are never founded \
         by mistake.";
    NOTHING_TO_START = "EV0510" Invalid 400 "the data directory is empty and no cluster is named",
        "found a cluster with --bootstrap, or join one with --join HOST:PORT",
        "A data directory that belongs to a cluster needs neither. An empty one does, so that a wrong --data does not \
         quietly begin a second cluster.";
    DAMAGED = "EV0511" Refused 422 "what is on disk is damaged",
        "keep the directory for a look at it; join with an empty one and another --name, then let the damaged node \
         leave",
        "A byte that was acknowledged as stored does not have its checksum any more (P8). The node stops rather \
         than lies; the others have the same events.";
    START = "EV0512" Refused 422 "the node could not start",
        "look whether --data can be written, has room, and is of this version; then start it again",
        "Something that a node needs could not be had; the message has what, and the reason that the operating \
         system gives. Usually it is the data directory: its owner and rights, a full disk, a read-only mount; \
         else a limit on threads or open files (`ulimit -a`). Starting again harms nothing.";
    REMOVED = "EV0514" Refused 422 "the node was removed from its cluster",
        "to join again, start with an empty directory and --join HOST:PORT; the cluster has all that the old one has",
        "A member leaves for ever (`evener cluster leave`), and its number is never given again. The directory of one \
         that left takes part in nothing any more; the cluster keeps all that was acknowledged, and the name is free.";

    USAGE = "EV0600" Invalid 400 "the command line is wrong",
        "see `evener help COMMAND`",
        "A word, a flag or a value is missing, unknown, or does not go with the others. Nothing was asked of a server.";
    NO_SERVER = "EV0601" Overloaded 503 "no server answers",
        "name a server that runs with --server URL[,URL…] or EVENER_SERVER; `evener serve` starts one again with its \
         data directory, and `evener serve --bootstrap` founds a new cluster",
        "All servers named were tried, and the message has the reason of each: `Connection refused` means that the \
         machine is there and nothing listens on that port, a timeout that a firewall or a wrong address may be in the \
         way. A server that accepts connections and answers nothing, not even /livez, is frozen or has far too much \
         to do. Nothing happened.";
    NOT_EVENER = "EV0602" Invalid 502 "what answers there is not an Evener server",
        "check --server; the port is 4750 by default, and 4751 is for peers only",
        "The answer has not the form that an Evener server's has. Each node has two ports: one for clients, in HTTP \
         (`--listen`), and one on which nodes talk to each other (`--peer-listen`).";
    BAD_LINE = "EV0603" Invalid 400 "a line of the file is not an event",
        "mend the line and run the same import again: what is stored already is not stored twice",
        "A file to import has one CloudEvents 1.0 JSON object a line. `jq -c '.[]' FILE` makes such lines of a JSON \
         array, `jq -c . FILE` of objects that have several lines each. What stood before the line is stored.";
    FILE = "EV0604" Invalid 400 "a file cannot be read or written",
        "check that it exists, its name, and its rights",
        "The message has the file and the reason that the operating system gives. A command that writes a file \
         replaces none.";
    INTERRUPTED = "EV0605" Refused 422 "the command was interrupted",
        "run it again: what is stored already is not stored twice",
        "It ended before its work was done. What it did until then stays, and its message says what that was.";
    WAITED = "EV0606" Refused 422 "the condition was not met within the given time",
        "mend what the message names, or give more time with --timeout",
        "`evener wait` ends with status 8 when the time is over, and its message says what was still missing. What \
         time alone will not bring, such as a processor that is paused, is reported at once. `evener tail --timeout` \
         ends with it if no event came for so long.";
    UNKNOWN_CODE = "EV0607" Invalid 400 "there is no such error code",
        "`evener explain` without a code lists all there are",
        "Codes have the form EV0123, and never get a second meaning. One of a newer server may be unknown to an older \
         client.";
    NOT_ALL_HANDLED = "EV0608" Refused 422 "something was set aside, where everything should be handled",
        "`evener dead-letter list NAME` shows what failed and why; mend it, then `evener dead-letter retry NAME --all`",
        "A processor that has caught up has passed every event: it has handled it, or set it aside because its handler \
         kept failing, or skipped it. `evener wait caught-up --strict` ends with status 9 if something is set aside or \
         was skipped ever since the processor was created: `evener operations` shows what people skipped, the logs of \
         the nodes what a handler or `on_error` did.";
    ANSWER_LOST = "EV0609" Unknown 500 "it was done, and the answer could not be written to standard output",
        "do not take it for a failure: it was done; the message has the answer",
        "The server did what was asked and answered; then standard output refused the answer, as a full disk does. \
         The command ends with status 10. To repeat it with the same id (`--id`, `--operation`), or to run the same \
         import again, does nothing twice.";
    NOT_CONFIRMED = "EV0610" Refused 422 "a change that gives something up was not confirmed",
        "add --yes to confirm in advance; --dry-run shows what would be discarded",
        "Dropping, skipping, deleting and removing cannot be undone. So the command shows what would be \
         lost and asks at the terminal; in a script, --yes confirms in advance. Nothing \
         was changed. Over HTTP nothing is asked.";

    UNAUTHORIZED = "EV0700" Unauthorized 401 "the request does not say who asks",
        "nothing yet: this version has no authentication",
        "Kept for authentication, which is not built yet; this code is not given today. Until then keep the ports \
         where only those who may use them reach them.";
    OTHER_ORIGIN = "EV0701" Unauthorized 403 "a page of another site may not use this server",
        "use the server's own page, or a client that is no browser",
        "A browser says which site a page comes from (`Origin`). There is no authentication yet, so that a page \
         of another site, open on this machine, must not be able to read or write here.";

    OTHER_HOST = "EV0702" Unauthorized 403 "the request is addressed to a name that is not this node's",
        "use an address that the node listens on or advertises, or start it with the name in http.allowed_hosts \
         (--allowed-hosts)",
        "A page of another site can have its own name resolve to this machine, and a browser then takes the page and \
         this server for one site. So a node serves only requests whose `Host` is localhost, a loopback address, the \
         host of its listen or advertised address, or one named by the setting http.allowed_hosts (behind a proxy or \
         a service name, say).";
    EXEC_NOT_ALLOWED = "EV0703" Refused 403 "this node does not run handler programs",
        "start every node that is to run them with --allow-exec (processing.allow_exec)",
        "A processor with `exec` runs a command on each node that owns one of its segments. There is no \
         authentication yet, so that every client could run any command: a node allows it only if \
         it was started with --allow-exec. A node without it owns no working segment of such a processor: its \
         segments there wait, say why, and go to a node that allows it.";

    NOT_YET = "EV0900" Refused 501 "this part is not built yet",
        "the README lists what is not built yet",
        "The part has its place in the contract, so that scripts can rely on its name and form, and does nothing \
         yet.";
    BROKEN = "EV0901" Refused 500 "a promise is broken",
        "please report it with what the command printed and the folder that it kept",
        "The demo checks from outside: the acknowledgements of its load, the events read back from each node, and what \
         the handlers wrote into their own files. These do not agree.";
    HARNESS = "EV0902" Refused 500 "the demo or the benchmark could not be carried out",
        "look into the nodes' logs in the folder that is named, and run it again with the machine at rest",
        "Nodes are started as child processes on free ports of the loopback address, in a temporary directory \
         (`TMPDIR`). Where that is full or slow, or the machine is busy, they may not be ready in time. The \
         message says what failed.";
    BUG = "EV0999" Refused 500 "a fault in Evener itself",
        "please report it with the message and the server's log",
        "Something happened that should be impossible. What was acknowledged before stays stored; whether this request \
         was done is to be looked up.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn every_code_says_what_to_do_next_in_the_house_style() {
        for code in ALL {
            assert!(code.id.len() == 6 && code.id.starts_with("EV"), "{}", code.id);
            for text in [code.title, code.hint] {
                let first = text.chars().next().expect("a text has a first letter");
                assert!(!first.is_uppercase() && !text.ends_with('.'), "{}: {text}", code.id);
            }
            assert!(code.page.ends_with('.') && code.page.len() > 30, "{}", code.id);
            assert!((400..600).contains(&code.status), "{}", code.id);
        }
    }

    #[test]
    fn every_exit_code_is_documented() {
        for code in ALL {
            assert!(EXIT_CODES.iter().any(|(exit, _)| *exit == code.exit_code()), "{}", code.id);
        }
    }

    #[test]
    fn a_code_is_found_as_people_write_it() {
        for word in ["EV0304", "ev0304", "EV304", "ev304", "304", "0304", " EV0304 "] {
            assert_eq!(find(&full_id(word)), Some(&UNKNOWN_SEQUENCE), "{word}");
        }
        assert_eq!(find(&full_id("EV0000")), None);
        assert_eq!(full_id("evener"), "EVENER");
    }

    #[test]
    fn no_page_leaves_its_reader_with_the_message_alone() {
        for code in ALL {
            let only = ["the message", "as the message says", "see the message"];
            assert!(!only.iter().any(|start| code.hint.starts_with(start)), "{}: {}", code.id, code.hint);
            assert!(code.hint.len() >= 20, "{}: {} does not say what to do", code.id, code.hint);
            assert!(code.page.len() >= 60, "{}: {} explains little", code.id, code.page);
        }
    }
}
