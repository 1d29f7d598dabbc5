//! The decoders of this crate, for fuzz tests: what clients, servers, members, handler programs and people may send.

use axum::http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use evener_core::{fuzz::Decoder, id::Position, time::Timestamp};

use crate::{
    client::lines::Lines,
    cloudevent,
    engine::{TABLE, Verb, peers},
    event::Stored,
    exec,
    settings::Sources,
    wire::{Call, append, binding, decode},
};

/// Every decoder of bytes that come over HTTP, from other members, from programs and from people.
#[must_use]
pub fn decoders() -> Vec<Decoder> {
    vec![
        Decoder::new("http-body", bodies, body_samples),
        Decoder::new("http-query", queries, query_samples),
        Decoder::new("http-answer", answers, answer_samples),
        Decoder::new("cloudevent", cloudevents, cloudevent_samples),
        Decoder::new("handler-answer", handler_answer, handler_answers),
        Decoder::new("settings", settings, settings_samples),
        Decoder::new("member-status", member_status, member_statuses),
    ]
}

/// The verb that the first byte chooses, and the rest.
fn verb(bytes: &[u8]) -> Option<(Verb, &[u8])> {
    let (choice, rest) = bytes.split_first()?;
    Some((TABLE[usize::from(*choice) % TABLE.len()].verb, rest))
}

fn choice(verb: Verb) -> u8 {
    let at = TABLE.iter().position(|row| row.verb == verb).expect("each verb is in the table");
    u8::try_from(at).expect("there are fewer verbs than bytes")
}

/// The body of a request for any verb; what is understood is written as the client would, and understood again.
fn bodies(bytes: &[u8]) {
    let Some((verb, body)) = verb(bytes) else { return };
    let path = vec!["name".to_owned()];
    again(verb, &Call { path, query: String::new(), body: body.to_vec() });
    if verb == Verb::Append {
        bound(body);
    }
}

/// A body in each of the modes of CloudEvents; in binary mode with its first line as a header, too.
fn bound(body: &[u8]) {
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let header = HeaderValue::from_bytes(line).unwrap_or(HeaderValue::from_static("x"));
    for kind in [binding::ONE, binding::SEVERAL, "application/json", "text/plain", "a/b"] {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        for name in ["ce-id", "ce-source", "ce-type"].into_iter().filter(|_| kind != binding::ONE) {
            headers.insert(name, header.clone());
        }
        let append = binding::append(&headers, body.to_vec());
        _ = append.and_then(|append| append::parse(&append));
    }
}

fn again(verb: Verb, call: &Call) {
    let Ok(request) = call.parse(verb) else { return };
    let (verb, call) = Call::of(&request);
    match call.parse(verb) {
        Ok(same) => assert_eq!(same, request, "a request is written as it was read"),
        Err(error) => panic!("a request that was read cannot be read as the client writes it: {error}"),
    }
}

