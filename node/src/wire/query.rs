//! What stands after the `?` of an address.

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
    pub fn raw(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let place = self.left.iter().position(|(known, _)| known == name)?;
        Some(self.left.swap_remove(place).1)
    }

    /// Takes a text; one that is empty is none.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        let text = self.raw(name).map(|value| decoded(&value)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
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

    /// Takes a list: values are percent-encoded before they are joined by commas. Clients that encode the
    /// whole once more, as most do by themselves, and those that do not, are understood alike.
    pub fn list(&mut self, name: &'static str) -> Result<Vec<String>, ApiError> {
        let Some(raw) = self.raw(name).filter(|raw| !raw.is_empty()) else { return Ok(Vec::new()) };
        if raw.contains(',') {
            return raw.split(',').map(decoded).collect();
        }
        decoded(&raw)?.split(',').map(decoded).collect()
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

/// Adds a parameter to a query.
pub fn push(query: &mut String, name: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    query.push_str(value);
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
    fn lists_are_understood_encoded_once_or_twice() {
        assert_eq!(list("types=a,b"), ["a", "b"]);
        assert_eq!(list("types=a%2Cb"), ["a", "b"], "a client that encodes the comma between values");
        assert_eq!(list("types=1%2C5,b"), ["1,5", "b"], "a comma within a value");
        assert_eq!(list("types=1%252C5%2Cb"), ["1,5", "b"]);
        assert_eq!(list("types=T02%20Check+it"), ["T02 Check it"]);
        assert_eq!(list("types="), [] as [&str; 0]);
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
