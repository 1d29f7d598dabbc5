//! The rules for a single file: names and calls it may not use, with exceptions, and its maximum size.

use crate::source::{Kind, Named, Source};

/// A violation of a rule at a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub file: String,
    pub line: usize,
    pub why: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

/// The maximum length of a file: a longer one has more than one subject.
pub(crate) const FILE_LINES_MAX: usize = 600;
/// The maximum length of a function. Most have fewer than 30 lines.
pub(crate) const FUNCTION_LINES_MAX: usize = 100;
/// The maximum width, as in `rustfmt.toml`, which does not format strings and comments. Samples in tests may be wider.
pub(crate) const COLUMNS_MAX: usize = 120;

/// Names that may not be used in `within`, except in `except`.
pub(crate) struct Ban {
    /// The names, anywhere in a path: `time::sleep` is in `tokio::time::sleep`.
    pub names: &'static [&'static str],
    pub within: &'static [&'static str],
    /// Files, or folders with a `/` at the end.
    pub except: &'static [&'static str],
    pub kinds: &'static [Kind],
    pub why: &'static str,
}

const PRODUCT: &[Kind] = &[Kind::Product];
const SHIPPED: &[Kind] = &[Kind::Product, Kind::Fake];
const ALL: &[Kind] = &[Kind::Product, Kind::Fake, Kind::Test];
const EVERYWHERE: &[&str] = &["core/", "store/", "cluster/", "node/", "tests/"];
const CRATES: &[&str] = &["core/", "store/", "cluster/", "node/"];

/// The interfaces to the outside, which may use real clocks and threads. Searches use a thread only if they take longer
/// than any in a simulation.
const OUTER_INTERFACES: &[&str] = &[
    "store/src/disk/",
    "cluster/src/transport.rs",
    "cluster/src/searches.rs",
    "store/examples/",
    "cluster/examples/",
    "node/",
    "tests/",
];

pub(crate) const BANS: &[Ban] = &[
    Ban {
        names: &["std", "hashbrown", "HashMap", "HashSet"],
        within: &["core/"],
        except: &[],
        kinds: PRODUCT,
        why: "core is no_std and ordered, so that it uses no clock, file, thread or randomness",
    },
    Ban {
        names: &["bincode"],
        within: EVERYWHERE,
        except: &["store/src/codec.rs", "store/src/codec/"],
        kinds: ALL,
        why: "bincode is used in the store's codec only, where it always has a limit",
    },
    Ban {
        names: &["openraft", "openraft_rt", "openraft_rt_tokio"],
        within: EVERYWHERE,
        except: &["cluster/src/raft/"],
        kinds: ALL,
        why: "openraft is used in cluster/src/raft/ only, so that none of its types reaches disk or wire",
    },
    Ban {
        names: &["ractor"],
        within: EVERYWHERE,
        except: &["node/src/actors/"],
        kinds: ALL,
        why: "ractor is used in node/src/actors/ only: actors are thin wrappers of pure state machines",
    },
    Ban {
        names: &["crate::http", "crate::wire"],
        within: &["node/src/engine/"],
        except: &[],
        kinds: ALL,
        why: "the engine does not depend on how requests arrive, by HTTP or otherwise",
    },
    Ban {
        names: &["rand", "Uuid::new_v4", "Uuid::now_v7", "RandomState"],
        within: &["core/", "store/", "cluster/"],
        except: &[],
        kinds: SHIPPED,
        why: "random numbers come from node and are passed in as seeds, so that any run can be repeated",
    },
    Ban {
        names: &["SystemTime", "std::time::Instant", "std::time::*"],
        within: EVERYWHERE,
        except: OUTER_INTERFACES,
        kinds: ALL,
        why: "time comes from cluster::Clock and tokio's pausable clock",
    },
    Ban {
        names: &["std::thread", "thread::spawn", "spawn_blocking", "block_in_place"],
        within: EVERYWHERE,
        except: OUTER_INTERFACES,
        kinds: SHIPPED,
        why: "threads are started at the outer interfaces only, so that a simulation has exactly one",
    },
    Ban {
        names: &["HashMap", "HashSet"],
        within: &["cluster/"],
        except: &[],
        kinds: SHIPPED,
        why: "its order differs from run to run: with a BTreeMap the same seed gives the same trace",
    },
    Ban {
        names: &["std::fs", "tokio::fs", "std::net", "tokio::net"],
        within: &["core/", "store/", "cluster/"],
        except: &["store/src/disk/", "cluster/src/transport/", "cluster/src/transport.rs"],
        kinds: SHIPPED,
        why: "files are reached through store::Disk and sockets through cluster::Transport",
    },
    Ban {
        names: &["time::sleep", "thread::sleep", "std::thread::sleep"],
        within: EVERYWHERE,
        // That something does not happen can only be observed for some time.
        except: &[
            "tests/src/",
            "cluster/tests/nodes.rs",
            "cluster/tests/sim_cluster/",
            "node/src/handler/tests.rs",
            "tests/tests/accept/",
        ],
        kinds: &[Kind::Test],
        why: "a test waits for a condition, never for a time",
    },
];