fn body_samples() -> Vec<Vec<u8>> {
    let event = r#"{"id":"1","source":"/s","type":"t","subject":"a","data":{"cents":100}}"#;
    let conditions = r#"[{"criteria":[{"types":["t"],"tags":["k=v"]}],"marker":7}]"#;
    let expect = r#"[{"stream":"a","revision":3},{"stream":"b","revision":"none"},{"stream":"c","revision":"any"}]"#;
    let id = "00000000-0000-0000-0000-000000000007";
    let append = format!(r#"{{"request_id":"{id}","events":[{event}],"conditions":{conditions},"expect":{expect}}}"#);
    let processor = r#"{"name":"p","exec":"cat","segments":4,"start":{"position":7},"types":["t"],"tags":["a=1"],
        "sequencing":"tag:a","on_error":"stop","retry":{"first":"1s","max":"60s","attempts":3},"reason":"new"}"#;
    let samples = [
        (Verb::Append, append.as_str()),
        (Verb::AppendMany, append.as_str()),
        (Verb::ReadBy, r#"{"criteria":[{"types":["t"],"tags":["k=v"]}],"from":1,"to":9,"limit":5,"backwards":true}"#),
        (Verb::Create, processor),
        (Verb::Pause, r#"{"reason":"rest","dry_run":true,"operation":"00000000-0000-0000-0000-000000000007"}"#),
        (Verb::Claim, r#"{"segment":3,"node":"n1"}"#),
        (Verb::Retry, r#"{"sequence":"a","component":1}"#),
        (Verb::Drop, r#"{"all":true}"#),
        (Verb::Join, r#"{"peer":"h:1"}"#),
        (Verb::Leave, r#"{"node":"n2"}"#),
    ];
    samples.iter().map(|(verb, body)| [&[choice(*verb)], body.as_bytes()].concat()).collect()
}

/// What stands after the `?`.
fn queries(bytes: &[u8]) {
    let Some((verb, query)) = verb(bytes) else { return };
    let query = String::from_utf8_lossy(query).into_owned();
    again(verb, &Call { path: vec!["name".to_owned()], query, body: Vec::new() });
}

fn query_samples() -> Vec<Vec<u8>> {
    let samples = [
        (
            Verb::Read,
            "context=default&from=1&to=9&limit=5&types=a,b%2Bc&tags=k%3Dv&stream=s&backwards=true&consistency=local",
        ),
        (Verb::Tail, "from=7&types=a%2520b"),
        (Verb::Delete, "reason=old&dry_run=true"),
    ];
    samples.iter().map(|(verb, query)| [&[choice(*verb)], query.as_bytes()].concat()).collect()
}

/// What a server answers to the client, and the lines in it.
fn answers(bytes: &[u8]) {
    let Some((verb, body)) = verb(bytes) else { return };
    _ = decode(verb, body);
    let mut lines = Lines::default();
    for part in body.chunks(7) {
        if lines.push(part).is_err() {
            return;
        }
        while lines.next().is_some() {}
    }
}

fn answer_samples() -> Vec<Vec<u8>> {
    let operation = r#"{"operation":"00000000-0000-0000-0000-000000000007","state":"waiting","why":"x","changed":1}"#;
    let samples = [
        (Verb::Append, r#"{"first":1,"next":2,"repeated":true}"#),
        (
            Verb::AppendMany,
            "{\"first\":1,\"next\":2}\n{\"code\":\"EV0100\",\"class\":\"invalid\",\"message\":\"m\",\"hint\":\"h\"}\n",
        ),
        (Verb::Pause, operation),
        (Verb::Processors, "[]"),
        (Verb::DeadLetters, "[]"),
    ];
    samples.iter().map(|(verb, body)| [&[choice(*verb)], body.as_bytes()].concat()).collect()
}

/// One event in JSON; what is understood is written and understood again.
fn cloudevents(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(event) = cloudevent::from_json(text) {
        let json = cloudevent::to_json(&event);
        assert!(!json.contains('\n'), "an event is one line");
        let again = cloudevent::from_json(&json).expect("an event is written as it was read");
        assert_eq!(again, event, "an event is written as it was read");
    }
    _ = cloudevent::stored_from_json(text);
}

fn cloudevent_samples() -> Vec<Vec<u8>> {
    let full = r#"{"specversion":"1.0","id":"0193b1c2-0000-7000-8000-000000000001","source":"/s","type":"t",
        "subject":"a","time":"2026-01-01T00:00:00.123Z","datacontenttype":"application/json","dataschema":"urn:x",
        "tags":"k=v,a%2Cb","key":"k","count":7,"nested":{"a":[1,"é\u0000"]},
        "data":{"x":[1,2.5e3,null,true,"\ud83d\ude00"]}}"#;
    let binary = r#"{"id":"1","source":"/s","type":"t","data_base64":"AAEC"}"#;
    let event = cloudevent::from_json(binary).expect("the sample is an event");
    let stored = Stored { position: Position(7), revision: None, recorded: Timestamp(1), event };
    vec![full.into(), binary.into(), cloudevent::stored_to_json(&stored).into()]
}

/// What a handler program prints.
fn handler_answer(bytes: &[u8]) {
    _ = exec::answer::read(bytes, 7);
}

fn handler_answers() -> Vec<Vec<u8>> {
    let answers = [
        r#"{"delivery":7,"ok":true}"#,
        r#"{"delivery":7,"error":"no","verdict":"set-aside"}"#,
        r#"{"delivery":7,"ok":false,"error":"no","verdict":"retry"}"#,
    ];
    answers.iter().map(|answer| answer.as_bytes().to_vec()).collect()
}

/// A settings file; or, behind a zero byte, a variable and its value.
fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let sources = match text.strip_prefix('\0').and_then(|variable| variable.split_once('=')) {
        Some((name, value)) => Sources { variables: vec![(name.to_owned(), value.to_owned())], ..Sources::default() },
        None => Sources { file: Some(("evener.toml".into(), text)), ..Sources::default() },
    };
    if let Ok(loaded) = sources.load() {
        _ = loaded.rows();
    }
}

fn settings_samples() -> Vec<Vec<u8>> {
    let file = r#"[node]
name = "n1"
data = "/d"
listen = "127.0.0.1:4750"
[cluster]
lease = "9s"
join = ["a:1", "b:2"]
"#;
    let variables =
        crate::settings::TABLE.iter().map(|setting| format!("\0{}={}", setting.variable(), setting.default));
    variables.chain([file.to_owned()]).map(String::into_bytes).collect()
}

/// What another member says of itself; what is understood is written and understood again.
fn member_status(bytes: &[u8]) {
    if let Some(status) = peers::read(bytes) {
        assert!(peers::read(&peers::write(status)).is_some(), "a status is written as it was read");
    }
}

fn member_statuses() -> Vec<Vec<u8>> {
    let status = r#"{"node":"n2","version":"0.1.0","uptime_s":7,"role":"follower","term":3,"leader":"n1","head":5,
        "applied":9,"durable":9,"disk":{"free_bytes":1,"total_bytes":2,"reserve_bytes":0,"log_bytes":1,
        "appends_refused":"full"},"state_hash":{"index":9,"hash":"00000000000000ff"},"trouble":"no leader is known",
        "clock_ahead_ms":-3,"log_ahead_ms":0,"actors":[{"name":"p/3","kind":"worker","phase":"idle","parent":"p",
        "queue":0,"restarts":1,"last_error":"e","since":8}],"standstills":[{"processor":"p","segment":3,"epoch":4,
        "state":"flooded","reason":"r","retry_at":8}],"segments_wanted":[{"processor":"p","stored":4,"wanted":5}]}"#;
    vec![status.into()]
}
