//! What stands after the `?` of an address: `name=value` pairs, joined by `&`.
//!
//! Each value is decoded exactly once: `%XX` is a byte, and `+` is a space, as forms of HTML have it; so a plus is
//! `%2B`, and a percent sign is `%25`. A list is divided at its commas before it is decoded: `,` separates, and `%2C`
//! is a comma within a value. No value may be empty, so that a variable that a script forgot to set does not ask for
//! everything.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{codes, error::ApiError, settings};

/// What need not be encoded anywhere in an address.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Parameters that are taken out one after the other; what is left in the end is unknown.
pub struct Query {
    left: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Query {
    /// Takes the text apart; values stay encoded.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut left: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decoded(name)?;
            if left.iter().any(|(other, _)| *other == name) {
                return Err(bad(&name, "is given twice"));
            }
            left.push((name, value.to_owned()));
        }
        Ok(Self { left, known: Vec::new() })
    }

    /// Takes a parameter, still encoded.
    fn raw(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let place = self.left.iter().position(|(known, _)| known == name)?;
        Some(self.left.swap_remove(place).1)
    }

    /// Takes a text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        self.raw(name).map(|value| given(name, &value)).transpose()
    }

    /// Takes a number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad(name, &format!("is '{text}': it must be a whole number from 0")))
    }

    /// Takes yes or no; a name without a value is yes.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.raw(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(other) => Err(bad(name, &format!("is '{other}': it must be true or false"))),
        }
    }

    /// Takes a list.
    pub fn list(&mut self, name: &'static str) -> Result<Vec<String>, ApiError> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        raw.split(',').map(|value| given(name, value)).collect()
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), ApiError> {
        let Some((name, _)) = self.left.first() else { return Ok(()) };
        let error = bad(name, "is not known here");
        Err(match settings::nearest(name, self.known.iter().map(|&known| known.to_owned())) {
            Some(near) => error.hint(format!("did you mean '{near}'?")),
            None => error,
        })
    }
}

/// Encodes a text so that it can stand anywhere in an address.
#[must_use]
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// Adds a parameter to a query, encoded.
pub fn push(query: &mut String, name: &str, value: &str) {
    push_list(query, name, std::slice::from_ref(&value));
}

/// Adds a list to a query, each of its values encoded.
pub fn push_list(query: &mut String, name: &str, values: &[impl AsRef<str>]) {
    for (n, value) in values.iter().enumerate() {
        if n > 0 {
            query.push(',');
        } else {
            query.push_str(if query.is_empty() { "" } else { "&" });
            query.push_str(name);
            query.push('=');
        }
        query.push_str(&encoded(value.as_ref()));
    }
}

/// A value, decoded.
fn given(name: &str, raw: &str) -> Result<String, ApiError> {
    match decoded(raw)? {
        empty if empty.is_empty() => Err(bad(name, "has an empty value: give it one, or leave the parameter out")),
        value => Ok(value),
    }
}

fn decoded(text: &str) -> Result<String, ApiError> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| bad(&spaced, "is not UTF-8 after decoding"))
}

/// An error about this parameter.
pub fn bad(name: &str, why: &str) -> ApiError {
    ApiError::new(&codes::BAD_QUERY, format!("the parameter '{name}' {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        Query::parse(text).unwrap().list("types").unwrap()
    }

    #[test]
    fn values_are_decoded_once_and_lists_are_divided_before() {
        assert_eq!(list("types=a,b"), ["a", "b"]);
        assert_eq!(list("types=1%2C5,b"), ["1,5", "b"], "a comma within a value");
        assert_eq!(list("types=1%2C5"), ["1,5"]);
        assert_eq!(list("types=a%2Bb"), ["a+b"]);
        assert_eq!(list("types=a%252Bb,50%25"), ["a%2Bb", "50%"]);
        assert_eq!(list("types=T02%20Check+it"), ["T02 Check it"]);
        let mut query = Query::parse("stream=a%2Bb%2520c").unwrap();
        assert_eq!(query.text("stream").unwrap().as_deref(), Some("a+b%20c"));
    }

    #[test]
    fn an_empty_value_is_refused_by_name() {
        for text in ["types=", "types", "types=a,,b", "types=,", "types=a,"] {
            let error = Query::parse(text).unwrap().list("types").unwrap_err();
            assert!(error.code == "EV0101" && error.message.contains("'types' has an empty value"), "{text}: {error}");
        }
        for text in ["stream=", "stream", "from=1&stream=&to=2"] {
            assert!(Query::parse(text).unwrap().text("stream").is_err(), "{text}");
        }
        assert!(Query::parse("from=").unwrap().number("from").is_err());
        assert!(Query::parse("backwards").unwrap().flag("backwards").unwrap(), "a flag has no need of one");
    }

    #[test]
    fn what_nobody_takes_is_unknown() {
        let mut query = Query::parse("form=5&limit=3").unwrap();
        assert_eq!(query.number("limit").unwrap(), Some(3));
        assert_eq!(query.number("from").unwrap(), None);
        let error = query.finish().unwrap_err();
        assert_eq!((error.code.as_ref(), error.hint.as_ref()), ("EV0101", "did you mean 'from'?"));
    }

    #[test]
    fn malformed_values_name_the_parameter() {
        let message = |text, take: fn(&mut Query) -> Result<(), ApiError>| {
            take(&mut Query::parse(text).unwrap()).unwrap_err().message
        };
        let number = message("from=-1", |query| query.number("from").map(|_| ()));
        assert_eq!(number, "the parameter 'from' is '-1': it must be a whole number from 0");
        assert!(message("b=maybe", |query| query.flag("b").map(|_| ())).contains("'b' is 'maybe'"));
        assert!(message("s=%FF", |query| query.text("s").map(|_| ())).contains("UTF-8"));
        assert!(Query::parse("a=1&a=2").is_err_and(|error| error.message.contains("given twice")));
    }
}
