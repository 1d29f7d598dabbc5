//! Real handler programs, correct and faulty ones.

use std::{fs, path::Path};

use evener_core::{
    event::{DataKind, Event},
    id::{Epoch, Position},
    time::Timestamp,
};

use super::*;
use crate::event::Stored;

fn delivery(segment: u32, data: &str) -> Delivery {
    let event = Event {
        source: "/test".into(),
        kind: "order.paid.v1".into(),
        data_kind: DataKind::Json,
        data: data.as_bytes().to_vec(),
        ..Event::default()
    };
    Delivery {
        processor: "mail \"1\"".into(),
        segment: SegmentId(segment),
        mask: 3,
        epoch: Epoch(8),
        lent: true,
        attempt: 2,
        is_set_aside: false,
        replaying: false,
        replay_context: None,
        guard: Default::default(),
        stored: Arc::new(Stored { position: Position(12), revision: None, recorded: Timestamp(0), event }),
    }
}

fn program(command: impl Into<String>) -> ExecRunner {
    ExecRunner::new("mail", command, "n1", Settings::default())
}

/// Returns the cause of a failed attempt of a program.
async fn fault(command: &str) -> String {
    match program(command).run(delivery(3, "1")).await {
        Verdict::Retry { cause, after: None } => cause,
        other => panic!("{command}: {other:?}"),
    }
}

/// Returns why a program could not try a delivery.
async fn unable_cause(command: &str) -> String {
    match program(command).run(delivery(3, "1")).await {
        Verdict::Unable { cause } => cause,
        other => panic!("{command}: {other:?}"),
    }
}

/// Returns a command that writes each line it reads, its start and its end to `FILE.SEGMENT`, and answers ok.
fn recorder(file: &Path) -> String {
    let file = file.display();
    format!(
        "echo start >> {file}.$EVENER_SEGMENT; n=0; \
         while read -r line; do n=$((n+1)); printf '%s\\n' \"$line\" >> {file}.$EVENER_SEGMENT; \
         echo \"{{\\\"delivery\\\":$n,\\\"ok\\\":true}}\"; done; echo end >> {file}.$EVENER_SEGMENT"
    )
}

