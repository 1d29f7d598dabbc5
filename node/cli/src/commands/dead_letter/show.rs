//! `evener dead-letter show`: a sequence that is set aside, with its events and the cause of the failure.

use evener_core::id::{ContextId, Position};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{listed, take_up};
use crate::commands::{
    Format, Server, block_on,
    output::{due, maybe, some, table, wrapped},
};
use evener::{
    client::{Client, Line},
    codes, context,
    engine::{Consistency, DeadLetter, Letter, Read, Reply, Request},
    error::ApiError,
};

/// The most events after the failing one in a table. `-o json` has all, which may be a thousand.
const BEHIND_SHOWN_MAX: usize = 20;
/// The number of concurrent reads.
const AT_A_TIME: usize = 16;

/// Shows a sequence and its events.
pub(super) fn show(name: &str, sequence: &str, server: &Server) -> Result<(), ApiError> {
    let client = server.client()?;
    let most = if server.format() == Format::Table { BEHIND_SHOWN_MAX + 1 } else { usize::MAX };
    let found = block_on(async {
        let aside = find(listed(&client, name).await?, name, sequence)?;
        let context = context(&client, name).await?;
        let letters = aside.letters.iter().take(most);
        // An event that cannot be read is left out; the others are shown.
        let events = stream::iter(letters).map(|letter| event(&client, context, letter)).buffered(AT_A_TIME);
        let events: Vec<Option<String>> = events.try_collect().await?;
        Ok((aside, events))
    });
    let (aside, events) = found.map_err(|error: ApiError| error.doing("failed to show what is set aside"))?;
    server.format().show(&whole(&aside, &events), || text(name, &aside, &events))
}

fn find(all: Vec<DeadLetter>, name: &str, sequence: &str) -> Result<DeadLetter, ApiError> {
    all.into_iter().find(|aside| aside.sequence == sequence).ok_or_else(|| {
        let message = format!("no sequence '{sequence}' of {name} is set aside");
        let hint = format!("`evener dead-letter list {name}` lists them; --sequence '' selects the one without a name");
        ApiError::new(&codes::UNKNOWN_SEQUENCE, message).hint(hint)
    })
}

/// Returns the context of the processor.
async fn context(client: &Client, name: &str) -> Result<ContextId, ApiError> {
    let Reply::Processor(processor) = client.ask(&Request::Processor(name.to_owned())).await? else {
        unreachable!("a processor is answered with a processor");
    };
    processor.definition.get("context").and_then(Value::as_str).map_or(Ok(ContextId::DEFAULT), context::named)
}

/// Reads the event of a letter, as JSON.
async fn event(client: &Client, context: ContextId, letter: &Letter) -> Result<Option<String>, ApiError> {
    let (from, to) = (Position(letter.position), Some(Position(letter.position + 1)));
    // A failed event has been applied, so a local read is sufficient.
    let consistency = Consistency::Local;
    let mut reading = client.read(Read { context, from, to, consistency, ..Read::default() });
    match reading.next().await? {
        Some(Line::Event(_, json)) => Ok(Some(json)),
        Some(Line::Progress { .. }) | None => Ok(None),
    }
}

/// Returns the sequence as JSON, each letter with its event.
fn whole(aside: &DeadLetter, events: &[Option<String>]) -> Value {
    let mut all = serde_json::to_value(aside).expect("a sequence set aside is plain values");
    let letters = all["letters"].as_array_mut().into_iter().flatten();
    for (letter, event) in letters.zip(events) {
        letter["event"] = event.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    }
    all
}

#[derive(Deserialize)]
struct Shown<'a> {
    id: String,
    source: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

impl Shown<'_> {
    fn of(json: &Option<String>) -> Option<Shown<'_>> {
        serde_json::from_str(json.as_deref()?).ok()
    }

    fn data(&self) -> String {
        match (self.data, &self.data_base64) {
            (Some(json), _) => json.get().to_owned(),
            (None, Some(base64)) => format!("base64 {base64}"),
            (None, None) => "none".to_owned(),
        }
    }
}

