//! What goes in, what comes out, and what is refused.

use super::{rules::depth, *};

fn refused(json: &str) -> String {
    from_json(json).expect_err("must be refused").to_string()
}

#[test]
fn the_namespace_is_what_its_docs_say() {
    assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:evener:cloudevents"));
}

#[test]
fn a_derived_id_is_the_uuid_v5_of_source_and_id() {
    for (source, given) in [("", ""), ("/receipt", "receipt-0"), ("https://example.com/é", &"9".repeat(500))] {
        let name = [source.as_bytes(), &[0], given.as_bytes()].concat();
        assert_eq!(derived_id(source, given), Uuid::new_v5(&NAMESPACE, &name));
    }
}

#[test]
fn what_goes_in_comes_out_byte_for_byte() {
    let json = concat!(
        r#"{"specversion":"1.0","id":"receipt-0","source":"/receipt","type":"Confirmation of receipt","#,
        r#""subject":"case-891","time":"2010-10-02T09:20:39.266000+02:00","datacontenttype":"application/json","#,
        r#""dataschema":"urn:x","key":"k","tags":"case=case-891,resource=Resource26","aflag":true,"#,
        r#""numbered":1.50,"traceparent":"00-a","data":{"b":1.10, "a":"\u00e9","big":123456789012345678901}}"#
    );
    let event = from_json(json).unwrap();
    assert_eq!(to_json(&event), json);
    assert_eq!(event.tags, ["case=case-891", "resource=Resource26"]);
    assert_eq!(event.id, derived_id("/receipt", "receipt-0"));
    assert_eq!(event.extensions[1], ("numbered".to_owned(), "1.50".to_owned()));
}