fn lines(file: &Path, segment: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("{}.{segment}", file.display())).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn each_segment_has_a_program_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seen");
    let runner = program(recorder(&file));
    for (segment, data) in [(3, "1"), (4, "2"), (3, r#"{"a":"ü"}"#)] {
        assert_eq!(runner.run(delivery(segment, data)).await, Verdict::Handled);
    }
    runner.close(SegmentId(3)).await;
    let id = "00000000-0000-0000-0000-000000000000";
    let asked = |number: u32, data: &str| {
        format!(
            "{{\"delivery\":{number},\"processor\":\"mail \\\"1\\\"\",\"segment\":3,\"mask\":3,\"epoch\":8,\
             \"lent\":true,\"attempt\":2,\"replaying\":false,\
             \"event\":{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/test\",\
             \"type\":\"order.paid.v1\",\"position\":12,\"recorded\":\"1970-01-01T00:00:00.000Z\",\"data\":{data}}}}}"
        )
    };
    let expected = ["start".to_owned(), asked(1, "1"), asked(2, r#"{"a":"ü"}"#), "end".to_owned()];
    assert_eq!(lines(&file, 3), expected);
    assert_eq!(lines(&file, 4).len(), 2);
    assert_eq!(runner.run(delivery(3, "1")).await, Verdict::Handled);
    assert_eq!(lines(&file, 3)[4..], ["start".to_owned(), asked(1, "1")]);
}

#[tokio::test]
async fn an_idle_program_is_ended_and_the_next_event_starts_a_fresh_one() {
    let dir = tempfile::tempdir().unwrap();
    let (file, fifo) = (dir.path().join("seen"), dir.path().join("held"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let settings = Settings { idle_wait: Duration::from_millis(20), ..Settings::default() };
    let runner = ExecRunner::new("mail", format!("exec 3> {}; {}", fifo.display(), recorder(&file)), "n1", settings);
    for round in 1..=2 {
        // The reader sees the end once no process holds the writing end.
        let fifo = fifo.clone();
        let closed = tokio::task::spawn_blocking(move || fs::read(fifo).unwrap());
        assert_eq!(runner.run(delivery(3, "1")).await, Verdict::Handled);
        tokio::time::timeout(Duration::from_secs(60), closed).await.expect("it is ended").unwrap();
        assert_eq!(lines(&file, 3).iter().filter(|line| *line == "end").count(), round, "and in order");
    }
}

#[tokio::test]
async fn a_program_that_answers_with_an_error_keeps_running() {
    let answers = [
        r#"{"delivery":1,"error":"no such address","verdict":"set-aside"}"#,
        r#"{"delivery":2,"error":"not now"}"#,
        r#"{"delivery":3,"error":"old","verdict":"skip"}"#,
        r#"{"delivery":4,"ok":true}"#,
    ];
    let runner = program(format!("read x; echo '{}'", answers.join("'; read x; echo '")));
    let mut verdicts = Vec::new();
    for _ in answers {
        verdicts.push(runner.run(delivery(3, "1")).await);
    }
    let expected = [
        Verdict::SetAside { cause: "no such address".into() },
        Verdict::Retry { cause: "not now".into(), after: None },
        Verdict::Skip { cause: "old".into() },
        Verdict::Handled,
    ];
    assert_eq!(verdicts, expected);
}

#[tokio::test]
async fn p6_a_program_that_exits_before_it_reads_an_event_does_not_fail_that_event() {
    let said = unable_cause("evener-no-such-program --now").await;
    let start = "the program `evener-no-such-program --now` ended with exit status: 127 before it answered; \
                 it had not read the event; its last words: sh: ";
    assert!(said.starts_with(start), "{said}");
    let end = format!(
        "not found; it is started in {} of node n1: check that it runs there",
        std::env::current_dir().unwrap().display()
    );
    assert!(said.ends_with(&end), "{said}");
    assert!(unable_cause("/").await.contains("ended with exit status: 126 before it answered; it had not read"));
    assert!(unable_cause("echo no module named x >&2; exit 1").await.contains("its last words: no module named x;"));
    assert!(unable_cause("echo Could not open input file: x; exit 1").await.contains("printed \"Could not open"));
    assert!(unable_cause("exec true").await.contains("ended with exit status: 0 before it answered"));
    // Also if the event does not fit a pipe.
    let large = delivery(3, &format!("\"{}\"", "x".repeat(300_000)));
    assert!(matches!(program("exit 1").run(large.clone()).await, Verdict::Unable { .. }));
    assert!(matches!(program("head -c 9 >&2; exit 1").run(large).await, Verdict::Retry { .. }));
}

#[tokio::test]
async fn a_program_that_ends_between_two_events_fails_neither() {
    // It keeps running, so that its exit cannot be seen, and reads and answers nothing more.
    let once = r#"echo '{"delivery":1,"ok":true}'; exec <&- >&-; sleep 1000"#;
    // Also if it leaves a part of the first one in the pipe, like a program that does not read whole lines.
    for reads in ["read x", "head -c 9 >&2"] {
        let runner = program(format!("{reads}; {once}"));
        for _ in 0..2 {
            assert_eq!(runner.run(delivery(3, "1")).await, Verdict::Handled, "{reads}");
        }
    }
}

#[tokio::test]
async fn a_program_that_exits_is_reported_with_its_status() {
    let said = fault("read x; echo first >&2; echo out of paper >&2; echo >&2; printf abc; exit 3").await;
    let expected = "the program `read x; echo first >&2; echo out of paper >&2; echo >&2; printf abc; exit 3` \
                    ended with exit status: 3 before it answered and had printed \"abc\"; its last words: out of paper";
    assert_eq!(said, expected);
    assert!(fault("read x; kill -9 $$").await.contains("ended with signal: 9 (SIGKILL) before it answered"));
}

#[tokio::test]
async fn a_program_that_ends_is_noticed_although_its_child_holds_its_output() {
    // The answer is awaited for 30 seconds, and each of these would last for that.
    let begun = std::time::Instant::now();
    let said = unable_cause("sleep 1000 & exit 3").await;
    assert!(said.contains("ended with exit status: 3 before it answered; it had not read the event"), "{said}");
    let said = fault("read x; sleep 1000 & echo out of paper >&2; printf abc; exit 4").await;
    assert!(said.contains("ended with exit status: 4 before it answered and had printed \"abc\"; its last"), "{said}");
    // What it answered before it ended is its answer.
    let answers = r#"read x; sleep 1000 & echo '{"delivery":1,"ok":true}'; exit 5"#;
    assert_eq!(program(answers).run(delivery(3, "1")).await, Verdict::Handled);
    // Also if it stops reading in the middle of an event that does not fit a pipe.
    let large = delivery(3, &format!("\"{}\"", "x".repeat(300_000)));
    let Verdict::Retry { cause, .. } = program("exec 3<&0; sleep 1000 <&3 & head -c 9 >&2; exit 6").run(large).await
    else {
        panic!("it had read some of the event");
    };
    assert!(cause.contains("ended with exit status: 6 before it answered"), "{cause}");
    assert!(begun.elapsed() < Settings::default().answer_wait, "{:?}", begun.elapsed());
}

fn set_aside(segment: u32, data: &str) -> Delivery {
    Delivery { is_set_aside: true, ..delivery(segment, data) }
}

/// A program that hangs on events that contain `hang`, and answers all others.
const HANGS: &str = r#"n=0; while read -r line; do n=$((n+1)); case "$line" in *hang*) sleep 1000;; esac;
    echo "{\"delivery\":$n,\"ok\":true}"; done"#;

#[tokio::test]
async fn p6_an_attempt_that_hangs_blocks_neither_its_segment_nor_other_attempts() {
    let runner = program(HANGS);
    let mut hanging: Vec<_> = (0..Settings::default().try_programs_max - 1)
        .map(|nth| runner.run(set_aside(3 + u32::from(nth % 2 == 0), r#""hang""#)))
        .collect();
    for hangs in &mut hanging {
        assert!(futures::poll!(hangs).is_pending());
    }
    for _ in 0..3 {
        assert_eq!(runner.run(delivery(3, "1")).await, Verdict::Handled);
        assert_eq!(runner.run(set_aside(3, "2")).await, Verdict::Handled);
        assert_eq!(runner.run(set_aside(4, "2")).await, Verdict::Handled);
    }
    for hangs in &mut hanging {
        assert!(futures::poll!(hangs).is_pending());
    }
}

#[tokio::test]
async fn retry_programs_are_bounded_and_ended_when_idle() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seen");
    let settings = Settings { try_programs_max: 2, idle_wait: Duration::from_millis(20), ..Settings::default() };
    let runner = ExecRunner::new("mail", recorder(&file), "n1", settings);
    let all = futures::future::join_all((0..6).map(|segment| runner.run(set_aside(segment, "1"))));
    assert_eq!(all.await, vec![Verdict::Handled; 6]);
    let ended = || (0..6).all(|segment| lines(&file, segment).last().is_some_and(|line| line == "end"));
    while !ended() {
        tokio::task::yield_now().await;
    }
    // The bound holds for those that hang, too: the third waits.
    let runner = ExecRunner::new("mail", HANGS, "n1", Settings { try_programs_max: 2, ..Settings::default() });
    let mut hanging = [runner.run(set_aside(3, r#""hang""#)), runner.run(set_aside(3, r#""hang""#))];
    for hangs in &mut hanging {
        assert!(futures::poll!(hangs).is_pending());
    }
    let mut third = runner.run(set_aside(3, "1"));
    assert!(futures::poll!(&mut third).is_pending());
    assert_eq!(runner.0.started.load(Relaxed), 2);
    drop(hanging);
    assert_eq!(third.await, Verdict::Handled);
}

#[tokio::test]
async fn p10_programs_of_all_segments_are_bounded_and_idle_ones_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seen");
    let settings = Settings { idle_wait: Duration::from_secs(3_600), ..Settings::default() };
    let limit = ProgramLimit::new(2);
    let runner = ExecRunner::within(limit.clone(), "mail", recorder(&file), "n1", settings);
    // Each of them stays idle for an hour unless it makes room.
    for _ in 0..2 {
        let all = futures::future::join_all((0..3).map(|segment| runner.run(delivery(segment, "1"))));
        assert_eq!(all.await, vec![Verdict::Handled; 3]);
    }
    let running = (0..3).filter(|segment| lines(&file, *segment).last().is_some_and(|line| line != "end"));
    assert!(running.count() <= 2);
    assert_eq!(limit.yields_after(Duration::ZERO), None, "no start waits");
}

#[tokio::test]
async fn a_program_that_prints_an_invalid_answer_is_replaced() {
    let said = fault("read x; echo 'Hello there!'; cat").await;
    let start = "the program `read x; echo 'Hello there!'; cat` printed \"Hello there!\", which is not an answer: ";
    assert!(said.starts_with(start) && said.contains("expected {\"delivery\":1,\"ok\":true}"), "{said}");

    let said = fault("read x; head -c 100000 /dev/zero; sleep 1000").await;
    assert!(said.contains("printed a line of more than 65536 bytes (line_bytes_max): \"\\0\\0"), "{said}");

    // The next attempt finds a fresh one.
    let dir = tempfile::tempdir().unwrap();
    let once = dir.path().join("once");
    let rubbish = format!("mkdir {} && {{ read x; echo rubbish; }}", once.display());
    let runner = program(format!("{rubbish}; {}", recorder(&dir.path().join("seen"))));
    assert!(matches!(runner.run(delivery(3, "1")).await, Verdict::Retry { .. }));
    assert_eq!(runner.run(delivery(3, "1")).await, Verdict::Handled);
}

#[tokio::test]
async fn a_program_that_never_answers_is_killed_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("held");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    // The shell and its child hold the writing end; the reader sees the end once both have exited.
    let runner = program(format!("exec 3> {}; sleep 1000 & sleep 1000", fifo.display()));
    let (opened, is_open) = std::sync::mpsc::channel();
    let all_exited = std::thread::spawn(move || {
        let mut held = fs::File::open(fifo).unwrap();
        opened.send(()).unwrap();
        std::io::copy(&mut held, &mut std::io::sink()).unwrap()
    });
    let mut asked = runner.run(delivery(3, "1"));
    while is_open.try_recv().is_err() {
        assert!(futures::poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    // From here on the paused clock advances whenever all tasks are idle.
    tokio::time::pause();
    let Verdict::Unable { cause } = asked.await else { panic!("it never read") };
    assert!(cause.contains("did not answer within 30s (answer_wait)"), "{cause}");
    assert_eq!(all_exited.join().unwrap(), 0);
}

#[tokio::test]
async fn a_program_whose_delivery_was_cancelled_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seen");
    // The first start answers too late for the first question, and would answer the second with it.
    let slow = format!("mkdir {}/once && {{ read x; sleep 1000; }}", dir.path().display());
    let runner = program(format!("{slow}; {}", recorder(&file)));
    let mut cancelled = runner.run(delivery(3, "1"));
    while !dir.path().join("once").exists() {
        assert!(futures::poll!(&mut cancelled).is_pending());
        tokio::task::yield_now().await;
    }
    drop(cancelled);
    assert_eq!(runner.run(delivery(3, "2")).await, Verdict::Handled);
    let seen = lines(&file, 3);
    assert!(seen.len() == 2 && seen[1].contains("\"delivery\":1") && seen[1].contains("\"data\":2"), "{seen:?}");
}

/// Runs a program that answers once and does not exit by itself; `trap` sets its reaction to SIGTERM.
async fn stubborn(trap: &str, end_wait: Duration, term_wait: Duration) {
    let answer = r#"{"delivery":1,"ok":true}"#;
    // A signal that falls between fork and exec of a `sleep` is lost on it, and `sh` runs its trap after that one.
    let command = format!("{trap}; read x; echo '{answer}'; while true; do sleep 1; done");
    let runner = ExecRunner::new("mail", command, "n1", Settings { end_wait, term_wait, ..Settings::default() });
    assert_eq!(runner.run(delivery(3, "1")).await, Verdict::Handled);
    runner.close(SegmentId(3)).await;
}

#[tokio::test]
async fn a_program_that_does_not_exit_gets_a_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let signalled = dir.path().join("signalled");
    let trap = format!("trap 'echo TERM > {}; exit' TERM", signalled.display());
    stubborn(&trap, Duration::ZERO, Duration::from_secs(60)).await;
    assert_eq!(fs::read_to_string(signalled).unwrap(), "TERM\n");
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    stubborn("trap '' TERM", Duration::ZERO, Duration::ZERO).await;
}

#[tokio::test]
async fn a_node_that_allows_no_programs_starts_none_and_reports_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seen");
    let settings = Settings { allowed: false, ..Settings::default() };
    let runner = ExecRunner::new("mail", recorder(&file), "n1", settings);
    let Verdict::Unable { cause } = runner.run(delivery(3, "1")).await else { panic!("it ran") };
    assert!(cause.contains("without --allow-exec"), "{cause}");
    assert_eq!(lines(&file, 3), [""; 0]);
}
