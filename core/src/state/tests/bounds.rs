//! P10: everything that may be sent has a limit, and the refusal names it.

use std::string::ToString;

use super::*;
use crate::{
    append::{Checked, Condition, Expect, Expected, Refusal, Request, check},
    command::{LetterChange, RefusalReason, Selection},
    criteria::Criterion,
    event::Event,
    id::{ComponentId, Position, SegmentId},
    limits::LimitName,
    naive::NaiveHistory,
    reason::Invalid,
    replay::ResetTo,
};

const LIMITS: Limits = Limits {
    event_bytes_max: 400,
    append_events_max: 2,
    append_bytes_max: 600,
    tag_bytes_max: 10,
    event_tags_max: 2,
    extension_bytes_max: 40,
    event_extensions_max: 2,
    name_bytes_max: 20,
    conditions_max: 2,
    criteria_types_max: 3,
    members_max: 1,
    processors_max: 2,
    definition_bytes_max: 60,
    exec_bytes_max: 30,
    reason_bytes_max: 30,
    ..Limits::DEFAULT
};

fn long(bytes: u32) -> String {
    "x".repeat(bytes as usize + 1)
}

fn event(id: u128) -> Event {
    Event { id: Uuid::from_u128(id), kind: "k".into(), source: "s".into(), ..Event::default() }
}

fn append(event: Event) -> Request {
    Request { events: vec![event], ..Request::default() }
}

fn condition(items: Vec<Criterion>) -> Request {
    let condition = Condition { criteria: Criteria(items), ..Condition::default() };
    Request { conditions: vec![condition], ..append(event(1)) }
}

#[test]
fn p10_every_limit_of_an_append_is_refused_by_its_name() {
    let name = || long(LIMITS.name_bytes_max);
    let extension = |name: String, value: String| Event { extensions: vec![(name, value)], ..event(1) };
    let types = |types: Vec<String>| condition(vec![Criterion { types, tags: vec![] }]);
    let tags = |tags: Vec<String>| condition(vec![Criterion { types: vec![], tags }]);
    let expect = |stream: String| Expect { stream, at: Expected::Any };
    let cases = [
        ("event_bytes_max", append(Event { data: vec![0; 400], ..event(1) })),
        ("append_events_max", Request { events: (1..4).map(event).collect(), ..Request::default() }),
        (
            "append_bytes_max",
            Request {
                events: (1..3).map(|id| Event { data: vec![0; 300], ..event(id) }).collect(),
                ..Request::default()
            },
        ),
        ("tag_bytes_max", append(Event { tags: vec![long(LIMITS.tag_bytes_max)], ..event(1) })),
        ("event_tags_max", append(Event { tags: names(3), ..event(1) })),
        (
            "event_extensions_max",
            append(Event { extensions: names(3).into_iter().map(|name| (name, "1".into())).collect(), ..event(1) }),
        ),
        ("extension_bytes_max", append(extension("e".into(), long(LIMITS.extension_bytes_max)))),
        ("name_bytes_max", append(extension(name(), "1".into()))),
        ("name_bytes_max", append(Event { given_id: Some(name()), ..event(1) })),
        ("name_bytes_max", append(Event { source: name(), ..event(1) })),
        ("name_bytes_max", append(Event { kind: name(), ..event(1) })),
        ("name_bytes_max", append(Event { stream: Some(name()), ..event(1) })),
        ("name_bytes_max", append(Event { key: Some(name()), ..event(1) })),
        ("name_bytes_max", append(Event { time: Some(name()), ..event(1) })),
        ("name_bytes_max", append(Event { content_type: Some(name()), ..event(1) })),
        ("name_bytes_max", append(Event { schema: Some(name()), ..event(1) })),
        ("conditions_max", Request { conditions: vec![Condition::default(); 3], ..append(event(1)) }),
        ("conditions_max", Request { expect: vec![expect("s".into()); 3], ..append(event(1)) }),
        ("name_bytes_max", Request { expect: vec![expect(name())], ..append(event(1)) }),
        ("conditions_max", condition(vec![Criterion::default(); 3])),
        ("criteria_types_max", types(names(4))),
        ("name_bytes_max", types(vec![name()])),
        ("event_tags_max", tags(names(3))),
        ("tag_bytes_max", tags(vec![long(LIMITS.tag_bytes_max)])),
    ];
    for (limit, request) in cases {
        match check(&NaiveHistory::default(), &LIMITS, &request) {
            Checked::Refused(Refusal::Limit(passed)) => {
                assert_eq!(passed.limit.name(), limit, "{passed:?}");
                assert!(passed.got > passed.max, "{passed:?}");
            }
            other => panic!("{limit}: {other:?}"),
        }
    }
}

