//! What the strings of an event may not contain: CloudEvents forbids control characters and noncharacters in values of
//! its type String, which all context attributes are.

use evener_core::event::Event;

use super::Error;

/// Checks the attributes of an event that is to be stored.
///
/// # Errors
///
/// Names the first attribute with a character that CloudEvents forbids, and the character.
pub(super) fn check(event: &Event) -> Result<(), Error> {
    let texts = [
        ("id", event.given_id.as_deref()),
        ("source", Some(&*event.source)),
        ("type", Some(&*event.kind)),
        ("subject", event.stream.as_deref()),
        ("key", event.key.as_deref()),
        ("datacontenttype", event.content_type.as_deref()),
        ("dataschema", event.schema.as_deref()),
    ];
    let tags = event.tags.iter().map(|tag| ("tags", Some(&**tag)));
    for (name, text) in texts.into_iter().chain(tags) {
        text.map_or(Ok(()), |text| allowed(name, text))?;
    }
    for (name, json) in &event.extensions {
        allowed(name, json)?;
        // Other characters that are forbidden can only be there escaped.
        if json.contains('\\')
            && let Ok(text) = serde_json::from_str::<String>(json)
        {
            allowed(name, &text)?;
        }
    }
    Ok(())
}

fn allowed(name: &str, text: &str) -> Result<(), Error> {
    if is_plain(text) {
        return Ok(());
    }
    match text.chars().find(|c| is_forbidden(*c)) {
        None => Ok(()),
        Some(c) => {
            let why = format!("has U+{:04X} in it, a character that CloudEvents forbids in strings", u32::from(c));
            Err(Error::wrong(name, why))
        }
    }
}

/// Whether the text consists of printable ASCII characters alone, as most do. Looks at eight bytes at a time.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The highest bit of a byte is set in it, or by the addition at 0x7f, or by the subtraction below 0x20. What is
    // carried comes from a byte that is itself not plain.
    let not_plain = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        (word | word.wrapping_add(u64::from_le_bytes([1; 8])) | word.wrapping_sub(u64::from_le_bytes([b' '; 8])))
            & u64::from_le_bytes([0x80; 8])
    };
    words.iter().fold(not_plain(&last), |found, word| found | not_plain(word)) == 0
}

/// A control character, or a noncharacter of Unicode.
fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use crate::cloudevent::{from_json, stored_from_json};

    const FORBIDDEN: [&str; 7] = [r"\u0000", r"\u001b", r"\u007f", "\u{80}", r"\u009f", "\u{fdd0}", "\u{1ffff}"];

    #[test]
    fn what_cloudevents_forbids_in_strings_is_refused_in_every_attribute() {
        for name in ["id", "source", "type", "subject", "key", "tags", "datacontenttype", "dataschema", "myextension"] {
            let with = |value: &str| {
                let given = ["id", "source", "type"].into_iter().filter(|other| *other != name);
                let others: String = given.map(|other| format!(r#","{other}":"x""#)).collect();
                format!(r#"{{"{name}":"{value}"{others}}}"#)
            };
            for forbidden in FORBIDDEN {
                let error = from_json(&with(&format!("a{forbidden}b"))).unwrap_err().to_string();
                assert!(error.contains(&format!("`{name}`")) && error.contains("forbid"), "{forbidden:?}: {error}");
            }
            let allowed = with("é漢\u{a0}\u{fffd}😀");
            from_json(&allowed).unwrap_or_else(|error| panic!("{allowed}: {error}"));
        }
        // Half of a surrogate pair is no character at all.
        assert!(from_json(r#"{"id":"\ud800","source":"x","type":"x"}"#).is_err());
    }

    #[test]
    fn plain_texts_are_those_of_printable_ascii() {
        for byte in 0..=0x7f_u8 {
            for (before, after) in [(0, 0), (3, 9), (7, 0), (8, 1), (15, 16)] {
                let text = format!("{}{}{}", "~".repeat(before), char::from(byte), " ".repeat(after));
                assert_eq!(super::is_plain(&text), (b' '..=b'~').contains(&byte), "{text:?}");
            }
        }
        assert!(super::is_plain("") && !super::is_plain("abcdefghé") && !super::is_plain("\u{80}"));
    }

    #[test]
    fn data_may_contain_any_character() {
        let json = "{\"id\":\"1\",\"source\":\"x\",\"type\":\"x\",\"data\":\"\u{9b}\\u0000\"}";
        assert_eq!(from_json(json).unwrap().data, "\"\u{9b}\\u0000\"".as_bytes());
    }

    #[test]
    fn what_an_earlier_version_stored_is_still_read() {
        let place = r#""position":1,"recorded":"2026-01-01T00:00:00Z""#;
        let json = format!("{{\"id\":\"1\",\"source\":\"x\",\"type\":\"a\u{9b}b\",{place}}}");
        assert_eq!(stored_from_json(&json).unwrap().event.kind, "a\u{9b}b");
    }
}