#[test]
fn p10_data_that_other_parsers_refuse_is_refused_by_name() {
    let of = |data: &str| format!(r#"{{"id":"1","source":"s","type":"t","data":{data}}}"#);
    let nested = |deep| of(&format!("{}{}", "[".repeat(deep), "]".repeat(deep)));
    assert!(from_json(&nested(DATA_DEPTH_MAX)).is_ok());
    let error = refused(&nested(DATA_DEPTH_MAX + 1));
    assert!(error.contains("nested 101 deep, and data_depth_max is 100"), "{error}");
    let error = refused(&nested(100_000));
    assert!(error.contains("100000 deep"), "{error}");
    let extended = |deep| {
        let value = format!("{}{}", "{\"a\":[".repeat(deep / 2), "]}".repeat(deep / 2));
        format!(r#"{{"id":"1","source":"s","type":"t","extended":{value}}}"#)
    };
    assert!(from_json(&extended(DATA_DEPTH_MAX)).is_ok());
    let error = refused(&extended(2_000));
    assert!(error.contains("`extended` is nested 2000 deep, and data_depth_max is 100"), "{error}");
    let brackets = format!(r#"{{"a":"{}\"[","b":[{{}}]}}"#, "[{".repeat(200));
    assert_eq!(depth(brackets.as_bytes()), 3, "brackets in a string do not count");
    assert!(from_json(&of(&brackets)).is_ok());
}

#[test]
fn a_time_is_kept_as_it_was_given() {
    let of = |time: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","time":"{time}"}}"#);
    for time in ["9999-12-31T23:59:59Z", "2026-01-01t00:00:00.0123456789z", "1990-12-31T15:59:60-08:00"] {
        assert_eq!(to_json(&from_json(&of(time)).unwrap()), of(time));
    }
    for time in ["2026-01-01T00Z", "20260101T000000Z", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00+05"] {
        let error = refused(&of(time));
        assert!(error.contains(&format!("`time` is \"{time}\", which does not have the form")), "{error}");
    }
    assert!(refused(&of("2026-02-29T00:00:00Z")).contains("a day that its month does not have (RFC 3339)"));
    let stored = of("2026-01-01T00Z").replace('}', r#","position":1,"recorded":"2026-11-21T09:04:00Z"}"#);
    let stored = stored_from_json(&stored).expect("what an older version has stored can be read");
    assert_eq!(stored.event.time.as_deref(), Some("2026-01-01T00Z"));
}

#[test]
fn source_and_id_as_they_are_identify_an_event() {
    let lower = "0192f0c1-0000-7000-8000-00000000000a";
    let of = |source: &str, id: &str| {
        let event = from_json(&format!(r#"{{"id":"{id}","source":"{source}","type":"t"}}"#)).unwrap();
        assert_eq!(event.given_id.as_deref(), Some(id));
        assert!(to_json(&event).contains(&format!(r#""id":"{id}""#)), "it comes back as it was given");
        assert_eq!(event.id, derived_id(source, id));
        event.id
    };
    let mut ids =
        vec![of("s", lower), of("t", lower), of("s", &lower.to_uppercase()), of("s", &lower.replace('-', ""))];
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "all are different events");
    // What a Rust program appends under a UUID is the same event when it was exported and is imported.
    let bare = Event { id: lower.parse().unwrap(), source: "s".into(), kind: "t".into(), ..Event::default() };
    let mut identified = bare.clone();
    identify(&mut identified);
    assert_eq!(from_json(&to_json(&bare)).unwrap(), identified);
    assert_eq!(identified.bare_id(), Some(bare.id));
    // Golden: a derived id can never change, or what was stored would be stored again.
    assert_eq!(derived_id("/receipt", "receipt-0").to_string(), "2782f722-e740-5e25-9306-2b6b76a40a15");
    assert_ne!(derived_id("ab", "c"), derived_id("a", "bc"));
}

#[test]
fn what_was_read_back_can_be_imported_again() {
    let event = from_json(r#"{"id":"1","source":"s","type":"t","subject":"order-1","data":null}"#).unwrap();
    let stored = Stored {
        position: Position(7),
        revision: Some(Revision(2)),
        recorded: Timestamp(1_790_000_000_123),
        event: event.clone(),
    };
    let json = stored_to_json(&stored);
    assert!(json.contains(r#""position":7,"recorded":"2026-09-21T"#), "{json}");
    assert!(json.contains(r#""stream":"order-1","revision":2,"data":null}"#), "{json}");
    assert_eq!(from_json(&json).unwrap(), event);
    assert_eq!(stored_from_json(&json).unwrap(), stored);
    let no_place = stored_from_json(&to_json(&event)).unwrap_err();
    assert_eq!(no_place.to_string(), "the attribute `position` is missing");
}

#[test]
fn a_stream_stands_for_the_subject_but_may_not_differ_from_it() {
    let event = from_json(r#"{"id":"1","source":"s","type":"t","stream":"order-1"}"#).unwrap();
    assert_eq!(event.stream.as_deref(), Some("order-1"));
    let why = refused(r#"{"id":"1","source":"s","type":"t","subject":"a","stream":"b"}"#);
    assert_eq!(why, "the attribute `stream` differs from `subject`, which names the stream: leave it out");
}

#[test]
fn bytes_travel_as_base64() {
    let json = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AAH/"}"#;
    let event = from_json(json).unwrap();
    assert_eq!((event.data.as_slice(), event.data_kind), ([0, 1, 255].as_slice(), DataKind::Binary));
    assert_eq!(to_json(&event), json);
    assert!(refused(r#"{"id":"1","source":"s","type":"t","data_base64":"?"}"#).contains("`data_base64` is no base64"));
    let both = r#"{"id":"1","source":"s","type":"t","data_base64":"AAH/","data":1}"#;
    assert!(refused(both).contains("an event has one payload"));
}

#[test]
fn an_event_is_one_line_whatever_its_data() {
    let json = "{\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",\"data\":{\r\n\t\"a\": \"x\\ny\"\n}}";
    let event = from_json(json).unwrap();
    let written = to_json(&event);
    assert!(!written.contains(['\n', '\r']));
    assert_eq!(from_json(&written).unwrap(), event);
    assert_eq!(event.data, b"{  \t\"a\": \"x\\ny\" }");
}

#[test]
fn tags_with_commas_come_back_whole() {
    let tags: Vec<String> = ["a=1,5", "50%", "%2C", " x ", "ü=é", "n=\u{1}"].map(str::to_owned).to_vec();
    let joined = join_tags(&tags);
    assert_eq!(joined, "a=1%2C5,50%25,%252C,%20x%20,ü=é,n=%01");
    assert_eq!(split_tags(&joined).unwrap(), tags);
    assert_eq!(split_tags("a=1, b=50% ,a=1").unwrap(), ["a=1", "b=50%"]);
    assert!(split_tags("").unwrap().is_empty());
    assert!(split_tags("a,,b").unwrap_err().to_string().contains("an empty tag, number 2"));
    assert!(split_tags("%ff").unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn errors_name_the_attribute() {
    let check = |json: &str, expected: &str| assert_eq!(refused(json), expected, "of {json}");
    check(r#"{"source":"s","type":"t"}"#, "the attribute `id` is missing");
    check(r#"{"id":"1","type":"t"}"#, "the attribute `source` is missing");
    check(r#"{"id":"1","source":"s","type":null}"#, "the attribute `type` is missing");
    check(r#"{"id":1,"source":"s","type":"t"}"#, "the attribute `id` must be a string, not a number");
    check(r#"{"id":"1","id":"1","source":"s","type":"t"}"#, "the attribute `id` is given twice");
    check(
        r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#,
        "the attribute `specversion` is \"0.3\"; only \"1.0\" is understood",
    );
    check(
        r#"{"id":"1","source":"s","type":"t","time":"yesterday"}"#,
        "the attribute `time` is \"yesterday\", which does not have the form \
         YYYY-MM-DDThh:mm:ss[.fraction], followed by Z, +hh:mm or -hh:mm (RFC 3339)",
    );
    check(
        r#"{"id":"1","source":"s","type":"t","tags":["a"]}"#,
        "the attribute `tags` must be a string like \"k=v,k=v\", not an array",
    );
    check(
        r#"{"id":"1","source":"s","type":"t","partitionKey":"x"}"#,
        "the attribute `partitionKey` is no CloudEvents attribute name: \
         these have lower-case letters and digits only",
    );
    check(
        r#"{"id":"1","source":"s","type":"t","subject":""}"#,
        "the attribute `subject` is empty: give it a value, or leave it out",
    );
    let many: String = (0..=ATTRIBUTES_MAX).map(|i| format!("\"x{i}\":1,")).collect();
    assert!(refused(&format!("{{{}\"id\":1}}", many)).contains("more than 64 attributes"));
    assert!(refused("[1]").starts_with("not a JSON object: invalid type: sequence"));
    assert!(refused(r#"{"id":"1","#).starts_with("not a JSON object: EOF while parsing"));
}