/// Returns all violations in `source`.
pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for ban in BANS {
        violations.extend(banned(source, ban));
    }
    violations.extend(calls(source));
    violations.extend(sizes(source));
    violations.extend(comments(source));
    violations.sort_by_key(|b| b.line);
    violations.dedup();
    violations
}

fn banned(source: &Source, ban: &Ban) -> Vec<Violation> {
    let file = source.file.as_str();
    if !under(file, ban.within) || under(file, ban.except) {
        return Vec::new();
    }
    // With a paused clock a sleep takes no time: virtual time advances by it.
    if ban.names.contains(&"time::sleep") && source.text.contains("start_paused = true") {
        return Vec::new();
    }
    let hit =
        |named: &&Named| ban.kinds.contains(&named.kind) && ban.names.iter().any(|name| contains(&named.path, name));
    let violation = |named: &Named| Violation {
        file: file.into(),
        line: named.line,
        why: format!("names `{}`: {}", named.path.join("::"), ban.why),
    };
    source.names.iter().filter(hit).map(violation).collect()
}

fn calls(source: &Source) -> Vec<Violation> {
    let file = source.file.as_str();
    let violation = |named: &Named, why: &str| Violation { file: file.into(), line: named.line, why: why.into() };
    let shipped = |named: &&Named| SHIPPED.contains(&named.kind) && under(file, CRATES);
    let unwraps = source.calls.iter().filter(shipped).filter(|call| call.path == ["unwrap"]);
    let unfinished =
        source.macros.iter().filter(|named| matches!(named.path[0].as_str(), "todo" | "unimplemented" | "dbg"));
    let unwraps = unwraps.map(|call| violation(call, "calls `unwrap`: write `expect` and state the proof"));
    let unfinished =
        unfinished.map(|named| violation(named, &format!("`{}!` is not allowed in landed code", named.path[0])));
    unwraps.chain(unfinished).collect()
}

fn sizes(source: &Source) -> Vec<Violation> {
    let violation = |line, why| Violation { file: source.file.clone(), line, why };
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(violation(
            lines,
            format!("has {lines} lines, more than {FILE_LINES_MAX}: does it have one subject?"),
        ));
    }
    for function in source.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
        let (name, lines) = (&function.name, function.lines);
        let why =
            format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}: move parts into other functions");
        found.push(violation(function.line, why));
    }
    let shipped = source.text.lines().enumerate().filter(|_| source.kind != Kind::Test);
    for (n, line) in shipped {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            found.push(violation(n + 1, format!("has {columns} columns, more than {COLUMNS_MAX}")));
        }
    }
    found
}

fn comments(source: &Source) -> Vec<Violation> {
    let violation = |line, why: &str| Violation { file: source.file.clone(), line, why: why.into() };
    let mut found = Vec::new();
    // The name `…tests.rs` already says what the file is for.
    if !source.text.starts_with("//!") && !source.file.ends_with("tests.rs") {
        found.push(violation(1, "does not begin with its purpose (`//!`)"));
    }
    // In two parts, so that this file does not violate the rule.
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (n, line) in source.text.lines().enumerate() {
        if unfinished.iter().any(|word| line.contains(word)) {
            found.push(violation(n + 1, "unfinished work is not marked in the code"));
        }
    }
    found
}

/// Returns whether `name` is anywhere in `path`. A name of one part that is a crate must begin the path.
fn contains(path: &[String], name: &str) -> bool {
    let parts: Vec<&str> = name.split("::").collect();
    let crate_like = parts.len() == 1 && parts[0].chars().all(|c| c.is_lowercase() || c == '_' || c.is_numeric());
    let is_function = matches!(name, "spawn_blocking" | "block_in_place");
    if crate_like && !is_function {
        return path[0] == parts[0] && (path.len() > 1 || name == "std");
    }
    path.windows(parts.len()).any(|window| window.iter().zip(&parts).all(|(a, b)| a == b))
}

fn under(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { file.starts_with(place) } else { file == *place })
}