#[test]
fn p3_events_stored_under_a_bare_uuid_are_recognized() {
    let bare = |n: u128, source: &str| Event { source: source.into(), ..event(n) };
    // The form in which events arrive now: a UUID that follows from source and id.
    let given = |n: u128, source: &str, id: &str| Event {
        id: Uuid::from_u128(1_000 + n),
        given_id: Some(id.into()),
        ..bare(n, source)
    };
    let id = |n: u128| Uuid::from_u128(n << 64 | 0xabc).to_string();
    let stored = |n: u128| Event { id: Uuid::from_u128(n << 64 | 0xabc), ..bare(n, "s") };
    let history = NaiveHistory(vec![stored(1), stored(2), given(3, "s", &id(3))]);
    let checked = |event: Event| check(&history, &Limits::DEFAULT, &append(event));
    let repeated = |first: u64| {
        let (first, next) = (Position(first), Position(first + 1));
        Checked::Answered(crate::append::Appended { first, next, repeated: true })
    };
    assert_eq!(checked(given(1, "s", &id(1))), repeated(0));
    assert_eq!(checked(given(2, "s", &id(2).to_uppercase())), repeated(1), "older versions did not keep the case");
    assert_eq!(checked(given(3, "s", &id(3))), repeated(2));
    assert!(matches!(checked(given(1, "t", &id(1))), Checked::Passed(_)), "another source, another event");
    let upper = Event { id: Uuid::from_u128(9), ..given(3, "s", &id(3).to_uppercase()) };
    assert!(matches!(checked(upper), Checked::Passed(_)), "ids that differ in case are different");
    let other = Event { data: vec![1], ..given(1, "s", &id(1)) };
    let refusal = Refusal::Duplicate { stored: vec![], other: vec![(other.id, Position(0))] };
    assert_eq!(checked(other), Checked::Refused(refusal));
    // The internal id of an event, given as the id of another one.
    let crafted = Event { id: Uuid::from_u128(9), ..given(3, "s", &Uuid::from_u128(1_003).to_string()) };
    assert!(matches!(checked(crafted), Checked::Passed(_)));

    // Both arrived at the same time, one of them through a member that ran an older build a moment ago.
    let mut log = Log::of(1);
    let command = |event: Event| Command::Append(crate::append::Append { events: vec![event], ..Default::default() });
    assert!(matches!(log.apply(command(stored(1))), Outcome::Appended(_)));
    let again = log.apply(command(given(1, "s", &id(1))));
    assert!(matches!(again, Outcome::Appended(crate::append::Appended { repeated: true, .. })), "{again:?}");
}

