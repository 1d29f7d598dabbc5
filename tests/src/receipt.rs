//! The real event log that lies beside the repository where it is there, and what a correct run must find in it.

use std::{collections::BTreeMap, path::PathBuf};

/// Where it lies: beside the repository, or where `EVENER_RECEIPT` says. None where it is absent, and then whoever
/// asks says so and skips.
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

/// Lines of the file: case and activity, in order.
#[must_use]
pub fn lines(path: &std::path::Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).expect("the event log can be read");
    let parse = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).expect("a line is an event");
        (event["subject"].as_str().unwrap_or("").to_owned(), event["type"].as_str().unwrap_or("").to_owned())
    };
    text.lines().map(parse).collect()
}

/// What was counted from the file: events, cases, activities.
pub const COUNTS: (usize, usize, usize) = (8_577, 1_434, 27);

/// How often each of some activities occurs.
pub const ACTIVITIES: [(&str, usize); 6] = [
    ("Confirmation of receipt", 1_434),
    ("T06 Determine necessity of stop advice", 1_416),
    ("T02 Check confirmation of receipt", 1_368),
    ("T04 Determine confirmation of receipt", 1_307),
    ("T05 Print and send confirmation of receipt", 1_300),
    ("T10 Determine necessity to stop indication", 1_283),
];

/// Whether `(position, case, activity)` of the first handlings, in their order, are what is in the file: each event
/// once, positions dense, within a case in the file's order, and the known counts.
///
/// # Panics
///
/// With what differs.
pub fn check(handled: &[(u64, String, String)], lines: &[(String, String)]) {
    let mut by_place = BTreeMap::new();
    let mut cases = BTreeMap::<&str, Vec<u64>>::new();
    for (position, case, activity) in handled {
        if by_place.insert(*position, (case.as_str(), activity.as_str())).is_none() {
            cases.entry(case).or_default().push(*position);
        }
    }
    assert_eq!(by_place.len(), lines.len(), "every event is handled");
    for (nth, (case, activity)) in lines.iter().enumerate() {
        let found = by_place.get(&(nth as u64));
        assert_eq!(found, Some(&(case.as_str(), activity.as_str())), "line {nth} of the file stands at its place");
    }
    for (case, places) in &cases {
        assert!(places.is_sorted(), "the events of {case} were first handled in the order {places:?}");
    }
    let activities: BTreeMap<&str, usize> = by_place.values().fold(BTreeMap::new(), |mut counts, (_, activity)| {
        *counts.entry(*activity).or_default() += 1;
        counts
    });
    assert_eq!((by_place.len(), cases.len(), activities.len()), COUNTS);
    for (activity, count) in ACTIVITIES {
        assert_eq!(activities.get(activity), Some(&count), "{activity}");
    }
    let busiest = cases.iter().max_by_key(|(_, places)| places.len()).map(|(case, places)| (*case, places.len()));
    assert_eq!(busiest, Some(("case-9289", 25)));
    let confirmed = cases.values().filter(|places| by_place[&places[0]].1 == "Confirmation of receipt").count();
    assert_eq!(confirmed, 1_434, "cases confirmed before anything else happened");
}
