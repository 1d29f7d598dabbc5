//! Groups rows with the same reason, so that each reason is shown once.

use super::output::count;

/// Groups segments by key, in order of first appearance.
pub(super) fn folded<K: PartialEq>(rows: impl IntoIterator<Item = (K, u32)>) -> Vec<(K, Vec<u32>)> {
    let mut groups: Vec<(K, Vec<u32>)> = Vec::new();
    for (key, segment) in rows {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, segments)) => segments.push(segment),
            None => groups.push((key, vec![segment])),
        }
    }
    groups
}

/// Formats segments: `segment 3`, `16 segments: 0-15`.
pub(super) fn segments(ids: &[u32]) -> String {
    match ids {
        [id] => format!("segment {id}"),
        _ => format!("{} segments: {}", count(ids.len() as u64), ranges(ids)),
    }
}

/// Formats ascending numbers as ranges: `0-3, 7`.
pub(super) fn ranges(ids: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*id) => *last = *id,
            _ => runs.push((*id, *id)),
        }
    }
    let run = |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_reasons_are_grouped() {
        let rows = (0..16).map(|id| (if id == 7 { "other" } else { "same" }, id));
        let told: Vec<String> = folded(rows).iter().map(|(key, ids)| format!("{}: {key}", segments(ids))).collect();
        assert_eq!(told, ["15 segments: 0-6, 8-15: same", "segment 7: other"]);
        assert_eq!(ranges(&[0, 2, 3, u32::MAX]), "0, 2-3, 4294967295");
    }
}
