//! Tags as one text: a CloudEvents extension holds no list.

use super::Error;

/// Joins tags by commas. In each of them `%`, commas, control characters and the spaces at either end are
/// percent-encoded first.
#[must_use]
pub fn join_tags(tags: &[String]) -> String {
    let mut out = String::new();
    for (i, tag) in tags.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let inner = tag.trim_matches(' ');
        let lead = tag.len() - tag.trim_start_matches(' ').len();
        for (at, c) in tag.char_indices() {
            let edge = c == ' ' && (at < lead || at >= lead + inner.len());
            if c == '%' || c == ',' || c.is_ascii_control() || edge {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
    }
    out
}

/// Takes joined tags apart: spaces around a tag are not part of it, `%2C` is a comma, a `%` that no two hex
/// digits follow is itself, and a tag given twice counts once.
///
/// # Errors
/// Where a tag is empty, or its bytes are no UTF-8.
pub fn split_tags(joined: &str) -> Result<Vec<String>, Error> {
    let mut tags: Vec<String> = Vec::new();
    if joined.trim_matches(' ').is_empty() {
        return Ok(tags);
    }
    for (i, tag) in joined.split(',').enumerate() {
        let tag = percent_encoding::percent_decode_str(tag.trim_matches(' ')).decode_utf8();
        let tag = tag.map_err(|_| Error::wrong("tags", format!("has a tag that is not UTF-8, number {}", i + 1)))?;
        if tag.is_empty() {
            return Err(Error::wrong("tags", format!("has an empty tag, number {}", i + 1)));
        }
        if !tags.iter().any(|known| *known == tag) {
            tags.push(tag.into_owned());
        }
    }
    Ok(tags)
}
