//! One case always fails, another three times: the others do not notice.

use std::time::Duration;

use evener_tests::{
    receipt,
    town::{PATIENCE, Seen, Town, pause, seen},
};

use super::{EVENER, RECORD};

const ALWAYS: &str = "case-9289";

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_poisoned_case_delays_itself_only() {
    let Some(path) = receipt::path() else { return };
    let lines = receipt::lines(&path);
    let of = |case: &str| lines.iter().filter(|(of, _)| of == case).count();
    let (thrice_at, (thrice, _)) =
        lines.iter().enumerate().find(|(_, (case, _))| case != ALWAYS && of(case) >= 3).expect("a case of some events");
    let town = Town::of_three(EVENER, &[]).await;
    let folder = town.new_folder("seen");
    std::fs::write(folder.join("fail-always"), ALWAYS).unwrap();
    std::fs::write(folder.join("fail-thrice"), thrice_at.to_string()).unwrap();
    let exec = format!("exec {RECORD} {}", folder.display());
    let retry = ["--retry-first", "200ms", "--retry-max", "2s", "--retry-attempts", "5"];
    let create = ["processor", "create", "receipts", "--exec", &exec];
    town.tell(&[&create[..], &retry[..]].concat()).await;
    town.tell(&["import", &path.display().to_string()]).await;
    town.wait_passed("receipts").await;

    // The second is done after its retries, the first waits for a person with everything behind it.
    town.wait_for("receipts", "done but for one", |processor| {
        (processor.set_aside.sequences, processor.set_aside.dead) == (1, 1)
    })
    .await;
    let letters = town.dead_letters("receipts").await;
    assert_eq!(letters[0].sequence, ALWAYS);
    assert!(letters[0].cause.contains("is not to be had"), "{}", letters[0].cause);
    assert_eq!(letters[0].letters.len(), of(ALWAYS), "its later events wait behind it");

    let all = seen(&folder);
    let done: Vec<&Seen> = all.iter().filter(|seen| seen.ok).collect();
    assert_eq!(done.len(), lines.len() - of(ALWAYS), "all other cases are done, each event once");
    let of_thrice: Vec<_> = done.iter().filter(|seen| seen.stream == *thrice).map(|seen| seen.position).collect();
    assert!(of_thrice.len() == of(thrice) && of_thrice.is_sorted(), "in order: {of_thrice:?}");
    let tries: Vec<_> = all.iter().filter(|seen| seen.position == thrice_at as u64).map(|seen| seen.attempt).collect();
    assert_eq!(tries, [1, 2, 3, 4]);

    attempts_are_at_their_waits(&all);

    std::fs::write(folder.join("fail-always"), "").unwrap();
    town.tell(&["dead-letter", "retry", "receipts", "--sequence", ALWAYS]).await;
    let until = std::time::Instant::now() + PATIENCE;
    while town.processor("receipts").await.set_aside.letters > 0 {
        assert!(std::time::Instant::now() < until, "what is retried is done");
        pause().await;
    }
    let repaired: Vec<_> =
        seen(&folder).into_iter().filter(|seen| seen.ok && seen.stream == ALWAYS).map(|seen| seen.position).collect();
    assert_eq!(repaired.len(), of(ALWAYS));
    assert!(repaired.is_sorted(), "finished in order: {repaired:?}");
}

/// 200 ms, 400, 800, 1,600: within a tenth, and above it what a busy machine needs; from the fourth on by
/// another node.
fn attempts_are_at_their_waits(all: &[Seen]) {
    let tries: Vec<&Seen> = all.iter().filter(|seen| seen.stream == ALWAYS).collect();
    let attempts: Vec<u32> = tries.iter().map(|seen| seen.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    for (pair, wait_ms) in tries.windows(2).zip([200, 400, 800, 1_600]) {
        let waited = Duration::from_micros(pair[1].at_us - pair[0].at_us);
        let (least, most) = (Duration::from_millis(wait_ms * 9 / 10), Duration::from_millis(wait_ms * 11 / 10 + 300));
        assert!(least <= waited && waited <= most, "attempt {} after {waited:?}, wait {wait_ms} ms", pair[1].attempt);
    }
    for lent in &tries[3..] {
        assert_ne!(lent.node, tries[0].node, "attempt {} is another node's", lent.attempt);
    }
}
