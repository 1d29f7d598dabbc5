//! A reset of a processor with hooks, as a program uses it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use super::Node;
use crate::{ResetAt, ResetRequest, codes, prelude::*};

#[derive(Debug, Event, Serialize, Deserialize)]
#[event(name = "order.paid.v1", key = order)]
struct Paid {
    order: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Why {
    why: String,
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Story {
    lines: Arc<Mutex<Vec<String>>>,
    /// How often the hook before a replay fails.
    failures: Arc<AtomicU32>,
}

impl Story {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

async fn count(
    paid: Paid,
    Replaying(replaying): Replaying,
    ReplayContext(why): ReplayContext<Why>,
    State(story): State<Story>,
) {
    let why = why.map(|why: Why| why.why);
    story.push(format!("count {} {replaying} {why:?}", paid.order));
}

async fn mail(paid: Paid, State(story): State<Story>) {
    story.push(format!("mail {}", paid.order));
}

async fn clear(reset: Reset, State(story): State<Story>) -> Result {
    if story.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        return Err(Error::retry("the database is down"));
    }
    story.push(format!("clear {} {:?}", reset.generation(), reset.context::<Why>()?));
    Ok(())
}

async fn finish(_: Reset, State(story): State<Story>) {
    story.push("finish".into());
}

async fn set_up() -> (Node, Story) {
    let story = Story::default();
    let processor = Processor::new("totals").on(count).on(mail).no_replay().segments(1);
    let processor = processor.before_replay(clear).after_replay(finish).with_state(story.clone());
    let node = Node::ephemeral().processor(processor).start().await.unwrap();
    node.append("a", [Paid { order: 1 }, Paid { order: 2 }]).await.unwrap();
    node.caught_up("totals").await.unwrap();
    assert_eq!(story.take(), ["count 1 false None", "mail 1", "count 2 false None", "mail 2"]);
    (node, story)
}

async fn ended(node: &Node) {
    loop {
        let status = node.processor("totals").status().await.unwrap();
        if status.replay.is_some_and(|replay| replay.phase == "ended") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_run_around_a_replay_and_some_handlers_are_left_out() {
    let (node, story) = set_up().await;
    let request = ResetRequest::to(ResetAt::Beginning).with_context(serde_json::json!({"why": "new column"}));
    node.processor("totals").because("test").reset(request).await.unwrap();
    ended(&node).await;
    node.append("a", [Paid { order: 3 }]).await.unwrap();
    node.caught_up("totals").await.unwrap();
    assert_eq!(
        story.take(),
        [
            r#"clear 1 Some(Why { why: "new column" })"#,
            r#"count 1 true Some("new column")"#,
            r#"count 2 true Some("new column")"#,
            "finish",
            "count 3 false None",
            "mail 3",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handled_until_the_hook_that_prepares_a_replay_succeeds() {
    let (node, story) = set_up().await;
    story.failures.store(3, SeqCst);
    node.processor("totals").reset(ResetRequest::to(ResetAt::Beginning)).await.unwrap();
    let status = loop {
        let status = node.processor("totals").status().await.unwrap();
        if status.state == "stalled" {
            break status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let reason = status.segments[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("the hook that prepares the replay failed") && reason.contains("the database is down"));
    assert_eq!(status.replay.map(|replay| replay.phase), Some("preparing".into()));
    assert_eq!(story.take(), [""; 0], "nothing was handled");
    ended(&node).await;
    assert_eq!(story.take(), ["clear 1 None", "count 1 true None", "count 2 true None", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_is_run_again() {
    async fn panics_once(_: Reset, State(story): State<Story>) {
        assert!(story.failures.swap(1, SeqCst) == 1, "planned");
    }
    let story = Story::default();
    let processor = Processor::new("totals").on(count).before_replay(panics_once).with_state(story.clone());
    let node = Node::ephemeral().processor(processor).start().await.unwrap();
    node.append("a", [Paid { order: 1 }]).await.unwrap();
    node.caught_up("totals").await.unwrap();
    node.processor("totals").reset(ResetRequest::to(ResetAt::Position(0))).await.unwrap();
    ended(&node).await;
    assert_eq!(story.take(), ["count 1 false None", "count 1 true None"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_a_reset_counts_events_and_changes_nothing() {
    let (node, story) = set_up().await;
    let what = crate::engine::What::Reset("totals".into(), ResetRequest::to(ResetAt::Position(1)));
    let change = crate::engine::Change { dry_run: true, ..crate::engine::Change::new(what) };
    let crate::engine::Reply::Operation(trial) = node.ask(crate::engine::Request::Change(change)).await.unwrap() else {
        panic!("a change is answered with an operation");
    };
    assert_eq!(trial.why.as_deref(), Some("it would handle 1 event again; nothing was changed"));
    assert!(node.processor("totals").status().await.unwrap().replay.is_none());
    let error = node.processor("totals").reset(ResetRequest::to(ResetAt::Position(3))).await.unwrap_err();
    assert!(error.message.contains("the head is 2"), "{error}");
    let error = node.processor("other").reset(ResetRequest::to(ResetAt::Head)).await.unwrap_err();
    assert!(error.is(&codes::UNKNOWN_PROCESSOR), "{error}");
    assert_eq!(story.take(), [""; 0]);
}

#[test]
fn no_replay_needs_a_handler_before_it() {
    let error = Processor::<Story>::new("p").no_replay().on(mail).with_state(Story::default()).into_parts().err();
    assert!(error.unwrap().to_string().contains("before its first handler"));
}
