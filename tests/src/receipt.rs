//! A real event log, stored beside the repository and optional, and the checks on a run that handled it.

use std::{collections::BTreeMap, path::PathBuf};

/// Returns the path of the event log: beside the repository, or the value of `EVENER_RECEIPT`. If the file does not
/// exist, prints that the test is skipped and returns none.
#[must_use]
pub fn path() -> Option<PathBuf> {
    let beside = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/receipt.ndjson").into();
    let path = std::env::var_os("EVENER_RECEIPT").map_or_else(beside, PathBuf::from);
    if !path.exists() {
        eprintln!("skipped: there is no event log at {}; EVENER_RECEIPT can name another place", path.display());
        return None;
    }
    Some(path)
}

/// Returns the case and the activity of each line of the file, in order.
#[must_use]
pub fn lines(path: &std::path::Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).expect("the event log can be read");
    let parse = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("a line is an event");
        (event["subject"].as_str().unwrap_or("").to_owned(), event["type"].as_str().unwrap_or("").to_owned())
    };
    text.lines().map(parse).collect()
}

/// The numbers of events, cases and activities in the file.
pub const COUNTS: (usize, usize, usize) = (8_577, 1_434, 27);

/// The number of occurrences of some activities.
pub const ACTIVITIES: [(&str, usize); 6] = [
    ("Confirmation of receipt", 1_434),
    ("T06 Determine necessity of stop advice", 1_416),
    ("T02 Check confirmation of receipt", 1_368),
    ("T04 Determine confirmation of receipt", 1_307),
    ("T05 Print and send confirmation of receipt", 1_300),
    ("T10 Determine necessity to stop indication", 1_283),
];

/// Checks that the first handlings, `(position, case, activity)` in their order, match the file: each event once, dense
/// positions, the file's order within a case, and the known counts.
///
/// # Panics
///
/// A handling differs from the file.
pub fn check(handled: &[(u64, String, String)], lines: &[(String, String)]) {
    let mut by_position = BTreeMap::new();
    let mut cases = BTreeMap::<&str, Vec<u64>>::new();
    for (position, case, activity) in handled {
        if by_position.insert(*position, (case.as_str(), activity.as_str())).is_none() {
            cases.entry(case).or_default().push(*position);
        }
    }
    assert_eq!(by_position.len(), lines.len(), "every event is handled");
    for (nth, (case, activity)) in lines.iter().enumerate() {
        let found = by_position.get(&(nth as u64));
        assert_eq!(found, Some(&(case.as_str(), activity.as_str())), "line {nth} of the file is at position {nth}");
    }
    for (case, positions) in &cases {
        assert!(positions.is_sorted(), "the events of {case} were first handled in the order {positions:?}");
    }
    let activities: BTreeMap<&str, usize> = by_position.values().fold(BTreeMap::new(), |mut counts, (_, activity)| {
        *counts.entry(*activity).or_default() += 1;
        counts
    });
    assert_eq!((by_position.len(), cases.len(), activities.len()), COUNTS);
    for (activity, count) in ACTIVITIES {
        assert_eq!(activities.get(activity), Some(&count), "{activity}");
    }
    let busiest =
        cases.iter().max_by_key(|(_, positions)| positions.len()).map(|(case, positions)| (*case, positions.len()));
    assert_eq!(busiest, Some(("case-9289", 25)));
    let confirmed =
        cases.values().filter(|positions| by_position[&positions[0]].1 == "Confirmation of receipt").count();
    assert_eq!(confirmed, 1_434, "cases confirmed before anything else happened");
}
