//! Escapes untrusted text for a terminal: characters that move the cursor, change colours or change the writing
//! direction.

use std::{borrow::Cow, fmt::Write};

/// Returns a text whose control characters are escaped as in Rust (`\u{1b}`), except for ends of lines and tabs.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unprintable(c) && !matches!(c, '\n' | '\t'), |out, c| write!(out, "{}", c.escape_unicode()))
}

/// Returns a JSON text that means the same and can be shown: JSON allows DEL and U+0080 to U+009F unescaped in strings,
/// and some terminals interpret them as the start of a control sequence.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // They occur only inside strings; line ends are kept.
    escaped(json, |c| is_unprintable(c) && !c.is_ascii_whitespace(), |out, c| write!(out, "\\u{:04x}", u32::from(c)))
}

/// Returns whether a terminal may interpret a character instead of showing it.
fn is_unprintable(c: char) -> bool {
    // The directional formatting characters of Unicode can make a line read as another one.
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(
    text: &str,
    escapes: impl Fn(char) -> bool,
    escape: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(&escapes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escapes(c) {
            escape(&mut out, c).expect("a String takes all text");
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\n\té漢 ok"), "a\n\té漢 ok");
        assert_eq!(printable("\x1b[31mred\u{9b}2J\u{7f}\r\u{202e}"), r"\u{1b}[31mred\u{9b}2J\u{7f}\u{d}\u{202e}");
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        assert!(printable(&all).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
    }

    #[test]
    fn json_means_the_same_when_it_is_printable() {
        let text = "\u{9b}2J\u{7f} \u{85}é\u{202e}\n";
        let json = serde_json::to_string(&[text]).unwrap();
        assert!(json.contains('\u{9b}'), "it is not escaped before");
        let shown = printable_json(&json);
        assert!(!shown.contains(char::is_control), "{shown}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        let pretty = "{\n  \"a\": 1\n}";
        assert_eq!(printable_json(pretty), pretty);
    }
}
