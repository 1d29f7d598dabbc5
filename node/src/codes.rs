//! All error codes, each with its class, HTTP status, hint, and page for `evener explain`.
//!
//! A code never gets a second meaning; EV0309 and EV0513 are retired. EV01 requests, EV02 events, EV03
//! processors, EV04 the cluster, EV05 settings and start, EV06 the command line, EV07 access, EV09 the rest.

use serde::{Deserialize, Serialize};

use Class::{Conflict, Invalid, Overloaded, Refused, Unauthorized, Unknown};

/// An error code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `EV0123`.
    pub id: &'static str,
    /// Class, by what the caller can do.
    pub class: Class,
    /// HTTP status.
    pub status: u16,
    /// Meaning, in one line.
    pub title: &'static str,
    /// Next step for the caller.
    pub hint: &'static str,
    /// Explanation, shown by `evener explain`.
    pub page: &'static str,
}

impl Code {
    /// Returns the exit status of the command line for it.
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

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Change the request: it can never succeed as it is.
    Invalid,
    /// Read and decide again: the state differs from what the request expects.
    Conflict,
    /// Refused for now, without any effect; the message gives the reason.
    Refused,
    /// The outcome is unknown. Repeat it with the same ids: it then takes effect once.
    Unknown,
    /// No effect. Repeat it after the given time.
    Overloaded,
    /// Authenticate.
    Unauthorized,
}

impl Class {
    /// Returns the HTTP status of a code that this build does not know.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::Conflict => 409,
            Self::Refused => 422,
            Self::Overloaded => 503,
            Self::Unknown => 504,
        }
    }

    /// Returns the exit status of the command line.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::Conflict => 3,
            Self::Refused | Self::Unauthorized => 4,
            Self::Unknown => 5,
            Self::Overloaded => 6,
        }
    }
}

/// Exit statuses of `evener` with their meanings: part of the contract.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "a promise is broken, or Evener has a bug"),
    (2, "the request or the command line is wrong"),
    (3, "a conflict: the state is not as the request expects"),
    (4, "refused, or not built yet"),
    (5, "unknown: it may have happened"),
    (6, "overloaded, or no leader for now: nothing happened"),
    (7, "no server answers"),
    (8, "timed out waiting"),
    (9, "caught up, but not everything was handled (`wait caught-up --strict`)"),
    (10, "done, but the answer could not be written to standard output"),
];

/// Returns the code with exactly this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter().find(|code| code.id == id).copied()
}