#[test]
fn p10_the_total_size_of_all_criteria_is_bounded() {
    let limits = Limits::DEFAULT;
    let items = |items: usize, types: usize, text: &str| {
        Criteria(vec![Criterion { types: vec![String::from(text); types], tags: vec![] }; items])
    };
    let conditions = |count: usize, criteria: Criteria| Request {
        conditions: vec![Condition { criteria, marker: Position(0) }; count],
        ..append(event(1))
    };
    let checked = |request: Request| check(&NaiveHistory::default(), &limits, &request);
    for request in [
        // The smallest texts there are, long ones, and items without any.
        conditions(64, items(33, 256, "")),
        conditions(1, items(1, 256, &"x".repeat(512))),
        conditions(64, items(64, 0, "")),
    ] {
        match checked(request) {
            Checked::Refused(Refusal::Limit(passed)) => assert_eq!(passed.limit, LimitName::ConditionsBytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(checked(conditions(64, items(4, 8, "order.placed"))), Checked::Refused(_)));
    assert!(matches!(checked(conditions(64, items(1, 16, "order.placed"))), Checked::Passed(_)));
    let wide = Definition { criteria: items(9, 256, ""), ..definition(OnError::Stop) };
    let create = operate(None, Change::Create(wide.into()));
    assert_eq!(create.may_be_proposed().map_err(|passed| passed.limit), Err(LimitName::ConditionsBytes));
    let mut log = Log::of(1);
    assert!(!matches!(log.apply(create), Outcome::Refused(_)), "commands in the log are judged as before");
}

#[test]
fn a_marker_beyond_the_head_is_refused() {
    let history = NaiveHistory(vec![event(1), event(2)]);
    let at = |marker| Request {
        conditions: vec![
            Condition { criteria: Criteria::ANY, marker: Position(2) },
            Condition { criteria: Criteria::ANY, marker: Position(marker) },
        ],
        ..append(event(3))
    };
    assert!(matches!(check(&history, &LIMITS, &at(2)), Checked::Passed(_)));
    for marker in [3, u64::MAX] {
        let refusal = Refusal::Ahead { condition: 1, marker: Position(marker), head: Position(2) };
        assert_eq!(check(&history, &LIMITS, &at(marker)), Checked::Refused(refusal));
    }
}

#[test]
fn an_unreadable_command_is_refused_and_included_in_the_chain() {
    let unreadable = |kind| Command::Unreadable { kind, body: vec![1, 2, 3] };
    let (mut log, mut other) = (Log::of(1), Log::of(1));
    let before = log.state.clone();
    assert_eq!(log.apply(unreadable(2)), Outcome::Refused(RefusalReason::Unreadable(2)));
    let after = State { recorded: before.recorded, chain: before.chain, ..log.state.clone() };
    assert_eq!(after, before, "nothing changes");
    other.apply(unreadable(3));
    assert_ne!(log.state.chain, other.state.chain);
    let mut new = Log { state: State::default(), index: 0 };
    assert_eq!(new.apply(unreadable(0)), Outcome::Refused(RefusalReason::Unreadable(0)));
}

/// Returns a cluster of one member with small limits.
fn small() -> Log {
    let mut log = Log::of(1);
    log.state.limits = LIMITS;
    log
}

/// Returns the limit for which something was refused.
fn limit_of(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Refused(RefusalReason::Invalid(Invalid::LimitExceeded(passed))) => Some(passed.limit.name()),
        Outcome::Refused(RefusalReason::Limit(reached)) => Some(reached.limit.name()),
        _ => None,
    }
}

/// Returns whether it was refused for this limit, and nothing of it was kept.
fn refused(log: &mut Log, command: Command, limit: &str) {
    let before = log.state.clone();
    let outcome = log.apply(command);
    assert_eq!(limit_of(&outcome), Some(limit), "{outcome:?}");
    let after = State { recorded: before.recorded, chain: before.chain, ..log.state.clone() };
    assert_eq!(after, before, "{limit}");
}

fn operate(reason: Option<String>, change: Change) -> Command {
    Command::Operate(Operate { operation: Uuid::from_u128(99), principal: None, reason, change })
}

#[test]
fn p10_every_limit_of_a_change_is_refused_by_its_name() {
    let name = || long(LIMITS.name_bytes_max);
    let create = |definition: Definition| Change::Create(definition.into());
    let usual = || definition(OnError::Stop);
    let criteria = |items: Vec<Criterion>| create(Definition { criteria: Criteria(items), ..usual() });
    let item = Criterion { types: names(3).iter().map(|name| name.repeat(9)).collect(), tags: vec![] };
    let sequence = Selection::Sequence(ComponentId(0), long(LIMITS.extension_bytes_max));
    let cases = [
        ("name_bytes_max", create(Definition { name: name(), ..usual() })),
        ("exec_bytes_max", create(Definition { handler: Handler::Exec(long(LIMITS.exec_bytes_max)), ..usual() })),
        ("name_bytes_max", create(Definition { sequencing: Sequencing::Tag(name()), ..usual() })),
        ("name_bytes_max", create(Definition { sequencing: Sequencing::Extension(name()), ..usual() })),
        ("conditions_max", criteria(vec![Criterion::default(); 3])),
        ("criteria_types_max", criteria(vec![Criterion { types: names(4), tags: vec![] }])),
        ("event_tags_max", criteria(vec![Criterion { types: vec![], tags: names(3) }])),
        ("definition_bytes_max", criteria(vec![item.clone(), item])),
        ("name_bytes_max", Change::Delete(name())),
        ("name_bytes_max", Change::Pause(name(), true)),
        ("name_bytes_max", Change::Release(name(), SegmentId(0))),
        ("name_bytes_max", Change::Claim(name(), SegmentId(0), NodeId(1))),
        ("name_bytes_max", Change::Unpin(name(), SegmentId(0))),
        ("name_bytes_max", Change::SkipEvent(name(), SegmentId(0), Position(0))),
        ("name_bytes_max", Change::Letters(name(), Selection::All, LetterChange::Retry)),
        ("extension_bytes_max", Change::Letters("p".into(), sequence, LetterChange::Retry)),
        ("name_bytes_max", Change::Expect(name())),
        ("name_bytes_max", Change::Reset(name(), ResetTo::Head, None)),
        ("reset_context_bytes_max", {
            Change::Reset("p".into(), ResetTo::Head, Some(long(LIMITS.reset_context_bytes_max)))
        }),
    ];
    let mut log = small();
    for (limit, change) in cases {
        let tried = log.state.try_change(&change);
        assert_eq!(limit_of(&tried), Some(limit), "{tried:?}");
        refused(&mut log, operate(None, change), limit);
    }
    refused(&mut log, operate(Some(long(LIMITS.reason_bytes_max)), create(usual())), "reason_bytes_max");
    log.create(OnError::Stop);
    let longer = Definition { criteria: Criteria(vec![Criterion::default(); 3]), ..usual() };
    refused(&mut log, operate(None, create(longer)), "conditions_max");
}

#[test]
fn p10_every_limit_of_a_member_is_refused_by_its_name() {
    let mut log = small();
    let name = || long(LIMITS.name_bytes_max);
    for admit in
        [Admit { name: name(), ..admit(2) }, Admit { peer: name(), ..admit(2) }, Admit { http: name(), ..admit(1) }]
    {
        refused(&mut log, Command::Admit(admit), "name_bytes_max");
    }
    refused(&mut log, Command::Admit(Admit { http: "h".into(), ..admit(2) }), "members_max");
    let usual = begin(1, 7);
    let capable = |names: Vec<String>, versions: u32| Begin {
        capabilities: names.into_iter().map(|name| (name, (0..versions).collect())).collect(),
        ..usual.clone()
    };
    for (limit, begin) in [
        ("name_bytes_max", Begin { peer: name(), ..usual.clone() }),
        ("name_bytes_max", Begin { http: name(), ..usual.clone() }),
        ("processors_max", capable(names(3), 1)),
        ("name_bytes_max", capable(vec![name()], 1)),
        ("versions_max", capable(names(1), 65)),
    ] {
        refused(&mut log, Command::Begin(begin), limit);
    }
    log.apply(Command::Begin(Begin { weight: u32::MAX, ..usual }));
    assert_eq!(log.state.sessions[&NodeId(1)].weight, 1_000, "a weight is at most 1,000");
}

#[test]
fn p10_limits_that_would_make_a_cluster_unusable_are_refused() {
    let useless = [
        Limits { letters_max: 0, ..Limits::DEFAULT },
        Limits { tail_events: 0, ..Limits::DEFAULT },
        Limits { append_bytes_max: u32::MAX, ..Limits::DEFAULT },
        Limits { operations_max: u32::MAX, ..Limits::DEFAULT },
    ];
    for limits in useless {
        let why = Outcome::Refused(limits.check().unwrap_err().into());
        let mut log = Log::of(1);
        assert_eq!(log.change(Change::SetLimits(limits)), why);
        assert_eq!(log.state.limits, Limits::DEFAULT);
        let mut log = Log { state: State::default(), index: 0 };
        let found = Found { cluster: ClusterId(Uuid::from_u128(1)), limits, first: admit(1) };
        assert_eq!(log.apply(Command::Found(found)), why);
        assert!(log.state.members.is_empty());
    }
    let mut log = Log::of(1);
    let fewer = Limits { letters_max: 1, ..Limits::DEFAULT };
    assert_eq!((log.change(Change::SetLimits(fewer)), log.state.limits), (Outcome::Done, fewer));
}
