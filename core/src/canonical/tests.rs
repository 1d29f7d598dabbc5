use std::{collections::BTreeMap, fmt::Write, vec::Vec};

use super::{
    samples::{changes, outcomes},
    *,
};
use crate::id::Term;

fn bytes(value: &impl Canonical) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// Every number and every order of fields, for all time. Two builds that differ here have different state hashes; two
/// builds that differ in wording only do not.
#[test]
fn golden_bytes_of_every_outcome_and_change() {
    let mut found = String::new();
    let all = outcomes().iter().map(bytes).chain(changes().iter().map(bytes)).collect::<Vec<_>>();
    for bytes in &all {
        // Numbers are mostly zeros: it is shorter to show the other bytes and where they are.
        let shown = bytes.chunks(8).map(|chunk| {
            let hex = chunk.iter().rev().fold(String::new(), |hex, byte| hex + &std::format!("{byte:02x}"));
            std::format!("{:0>1}", hex.trim_start_matches('0'))
        });
        writeln!(found, "{}", shown.collect::<Vec<_>>().join(" ")).unwrap();
    }
    if found != include_str!("golden.txt") {
        panic!("the canonical bytes of an outcome or a change have changed; now they are:\n{found}");
    }
}

#[test]
fn values_that_differ_have_different_bytes() {
    let mut seen = BTreeMap::new();
    for outcome in outcomes() {
        assert_eq!(seen.insert(bytes(&outcome), outcome.clone()), None, "{outcome:?}");
    }
    let mut seen = BTreeMap::new();
    for change in changes() {
        assert_eq!(seen.insert(bytes(&change), change.clone()), None, "{change:?}");
    }
    let (sooner, later) = (Change::Lead(NodeId(1), Term(2)), Change::Lead(NodeId(1), Term(3)));
    assert_eq!(sooner.canonical_digest(), later.canonical_digest(), "the term is not part of the request");
}