/// Expands a shortened id: `ev304` and `304` become EV0304. Returns any other word in upper case.
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
    BAD_BODY = "EV0100" Invalid 400 "the body of a request is invalid",
        "correct the body; GET /openapi.json describes it",
        "The body is not JSON, or does not have the form that this request takes. The message names the field or the \
         place in the text. Unknown fields are refused, so that a misspelt one is not silently ignored.";
    BAD_QUERY = "EV0101" Invalid 400 "a parameter of a request is unknown or malformed",
        "correct the parameter; GET /openapi.json lists them",
        "Parameters follow the `?` of the address, percent-encoded. Lists (`types`, `tags`) are joined by \
         commas after their values have been encoded, so that a value may contain a comma.";
    BODY_TOO_LARGE = "EV0102" Invalid 413 "the body of a request is larger than the server accepts",
        "send fewer events in one request, and large payloads by reference",
        "The length is checked before anything is read. One event may have 1,000,000 bytes (`event_bytes_max`), \
         as may all events of an append together (`append_bytes_max`); its JSON may have up to 4 MiB, a batch of \
         appends 16 MiB.";
    NO_SUCH_ROUTE = "EV0103" Invalid 404 "no route at this address",
        "see GET /openapi.json for all routes",
        "The server has no such route: the path may be misspelt, or belong to a newer version than the \
         server's, which `evener status` shows.";
    NO_SUCH_METHOD = "EV0104" Invalid 405 "this address takes another method",
        "see GET /openapi.json for all routes and their methods",
        "The path exists, but does not take this method (GET, POST, DELETE): queries are GET, changes are POST or \
         DELETE.";
    BAD_EVENT = "EV0105" Invalid 400 "an event is not a CloudEvent that Evener accepts",
        "correct the event that the message names",
        "Events are JSON objects of CloudEvents 1.0: `id`, `source` and `type` are required; `subject` is the \
         stream, the extension `tags` is a comma-separated list. Payloads that are not JSON go as `data_base64`.";
    LIMIT = "EV0106" Invalid 413 "a request exceeds a limit",
        "make the request smaller; `evener cluster status -o json` (GET /status/cluster) shows the limits",
        "Limits are the same on all nodes and are part of the replicated state; `conditions_bytes_max` (65,536 bytes \
         of all criteria of one request together) is the same for every cluster. The message names the limit, what it \
         allows and what the request has. Nothing of the request is stored.";
    UNKNOWN_CONTEXT = "EV0107" Invalid 404 "there is no such context",
        "leave the context out, or use `default`",
        "A context is an event store of its own. There are `default` (0) and `system` (1).";
    BODY_TOO_SLOW = "EV0108" Invalid 408 "the body of a request arrives too slowly",
        "send the body without a pause, or less of it at a time",
        "An incomplete body holds memory and a connection. The request is refused after ten seconds without a byte, or \
         if it stays below 64 KiB a second for long. Nothing of it happened.";
    MEDIA_TYPE = "EV0109" Invalid 415 "the body of a request has an unsupported media type",
        "send application/cloudevents+json, application/cloudevents-batch+json, or the attributes as headers ce-…",
        "CloudEvents over HTTP come in three modes: structured (one event as JSON), batch (an array of them), and \
         binary (the attributes in headers `ce-…`, the data as the body, in any format). Events themselves are \
         accepted in JSON only, not in Avro, Protobuf or XML.";

    CONDITION = "EV0200" Conflict 409 "a condition of an append does not hold",
        "read again from the marker, decide again, and append with the new marker",
        "An event that matches the condition's criteria is at or after its marker: another client appended first. The \
         answer names the last such event, its position and type. Nothing of the append is stored.";
    REVISION = "EV0201" Conflict 409 "a stream is at another revision than expected",
        "read the stream again, decide again, and append with its new revision",
        "The stream is not at the revision that the append expects (`expect`). Nothing is stored.";
    PARTLY_STORED = "EV0202" Conflict 409 "some of an append's events are stored already, the others are not",
        "send the rest without them, or the same append as before; `evener import` does so by itself",
        "Event ids are unique for all time (P3). The same append sent again gets the same answer. Here only a part of \
         it exists, so it is another append. The answer lists the ids that are stored, with positions.";
    OTHER_CONTENT = "EV0203" Conflict 409 "an event with this id and other content is stored already",
        "give the event an id of its own; read the stored one at the position named",
        "Event ids are unique for all time (P3). An event is identified by its id together with its source, both \
         compared byte by byte: one id from two sources is two events, and so are two ids that differ in case.";
    CHECK_TOO_OLD = "EV0204" Overloaded 503 "an append waited longer than its conditions may",
        "send it again with the same ids",
        "Conditions are checked when an append arrives, and re-checked at its place in the log against a window \
         of the latest events. This append left the window before it was re-checked. Nothing of it is stored.";
    INVALID_APPEND = "EV0205" Invalid 400 "an append is invalid",
        "correct the event or condition that the message names; GET /openapi.json and `evener append --help` show \
         their form",
        "Each event of an append needs a type, a source, and an id of its own; an append has at least one event. \
         Nothing of it is stored.";
    MARKER_AHEAD = "EV0206" Invalid 400 "the marker of a condition is beyond the head of the log",
        "use the marker that a read of this cluster ended with",
        "A condition fails if an event that matches is at or after its marker. A marker beyond the head would let \
         every append pass, and no read can have ended there: it is of another cluster or context, or mistyped. The \
         node catches up with the leader before it refuses. Nothing of the append is stored.";

    UNKNOWN_PROCESSOR = "EV0300" Invalid 404 "there is no such processor",
        "`evener processor list` (GET /processors) lists the existing ones",
        "A processor is identified by the name it was created with, on all nodes; case matters. It may have been \
         deleted, or never created on this cluster: check that the server (`--server`) belongs to the right one.";
    EXISTS = "EV0301" Conflict 409 "it already exists and differs",
        "choose another name, or delete the old one first",
        "Creating the same thing in the same form again is no error. The sequencing policy, which decides which \
         segment an event belongs to, never changes silently.";
    UNKNOWN_SEGMENT = "EV0302" Invalid 404 "the processor has no such segment",
        "`evener processor show NAME` (GET /processors/NAME) lists its segments",
        "Segments are numbered from 0: a processor with 16 segments has 0 to 15.";
    INVALID_CHANGE = "EV0303" Invalid 400 "the change is invalid",
        "correct the value that the message names; GET /openapi.json and `evener processor create --help` show \
         the valid ones",
        "The request is well formed, but its values are not valid, for example a processor without \
         segments, or with more than the limit `segments_max`.";
    UNKNOWN_SEQUENCE = "EV0304" Invalid 404 "no such sequence is set aside",
        "`evener dead-letter list NAME` (GET /processors/NAME/dead-letters) lists those that are",
        "A sequence is set aside when one of its events failed. The sequencing policy decides its name: by \
         default the event's key, else its subject. Events without a name are one sequence, whose name \
         is empty: `--sequence ''`, or `\"sequence\":\"\"`. It may have been finished in the meantime.";
    FENCED = "EV0305" Conflict 409 "the claim has another owner by now",
        "read the current state; the new owner continues with the segment",
        "A token, a letter and a claim change only under the claim's current epoch (P4). The segment was taken over in \
         the meantime, which is no fault: `evener processor show NAME` shows its owner.";
    OUTDATED = "EV0306" Conflict 409 "the state has changed since the request was made",
        "read the current state, and repeat the request if it still applies",
        "Changes of ownership name the table they were made from and are refused if it has changed since.";
    LIMIT_REACHED = "EV0307" Refused 422 "a limit of the cluster is reached",
        "delete what is no longer needed; `evener cluster status -o json` (GET /status/cluster) shows the limits",
        "Limits are part of the replicated state. The message names the one that is reached.";
    UNKNOWN_OPERATION = "EV0308" Invalid 404 "no recorded operation has this id",
        "`evener operations` lists those that are recorded; older ones are dropped (`operations_max`)",
        "The latest operations of the cluster are recorded with their outcomes and reasons (`operations_max`, \
         1,024): `evener operations`, GET /operations. One that is not among them is older, or was never done: check \
         what it should have changed. An operation that is repeated with the same id is done at most once while it \
         is recorded.";
    OTHER_CHANGE = "EV0310" Conflict 409 "an operation with this id made another change",
        "give every change an id of its own, or none; see `evener explain EV0310`",
        "An operation is identified by its id, so that a change that is sent twice is made once. Here an id was used \
         again for a different change, and nothing was done; the message names the first change, and \
         `evener operations show ID` (GET /operations/{id}) shows its outcome.";

    NO_LEADER = "EV0400" Overloaded 503 "the cluster has no leader, or no majority, for now",
        "repeat it; if it lasts, see which nodes are down: `evener cluster status`",
        "Writing needs a majority of the voting nodes. While only a minority can reach each other, nothing is \
         written; reading with `consistency=local` still works. Nothing happened.";
    OUTCOME_UNKNOWN = "EV0401" Unknown 504 "it is not known whether this happened",
        "repeat it with the same ids: it is then done once",
        "The connection or the leader was lost after the request was sent. Event ids and operation ids make it safe to \
         repeat; every client of Evener does so automatically.";
    OVERLOADED = "EV0402" Overloaded 503 "the server is overloaded",
        "repeat it after the time that the answer gives",
        "Every queue has a bound. A request that does not fit is refused at once instead of being answered late. \
         Nothing happened.";
    UNKNOWN_NODE = "EV0403" Invalid 404 "no member of the cluster has this name",
        "`evener cluster status` (GET /status/cluster) lists the members",
        "Members are identified by the name they were started with (`--name`), not by their address or number. One \
         that has left for good is no longer a member.";
    REFUSED_BY_CLUSTER = "EV0404" Refused 422 "the cluster refuses this for now",
        "check the members with `evener cluster status`, restart those that are down, and repeat it",
        "The message names the reason. A change of members waits for the one before it, and never \
         leaves fewer voters than can decide.";
    NOT_READY = "EV0405" Overloaded 503 "the server is not ready",
        "wait for it: `evener wait ready`",
        "A node answers requests once it is a member, knows a leader and has caught up with it.";
    STOPPING = "EV0406" Overloaded 503 "the server is stopping",
        "use another node; with several servers (--server URL,URL) the command line tries the next automatically",
        "The node is shutting down: it finishes running handlers, hands over its segments, and then ends. Nothing \
         of the request happened.";
    FAILED_NODE = "EV0407" Refused 500 "the server has stopped working",
        "check its log; other nodes continue. Restart it once the cause is fixed",
        "A write or sync to its disk failed, or its log has an entry that it cannot apply. A node that cannot \
         trust its disk does nothing more (P8).";

    UNREADABLE = "EV0408" Refused 500 "events cannot be read from this server's disk",
        "use another node, and check this one's log: its stored data may be damaged",
        "A frame of the log does not match its checksum, is missing, or cannot be read from the disk. The node never \
         answers with damaged data instead (P8).";
    DISK_RESERVE = "EV0409" Overloaded 503 "too little space is free for more events",
        "free space on the disks that the message names, or enlarge them; appends then resume automatically",
        "Below `store.disk_reserve` a node accepts no appends, so that the rest is left for progress, claims and \
         operations. Appends stop on a node that is low, and on all nodes once less than a majority of the voters has \
         more than its reserve. Nothing of the append is stored; `evener status` shows the free space of a node.";

    UNKNOWN_SETTING = "EV0500" Invalid 400 "there is no such setting",
        "`evener config` lists all settings",
        "Settings come from flags, then EVENER_SECTION__KEY, then evener.toml, then defaults. Unknown ones are \
         errors, so that a misspelt one is not silently ignored.";
    BAD_SETTING = "EV0501" Invalid 400 "a setting has an invalid value",
        "give it a value of its kind: `evener config --reference` has each setting's kind, default and reason",
        "The message names the setting, its value, and the flag, variable or file it comes from; `evener config` \
         shows that for all settings. Durations have a unit (`500ms`, `5s`, `2m`), sizes may have one (`64KiB`, \
         `16MiB`), addresses are `host:port`.";
    SETTINGS_FILE = "EV0502" Invalid 400 "the settings file cannot be read",
        "correct the file, or name another one with --config",
        "The file is TOML: sections in brackets, `key = value` below, such as `[node]` and `name = \"n1\"`. `evener \
         config --reference` lists the possible settings. Without --config it is evener.toml in the current \
         directory, if there.";
    OPEN_ADDRESS = "EV0503" Refused 422 "listening beyond loopback is not protected",
        "listen on 127.0.0.1, or allow it with --insecure-listen inside a trusted network",
        "There is no TLS and no authentication yet: every client that reaches the address can read and write \
         everything. So any address but loopback must be allowed explicitly.";
    WILDCARD = "EV0504" Invalid 400 "a wildcard address cannot be used by other nodes",
        "set the addresses that others use: --advertise HOST:PORT and --peer-advertise HOST:PORT",
        "A node that listens on 0.0.0.0 or [::] needs to know which address other nodes and clients use.";
    PORT_IN_USE = "EV0505" Refused 422 "cannot listen on the address",
        "free the address, or choose another one with --listen or --peer-listen",
        "Usually another process already listens there, often an earlier node. A host name must resolve, and the \
         address must belong to this machine.";
    DATA_LOCKED = "EV0506" Refused 422 "another process uses this data directory",
        "stop the other process, or choose another directory with --data",
        "One data directory belongs to one process at a time, so that two never write the same log. Usually it is an \
         earlier node that still runs: `fuser -v DIR/*` shows which. Nothing is left locked after a crash.";
    OTHER_CLUSTER = "EV0507" Refused 422 "the data directory belongs to another cluster or node than named",
        "point --data, --join and --cluster at the same cluster",
        "Every cluster has an id, given when it was founded and written into every data directory, together with the \
         name of its node.";
    EMPTIED = "EV0508" Refused 422 "a member of this name has another data directory",
        "restore its directory; or join with another --name, and once that node is alive in `evener cluster status`, \
         remove the old one: `evener cluster leave NAME`",
        "A node whose directory was emptied or replaced has lost entries that it acknowledged, so it must not vote \
         under its old name. It joins as a new node, under a new name. Add the new node before you remove the lost \
         one: then the new vote replaces the lost one in one step. In the other order two of three members are left, \
         of which one votes until the new node has joined: meanwhile what that one alone has stored counts as stored.";
    CLUSTER_ANSWERS = "EV0509" Refused 422 "a cluster answers where a new one should be founded",
        "join it: leave out --bootstrap",
        "With both --bootstrap and --join the node first asks these addresses, so that two clusters are never founded \
         by mistake.";
    NOTHING_TO_START = "EV0510" Invalid 400 "the data directory is empty and no cluster is named",
        "found a cluster with --bootstrap, or join one with --join HOST:PORT",
        "A data directory that belongs to a cluster needs neither. An empty one needs one of them, so that a wrong \
         --data does not silently found a second cluster.";
    DAMAGED = "EV0511" Refused 422 "the stored data is damaged",
        "keep the directory for analysis; join with an empty one and another --name, then remove the damaged node \
         with `evener cluster leave NAME`",
        "Data that was acknowledged as stored no longer matches its checksum (P8). The node stops rather than \
         answer with wrong data; the others have the same events.";
    START = "EV0512" Refused 422 "the node could not start",
        "check that --data is writable, has free space, and is of this version; then start it again",
        "A resource that a node needs is not available; the message names it, with the operating system's reason. \
         Usually it is the data directory (owner, permissions, a full disk, a read-only mount), else a limit on \
         threads or open files (`ulimit -a`). It is safe to start again.";
    REMOVED = "EV0514" Refused 422 "the node was removed from its cluster",
        "to join again, start with an empty directory and --join HOST:PORT; the cluster has all data of the old one",
        "A member leaves for good (`evener cluster leave`), and its number is never used again. The directory of a \
         removed member cannot be used any more; the cluster keeps all acknowledged data, and the name is free.";

    USAGE = "EV0600" Invalid 400 "the command line is wrong",
        "see `evener help COMMAND`",
        "An argument, a flag or a value is missing, unknown, or conflicts with the others. No request was sent.";
    NO_SERVER = "EV0601" Overloaded 503 "no server answers",
        "name a running server with --server URL[,URL…] or EVENER_SERVER; `evener serve` starts one again with its \
         data directory, and `evener serve --bootstrap` founds a new cluster",
        "All servers named were tried, and the message has the reason for each: `Connection refused` means that the \
         machine is up but no process listens on that port; a timeout suggests a firewall or a wrong address. \
         A server that accepts connections but answers nothing, not even /livez, is stopped or overloaded. \
         Nothing happened.";
    NOT_EVENER = "EV0602" Invalid 502 "the answer is not from an Evener server",
        "check --server; the port is 4750 by default, and 4751 is for peers only",
        "The answer does not have the form of an Evener server's. Each node has two ports: one for HTTP clients \
         (`--listen`), and one for the other nodes (`--peer-listen`).";
    BAD_LINE = "EV0603" Invalid 400 "a line of the file is not an event",
        "correct the line and run the same import again: what is stored already is not stored twice",
        "A file to import has one CloudEvents 1.0 JSON object a line. `jq -c '.[]' FILE` makes such lines of a JSON \
         array, `jq -c . FILE` of objects that have several lines each. The lines before this one are stored.";
    FILE = "EV0604" Invalid 400 "a file cannot be read or written",
        "check that it exists, its name, and its permissions",
        "The message names the file and the operating system's reason. A command that writes a file \
         never replaces an existing one.";
    INTERRUPTED = "EV0605" Refused 422 "the command was interrupted",
        "run it again: what is stored already is not stored twice",
        "It ended before its work was done. What it did until then is kept, and the message lists it.";
    WAITED = "EV0606" Refused 422 "the condition was not met within the given time",
        "fix what the message names, or give more time with --timeout",
        "`evener wait` ends with status 8 at the timeout, and its message names what was still missing. What \
         waiting cannot resolve, such as a paused processor, is reported at once. `evener tail --timeout` \
         ends with it if no event arrived for that time.";
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
        "do not treat this as a failure: it was done; the message has the answer",
        "The server did the request and answered; then writing to standard output failed, as on a full disk. \
         The command ends with status 10. Repeating it with the same id (`--id`, `--operation`), or running the same \
         import again, does nothing twice.";
    NOT_CONFIRMED = "EV0610" Refused 422 "a destructive change was not confirmed",
        "add --yes to confirm in advance; --dry-run shows what would be discarded",
        "Dropping, skipping, deleting and removing cannot be undone. So the command shows what would be \
         lost and asks for confirmation at the terminal; in a script, --yes confirms in advance. Nothing \
         was changed. HTTP requests need no confirmation.";

    UNAUTHORIZED = "EV0700" Unauthorized 401 "the request is not authenticated",
        "nothing yet: this version has no authentication",
        "Reserved for authentication, which is not built yet; no request gets this code today. Until then make the \
         ports reachable only for authorized clients.";
    OTHER_ORIGIN = "EV0701" Unauthorized 403 "a page of another site may not use this server",
        "use the server's own page, or a client that is not a browser",
        "A browser sends the site of a page (`Origin`). There is no authentication yet, so a page \
         of another site, open on this machine, must not be able to read or write here.";

    OTHER_HOST = "EV0702" Unauthorized 403 "the request is addressed to a name that is not this node's",
        "use an address that the node listens on or advertises, or start it with the name in http.allowed_hosts \
         (--allowed-hosts)",
        "Another site can make its own name resolve to this machine (DNS rebinding), and a browser then treats its \
         page and this server as one site. So a node serves only requests whose `Host` is localhost, a loopback \
         address, the host of its listen or advertised address, or one named by the setting http.allowed_hosts (behind \
         a proxy or a service name, say).";
    EXEC_NOT_ALLOWED = "EV0703" Refused 403 "this node does not run handler programs",
        "start every node that is to run them with --allow-exec (processing.allow_exec)",
        "A processor with `exec` runs a command on each node that owns one of its segments. There is no \
         authentication yet, so every client could run any command: a node allows it only if \
         it was started with --allow-exec. A node without it does not process segments of such a processor: they \
         wait, show the reason, and move to a node that allows it.";

    NOT_YET = "EV0900" Refused 501 "this part is not built yet",
        "the README lists what is not built yet",
        "Its name and form are part of the contract, so that scripts can rely on them, but it does nothing yet.";
    BROKEN = "EV0901" Refused 500 "a promise is broken",
        "please report it with what the command printed and the folder that it kept",
        "The demo compares the acknowledgements of its load, the events read back from each node, and what \
         the handlers wrote into their own files. These do not agree.";
    HARNESS = "EV0902" Refused 500 "the demo or the benchmark could not be carried out",
        "check the nodes' logs in the directory that is named, and run it again on an idle machine",
        "Nodes are started as child processes on free ports of the loopback address, in a temporary directory \
         (`TMPDIR`). If that is full or slow, or the machine is busy, they may not be ready in time. The \
         message names what failed.";
    BUG = "EV0999" Refused 500 "a bug in Evener",
        "please report it with the message and the server's log",
        "Something happened that should be impossible. What was acknowledged before stays stored; check whether this \
         request was done.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].id < pair[1].id));
    }

    #[test]
    fn titles_hints_and_pages_follow_the_style() {
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
    fn a_code_is_found_by_shortened_ids() {
        for word in ["EV0304", "ev0304", "EV304", "ev304", "304", "0304", " EV0304 "] {
            assert_eq!(find(&full_id(word)), Some(&UNKNOWN_SEQUENCE), "{word}");
        }
        assert_eq!(find(&full_id("EV0000")), None);
        assert_eq!(full_id("evener"), "EVENER");
    }

    #[test]
    fn no_hint_or_page_only_refers_to_the_message() {
        for code in ALL {
            let only = ["the message", "as the message says", "see the message"];
            assert!(!only.iter().any(|start| code.hint.starts_with(start)), "{}: {}", code.id, code.hint);
            assert!(code.hint.len() >= 20, "{}: {} is too short", code.id, code.hint);
            assert!(code.page.len() >= 60, "{}: {} is too short", code.id, code.page);
        }
    }
}
