//! One case always fails, another one three times: the others are not affected.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use evener_core::{backoff::Backoff, limits::Limits};
use evener_tests::{
    receipt,
    test_cluster::{Handled, PAUSE, TIMEOUT, TestCluster, balanced_over, handled_events, now_us, pause},
};
use parking_lot::Mutex;

use super::{EVENER, RECORD};

const ALWAYS: &str = "case-9289";

/// Returns the number of attempts, by the default schedule; `EVENER_ATTEMPTS=10` for all of it, which takes four
/// minutes.
fn attempts() -> u32 {
    std::env::var("EVENER_ATTEMPTS").ok().and_then(|attempts| attempts.parse().ok()).unwrap_or(5)
}

/// Returns the shortest and the longest wait after an attempt, by its jitter.
fn wait(attempt: u32) -> (Duration, Duration) {
    let backoff = Backoff::default();
    (backoff.wait(attempt, u16::MAX), backoff.wait(attempt, 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_failing_case_delays_only_itself() {
    let Some(path) = receipt::path() else { return };
    let lines = receipt::lines(&path);
    let of = |case: &str| lines.iter().filter(|(of, _)| of == case).count();
    let (thrice_at, (thrice, _)) =
        lines.iter().enumerate().find(|(_, (case, _))| case != ALWAYS && of(case) >= 3).expect("a case of some events");
    let cluster = TestCluster::three_nodes(EVENER, &[]).await;
    let folder = cluster.new_folder("seen");
    std::fs::write(folder.join("fail-always"), ALWAYS).unwrap();
    std::fs::write(folder.join("fail-thrice"), thrice_at.to_string()).unwrap();
    let exec = format!("exec {RECORD} {}", folder.display());
    let last = attempts().to_string();
    cluster.run_ok(&["processor", "create", "receipts", "--exec", &exec, "--retry-attempts", &last]).await;
    // No segment moves while attempts are counted.
    cluster.wait_for("receipts", "shared", |processor| balanced_over(processor, &cluster.running())).await;
    let timer_delays = TimerDelays::watch();
    let (due, ()) = tokio::join!(due_until_dead(&cluster), handle_all(&cluster, &path));

    // The second is handled after its retries; the first waits for an operator, with all its later events.
    cluster
        .wait_for("receipts", "done but for one", |processor| {
            (processor.set_aside.sequences, processor.set_aside.dead) == (1, 1)
        })
        .await;
    let letters = cluster.dead_letters("receipts").await;
    assert_eq!(letters[0].sequence, ALWAYS);
    assert!(letters[0].cause.contains("fails as configured"), "{}", letters[0].cause);
    assert_eq!(letters[0].letters.len(), of(ALWAYS), "its later events wait behind it");

    let all = handled_events(&folder);
    let done: Vec<&Handled> = all.iter().filter(|seen| seen.ok).collect();
    assert_eq!(done.len(), lines.len() - of(ALWAYS), "all other cases are done, each event once");
    let of_thrice: Vec<_> = done.iter().filter(|seen| seen.stream == *thrice).map(|seen| seen.position).collect();
    assert!(of_thrice.len() == of(thrice) && of_thrice.is_sorted(), "in order: {of_thrice:?}");
    let deliveries: Vec<_> = all.iter().filter(|seen| seen.position == thrice_at as u64).collect();
    assert_eq!(deliveries.iter().map(|seen| seen.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_lent_after_own_attempts(&cluster, &deliveries).await;

    let deliveries: Vec<_> = all.iter().filter(|seen| seen.stream == ALWAYS).collect();
    assert!(deliveries.iter().map(|seen| seen.attempt).eq(1..=attempts()), "{deliveries:?}");
    assert_lent_after_own_attempts(&cluster, &deliveries).await;
    assert_attempts_are_on_time(&deliveries, &due, &timer_delays);

    std::fs::write(folder.join("fail-always"), "").unwrap();
    cluster.run_ok(&["dead-letter", "retry", "receipts", "--sequence", ALWAYS]).await;
    cluster.wait_for("receipts", "done with what is retried", |processor| processor.set_aside.letters == 0).await;
    let repaired: Vec<_> = handled_events(&folder)
        .into_iter()
        .filter(|seen| seen.ok && seen.stream == ALWAYS)
        .map(|seen| seen.position)
        .collect();
    assert_eq!(repaired.len(), of(ALWAYS));
    assert!(repaired.is_sorted(), "finished in order: {repaired:?}");
}

async fn handle_all(cluster: &TestCluster, path: &Path) {
    cluster.run_ok(&["import", &path.display().to_string()]).await;
    cluster.wait_passed("receipts").await;
}

/// Returns when each retry of the case is due, in microseconds, by the number of attempts, until the case is dead.
async fn due_until_dead(cluster: &TestCluster) -> BTreeMap<u32, u64> {
    let until = tokio::time::Instant::now() + TIMEOUT + (1..attempts()).map(|attempt| wait(attempt).1).sum();
    let mut due = BTreeMap::new();
    loop {
        let letters = cluster.dead_letters("receipts").await;
        if let Some(letter) = letters.into_iter().find(|letter| letter.sequence == ALWAYS) {
            let Some(at) = letter.retry_at else { return due };
            let at: jiff::Timestamp = at.parse().unwrap();
            due.insert(letter.letters[0].attempts, u64::try_from(at.as_microsecond()).unwrap());
        }
        assert!(tokio::time::Instant::now() < until, "the case is not dead: {due:?}");
        pause().await;
    }
}

/// Checks that each recorded wait is that of the schedule, and that each attempt is made when its wait ends, within a
/// tenth plus the delay of timers on this machine.
fn assert_attempts_are_on_time(deliveries: &[&Handled], due: &BTreeMap<u32, u64>, timer_delays: &TimerDelays) {
    for pair in deliveries.windows(2) {
        let (attempt, at, again) = (pair[0].attempt, pair[0].at_us, pair[1].at_us);
        let due = *due.get(&attempt).unwrap_or_else(|| panic!("no wait was recorded after attempt {attempt}"));
        let (least, most) = wait(attempt);
        let recorded = Duration::from_micros(due.saturating_sub(at));
        let late = Duration::from_micros(again.saturating_sub(due));
        let (failing, waking) =
            (most / 10 + timer_delays.between(at, due), most / 10 + timer_delays.between(due, again));
        eprintln!("attempt {attempt}: waits {recorded:?}, {late:?} late of {waking:?}");
        assert!(least <= recorded && recorded <= most + failing, "{recorded:?} after attempt {attempt}, not {most:?}");
        // The log counts in milliseconds.
        assert!(again + 1_000 > due, "attempt {} is {} us early", attempt + 1, due - again);
        assert!(late <= waking, "attempt {} is {late:?} late", attempt + 1);
    }
}

/// Checks that the owner makes the first attempts, and that each later one is made by another node than the previous.
async fn assert_lent_after_own_attempts(cluster: &TestCluster, deliveries: &[&Handled]) {
    let processor = cluster.processor("receipts").await;
    let segment = processor.segments.iter().find(|segment| segment.id == deliveries[0].segment);
    let owner = cluster.process_id(segment.and_then(|segment| segment.owner.as_deref()).expect("it has an owner"));
    let (own, lent) = deliveries.split_at(Limits::DEFAULT.own_attempts as usize);
    assert!(own.iter().all(|seen| seen.node == owner), "attempts of {owner}: {own:#?}");
    assert!(lent.iter().all(|seen| seen.node != owner), "attempts of others than {owner}: {lent:#?}");
    assert!(lent.windows(2).all(|pair| pair[0].node != pair[1].node), "one after the other: {lent:#?}");
}

/// The delays of timers on this machine, which may be busy with other work.
struct TimerDelays(Arc<Mutex<Vec<(u64, Duration)>>>);

impl TimerDelays {
    /// The number of tasks that run one after the other for an attempt: timer, worker, handler, program.
    const TURNS: u32 = 4;

    fn watch() -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let late = samples.clone();
        tokio::spawn(async move {
            loop {
                let before = std::time::Instant::now();
                pause().await;
                late.lock().push((now_us(), before.elapsed().saturating_sub(PAUSE)));
            }
        });
        Self(samples)
    }

    /// Returns the maximum delay between two times, in microseconds, including the sleep that ended after it, times the
    /// number of tasks.
    fn between(&self, from: u64, to: u64) -> Duration {
        let samples = self.0.lock();
        let in_range = |(at, _): &&(u64, Duration)| (from..to + 500_000).contains(at);
        samples.iter().filter(in_range).map(|(_, late)| *late).max().unwrap_or_default() * Self::TURNS
    }
}

/// The first attempt blocks its segment for the answer timeout; further attempts block nothing.
#[tokio::test(flavor = "multi_thread")]
async fn p6_a_retry_that_hangs_its_program_delays_no_other_case_of_its_segment() {
    let mut cluster = TestCluster::new(EVENER);
    cluster.add_node("n1", &["--answer-wait", "15s"]).await;
    let folder = cluster.new_folder("seen");
    let (hung, done) = (folder.join("hung"), folder.join("done"));
    let exec = format!(
        "n=0; while read -r line; do n=$((n+1)); case \"$line\" in *poison*) echo x >> {}; sleep 1000;; esac; \
         echo x >> {}; echo \"{{\\\"delivery\\\":$n,\\\"ok\\\":true}}\"; done",
        hung.display(),
        done.display()
    );
    cluster.run_ok(&["processor", "create", "mail", "--exec", &exec, "--segments", "1"]).await;
    cluster.run_ok(&["append", "poison", "--type", "t.v1"]).await;
    let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    while lines(&hung) < 2 {
        pause().await;
    }
    for case in 0..10 {
        cluster.run_ok(&["append", &format!("case-{case}"), "--type", "t.v1"]).await;
    }
    while lines(&done) < 10 {
        pause().await;
    }
    let set_aside = &cluster.dead_letters("mail").await[0];
    assert_eq!((set_aside.letters[0].attempts, lines(&hung)), (1, 2), "the second attempt still runs");
}
