//! What a file may not name, call or grow to, and where it may after all.

use crate::source::{Kind, Named, Source};

/// One rule broken at one place.
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

/// A longer file holds more than one noun.
pub(crate) const FILE_LINES_MAX: usize = 600;
/// A longer function holds more than one thought. Most have fewer than 30 lines.
pub(crate) const FUNCTION_LINES_MAX: usize = 100;
/// As in `rustfmt.toml`, which leaves strings and comments alone. In tests a sample may be wider.
pub(crate) const COLUMNS_MAX: usize = 120;

/// What may not be named in `within`, but in `except`.
pub(crate) struct Ban {
    /// Any of these, anywhere in a path: `time::sleep` is in `tokio::time::sleep`.
    pub names: &'static [&'static str],
    pub within: &'static [&'static str],
    /// The mouths: files, or folders with a `/` at the end.
    pub except: &'static [&'static str],
    pub kinds: &'static [Kind],
    pub why: &'static str,
}

const PRODUCT: &[Kind] = &[Kind::Product];
const SHIPPED: &[Kind] = &[Kind::Product, Kind::Fake];
const ALL: &[Kind] = &[Kind::Product, Kind::Fake, Kind::Test];
const EVERYWHERE: &[&str] = &["core/", "store/", "cluster/", "node/", "tests/"];
const CRATES: &[&str] = &["core/", "store/", "cluster/", "node/"];

/// The mouths of the world, where a real clock or thread may stand. Searches have a thread only if they take longer
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
        why: "core is no_std and ordered, so that no clock, file, thread or dice can creep in",
    },
    Ban {
        names: &["bincode"],
        within: EVERYWHERE,
        except: &["store/src/codec.rs", "store/src/codec/"],
        kinds: ALL,
        why: "bincode is named in the store's codec only, where it always has a limit",
    },
    Ban {
        names: &["openraft", "openraft_rt", "openraft_rt_tokio"],
        within: EVERYWHERE,
        except: &["cluster/src/raft/"],
        kinds: ALL,
        why: "openraft is named in cluster/src/raft/ only, so that none of its types reaches disk or wire",
    },
    Ban {
        names: &["ractor"],
        within: EVERYWHERE,
        except: &["node/src/actors/"],
        kinds: ALL,
        why: "ractor is named in node/src/actors/ only: actors are thin coats over pure machines",
    },
    Ban {
        names: &["crate::http", "crate::wire"],
        within: &["node/src/engine/"],
        except: &[],
        kinds: ALL,
        why: "the engine answers whoever asks, so it does not know how requests come over HTTP",
    },
    Ban {
        names: &["rand", "Uuid::new_v4", "Uuid::now_v7", "RandomState"],
        within: &["core/", "store/", "cluster/"],
        except: &[],
        kinds: SHIPPED,
        why: "dice are thrown in node and passed in as seeds, so that any run can happen again",
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
        why: "threads are started at the mouths only, so that a simulation has exactly one",
    },
    Ban {
        names: &["HashMap", "HashSet"],
        within: &["cluster/"],
        except: &[],
        kinds: SHIPPED,
        why: "its order differs from run to run: a BTreeMap keeps the same seed at the same trace",
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
        // What must stay silent for a while can only be watched for that while.
        except: &[
            "tests/src/",
            "cluster/tests/nodes.rs",
            "cluster/tests/sim_cluster/",
            "node/src/handler/tests.rs",
            "tests/tests/accept/",
        ],
        kinds: &[Kind::Test],
        why: "a test waits for a thing, never for a time",
    },
];

/// Everything that is wrong with `source` by itself.
pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let mut broken = Vec::new();
    for ban in BANS {
        broken.extend(banned(source, ban));
    }
    broken.extend(calls(source));
    broken.extend(sizes(source));
    broken.extend(words(source));
    broken.sort_by_key(|b| b.line);
    broken.dedup();
    broken
}

fn banned(source: &Source, ban: &Ban) -> Vec<Violation> {
    let file = source.file.as_str();
    if !under(file, ban.within) || under(file, ban.except) {
        return Vec::new();
    }
    // Where the clock is paused a sleep takes no time: it is how virtual time passes.
    if ban.names.contains(&"time::sleep") && source.text.contains("start_paused = true") {
        return Vec::new();
    }
    let hit = |named: &&Named| ban.kinds.contains(&named.kind) && ban.names.iter().any(|name| holds(&named.path, name));
    let violation = |named: &Named| Violation {
        file: file.into(),
        line: named.line,
        why: format!("names `{}`: {}", named.path.join("::"), ban.why),
    };
    source.names.iter().filter(hit).map(violation).collect()
}

fn calls(source: &Source) -> Vec<Violation> {
    let file = source.file.as_str();
    let broken = |named: &Named, why: &str| Violation { file: file.into(), line: named.line, why: why.into() };
    let shipped = |named: &&Named| SHIPPED.contains(&named.kind) && under(file, CRATES);
    let unwraps = source.calls.iter().filter(shipped).filter(|call| call.path == ["unwrap"]);
    let unbuilt =
        source.macros.iter().filter(|named| matches!(named.path[0].as_str(), "todo" | "unimplemented" | "dbg"));
    let unwraps = unwraps.map(|call| broken(call, "calls `unwrap`: write `expect` and state the proof"));
    let unbuilt = unbuilt.map(|named| broken(named, &format!("`{}!` is not for what is landed", named.path[0])));
    unwraps.chain(unbuilt).collect()
}

fn sizes(source: &Source) -> Vec<Violation> {
    let broken = |line, why| Violation { file: source.file.clone(), line, why };
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(broken(lines, format!("has {lines} lines, more than {FILE_LINES_MAX}: does it hold one noun?")));
    }
    for function in source.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
        let (name, lines) = (&function.name, function.lines);
        let why = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}: move its straight lines out");
        found.push(broken(function.line, why));
    }
    let shipped = source.text.lines().enumerate().filter(|_| source.kind != Kind::Test);
    for (n, line) in shipped {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            found.push(broken(n + 1, format!("has {columns} columns, more than {COLUMNS_MAX}")));
        }
    }
    found
}

fn words(source: &Source) -> Vec<Violation> {
    let broken = |line, why: &str| Violation { file: source.file.clone(), line, why: why.into() };
    let mut found = Vec::new();
    // The name `…tests.rs` beside what it tests says it already.
    if !source.text.starts_with("//!") && !source.file.ends_with("tests.rs") {
        found.push(broken(1, "does not begin by saying what it is for (`//!`)"));
    }
    // In two parts, so that this file may be checked too.
    let unfinished = [concat!("TO", "DO"), concat!("FIX", "ME")];
    for (n, line) in source.text.lines().enumerate() {
        if unfinished.iter().any(|word| line.contains(word)) {
            found.push(broken(n + 1, "what is left to do stands in an issue, not in the code"));
        }
    }
    found
}

/// Whether `name` stands anywhere in `path`. A name of one part must begin the path if it is a crate's.
fn holds(path: &[String], name: &str) -> bool {
    let parts: Vec<&str> = name.split("::").collect();
    let crate_like = parts.len() == 1 && parts[0].chars().all(|c| c.is_lowercase() || c == '_' || c.is_numeric());
    let callee = matches!(name, "spawn_blocking" | "block_in_place");
    if crate_like && !callee {
        return path[0] == parts[0] && (path.len() > 1 || name == "std");
    }
    path.windows(parts.len()).any(|window| window.iter().zip(&parts).all(|(a, b)| a == b))
}

fn under(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| if place.ends_with('/') { file.starts_with(place) } else { file == *place })
}