/// Formats the sequence and its events.
pub(super) fn text(name: &str, aside: &DeadLetter, events: &[Option<String>]) -> String {
    let called = aside.unnamed.clone().unwrap_or_else(|| format!("'{}'", aside.sequence));
    let (first, waits) = (
        &aside.letters[0],
        match aside.state.as_str() {
            "dead" => "dead: it waits for an operator".to_owned(),
            state => format!("{state}, retry {}", maybe(aside.retry_at.as_deref().map(due))),
        },
    );
    let lent = aside.lent_to.as_ref().map(|node| format!(", now by {node}")).unwrap_or_default();
    let mut text = format!("sequence {called} of {name}/{}: {waits}{lent}\n", maybe(aside.segment));
    text += &format!("cause: {}\n\n", aside.cause.trim_end());
    text += &format!("position {}: {}, tried {}", first.position, first.kind, some(first.attempts.into(), "time"));
    match events.first().and_then(Shown::of) {
        Some(event) => text += &format!("\nid {}, source {}\ndata: {}\n", event.id, event.source, event.data()),
        None => text += "; the server cannot read the event\n",
    }
    text = wrapped(&text);
    if aside.letters.len() > 1 {
        text += &behind(&aside.letters[1..], &events[1..]);
    }
    text + &wrapped(&format!("\n{}\n", take_up(name)))
}

/// Formats the events that wait behind the failing one.
fn behind(letters: &[Letter], events: &[Option<String>]) -> String {
    let rows = letters.iter().zip(events).map(|(letter, event)| {
        let (id, data) = Shown::of(event).map_or_else(Default::default, |event| (event.id.clone(), event.data()));
        [letter.position.to_string(), letter.kind.clone(), id, data]
    });
    let all = some(letters.len() as u64, "event");
    let more = match letters.len() - events.len() {
        0 => String::new(),
        _ => ", the first of them here; -o json has all".to_owned(),
    };
    format!("\nbehind it: {all}{more}\n{}", table(["position", "type", "id", "data"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside(positions: std::ops::Range<u64>) -> DeadLetter {
        let letter = |position| Letter { position, kind: "order.placed.v1".into(), attempts: u32::from(position == 3) };
        DeadLetter {
            sequence: String::new(),
            unnamed: Some("(no subject)".into()),
            state: "dead".into(),
            letters: positions.map(letter).collect(),
            cause: "Traceback:\n  File handler.py, line 12\nKeyError: 'total'".into(),
            retry_at: None,
            lent_to: None,
            segment: Some(5),
        }
    }

    fn event(position: u64) -> Option<String> {
        Some(format!(
            r#"{{"id":"e{position}","source":"/shop","data":{{"b":1, "a":{position}}},"position":{position}}}"#
        ))
    }

    #[test]
    fn a_failing_sequence_is_shown_with_its_events_and_its_cause() {
        let events: Vec<_> = (3..6).map(event).collect();
        let shown = text("totals", &aside(3..6), &events);
        for part in [
            "sequence (no subject) of totals/5: dead: it waits for an operator",
            "cause: Traceback:\n  File handler.py, line 12\nKeyError: 'total'\n",
            "position 3: order.placed.v1, tried 1 time\nid e3, source /shop\ndata: {\"b\":1, \"a\":3}\n",
            "behind it: 2 events\n",
            "5         order.placed.v1  e5  {\"b\":1, \"a\":5}\n",
        ] {
            assert!(shown.contains(part), "{part} is missing in:\n{shown}");
        }
        let json = whole(&aside(3..6), &events);
        assert_eq!((&json["sequence"], &json["letters"][2]["event"]["data"]["a"]), (&"".into(), &5.into()));
    }

    #[test]
    fn an_unreadable_event_hides_nothing_else() {
        let shown = text("totals", &aside(3..4), &[None]);
        assert!(
            shown.contains("cannot read the event") && shown.contains("KeyError") && !shown.contains("behind"),
            "{shown}"
        );
        let more = text("totals", &aside(3..90), &[event(3), event(4)]);
        assert!(more.contains("behind it: 86 events, the first of them here; -o json has all"), "{more}");
    }

    #[test]
    fn an_unknown_sequence_gets_a_hint_for_the_one_without_a_name() {
        let error = find(vec![aside(3..4)], "totals", "(no subject)").unwrap_err();
        assert!(error.is(&codes::UNKNOWN_SEQUENCE) && error.hint.contains("--sequence ''"), "{error:?}");
        assert!(find(vec![aside(3..4)], "totals", "").is_ok());
    }
}
