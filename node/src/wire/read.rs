//! Which events to read, as a query and as a body.

use evener_core::{
    criteria::{Criteria, Criterion},
    id::{ContextId, Position},
};
use serde::{Deserialize, Serialize};

use super::query::{Query, bad, push, push_list};
use crate::{
    codes, context,
    engine::{Consistency, Read},
    error::ApiError,
};

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    from: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    criteria: Criteria,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    backwards: bool,
    consistency: Consistency,
}

/// Reads a query: one item of criteria.
pub fn from_query(text: &str) -> Result<Read, ApiError> {
    let mut query = Query::parse(text)?;
    let context = query.text("context")?.map_or(Ok(ContextId::DEFAULT), |name| context::named(&name))?;
    let item = Criterion { types: query.list("types")?, tags: query.list("tags")? };
    let consistency = match query.text("consistency")?.as_deref() {
        None | Some("linearizable") => Consistency::Linearizable,
        Some("local") => Consistency::Local,
        Some(other) => {
            return Err(bad("consistency", &format!("is '{other}': it must be linearizable or local")));
        }
    };
    let read = Read {
        context,
        from: Position(query.number("from")?.unwrap_or(0)),
        to: query.number("to")?.map(Position),
        limit: query.number("limit")?,
        criteria: if item.is_any() { Criteria::ANY } else { Criteria(vec![item]) },
        stream: query.text("stream")?,
        backwards: query.flag("backwards")?,
        consistency,
        continues: false,
    };
    query.finish()?;
    Ok(read)
}

/// Writes a query. Of several items of criteria only a body can tell.
#[must_use]
pub fn to_query(read: &Read) -> String {
    debug_assert!(read.criteria.0.len() <= 1, "a query has one item of criteria");
    let mut query = String::new();
    if read.context != ContextId::DEFAULT {
        push(&mut query, "context", &read.context.to_string());
    }
    push(&mut query, "from", &read.from.to_string());
    for (name, value) in [("to", read.to.map(|to| to.0)), ("limit", read.limit)] {
        if let Some(value) = value {
            push(&mut query, name, &value.to_string());
        }
    }
    if let Some(item) = read.criteria.0.first() {
        for (name, values) in [("types", &item.types), ("tags", &item.tags)] {
            push_list(&mut query, name, values);
        }
    }
    if let Some(stream) = &read.stream {
        push(&mut query, "stream", stream);
    }
    if read.backwards {
        push(&mut query, "backwards", "true");
    }
    if read.consistency == Consistency::Local {
        push(&mut query, "consistency", "local");
    }
    query
}

/// Reads a body.
pub fn from_body(body: &[u8]) -> Result<Read, ApiError> {
    let body: Body = super::json(body)?;
    if body.stream.as_deref() == Some("") {
        let message = "`stream` is empty: name the stream, or leave it out to read all of them";
        return Err(ApiError::new(&codes::BAD_BODY, message));
    }
    Ok(Read {
        context: body.context.as_deref().map_or(Ok(ContextId::DEFAULT), context::named)?,
        from: Position(body.from),
        to: body.to.map(Position),
        limit: body.limit,
        criteria: body.criteria,
        stream: body.stream,
        backwards: body.backwards,
        consistency: body.consistency,
        continues: false,
    })
}

/// Writes a body.
#[must_use]
pub fn to_body(read: &Read) -> Vec<u8> {
    let body = Body {
        context: (read.context != ContextId::DEFAULT).then(|| read.context.to_string()),
        from: read.from.0,
        to: read.to.map(|to| to.0),
        limit: read.limit,
        criteria: read.criteria.clone(),
        stream: read.stream.clone(),
        backwards: read.backwards,
        consistency: read.consistency,
    };
    serde_json::to_vec(&body).expect("a read is plain values")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// What a query can say, with all that texts can have in them.
        fn any_read()(
            numbers in (0..u64::MAX, proptest::option::of(0..u64::MAX), proptest::option::of(0..u64::MAX)),
            types in proptest::collection::vec("\\PC{1,8}|[%+,&=#?/ 0-9A-F]{1,8}", 0..4),
            tags in proptest::collection::vec("\\PC{1,8}|[%+,&=#?/ 0-9A-F]{1,8}", 0..4),
            stream in proptest::option::of("\\PC{1,8}|[%+,&=#?/ 0-9A-F]{1,8}"),
            (system, backwards, local) in any::<(bool, bool, bool)>(),
        ) -> Read {
            let item = Criterion { types, tags };
            Read {
                context: if system { ContextId::SYSTEM } else { ContextId::DEFAULT },
                from: Position(numbers.0),
                to: numbers.1.map(Position),
                limit: numbers.2,
                criteria: if item.is_any() { Criteria::ANY } else { Criteria(vec![item]) },
                stream,
                backwards,
                consistency: if local { Consistency::Local } else { Consistency::Linearizable },
                continues: false,
            }
        }
    }

    proptest! {
        #[test]
        fn what_a_client_writes_into_a_query_or_a_body_is_what_a_server_reads(read in any_read()) {
            let query = to_query(&read);
            prop_assert!(query.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%=&,".contains(&b)), "{}", query);
            prop_assert_eq!(&from_query(&query).unwrap(), &read);
            prop_assert_eq!(&from_body(&to_body(&read)).unwrap(), &read);
            // Clients that encode more than they must, and spaces as forms do, say the same.
            let all = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
            if let Some(stream) = &read.stream {
                let spaced = format!("stream={}", stream.replace('%', "%25").replace('+', "%2B").replace('&', "%26")
                    .replace(' ', "+"));
                for text in [format!("stream={}", all(stream)), spaced] {
                    prop_assert_eq!(from_query(&text).unwrap().stream, Some(stream.clone()), "{}", text);
                }
            }
        }
    }

    #[test]
    fn a_query_says_the_same_as_a_body() {
        let read = Read {
            context: ContextId::SYSTEM,
            from: Position(3),
            to: Some(Position(9)),
            limit: Some(2),
            criteria: Criteria(vec![Criterion {
                types: vec!["T02 Check".into(), "a,b".into()],
                tags: vec!["case=50%".into()],
            }]),
            stream: Some("case 1/ü&x=y".into()),
            backwards: true,
            consistency: Consistency::Local,
            continues: false,
        };
        assert_eq!(from_query(&to_query(&read)).unwrap(), read);
        assert_eq!(from_body(&to_body(&read)).unwrap(), read);
        assert_eq!(from_query("").unwrap(), Read::default());
        assert_eq!(from_body(b"").unwrap(), Read::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |text| from_query(text).unwrap_err().message;
        assert!(message("consistency=eventual").contains("it must be linearizable or local"));
        assert!(message("context=blue").contains("there is no context 'blue'"));
        assert!(message("stream=").contains("'stream' has an empty value"));
        assert!(from_body(br#"{"stream":""}"#).unwrap_err().message.contains("`stream` is empty"));
        assert!(from_body(br#"{"form":1}"#).unwrap_err().message.contains("unknown field `form`"));
    }
}
