//! What an event must be before it is stored, whichever way it comes.

use evener_core::{
    event::{DataKind, Event},
    rfc3339,
};

use super::{DATA_DEPTH_MAX, Error, strings};

/// Checks an event that is to be stored. What is stored already, maybe under other rules, is read whatever is in it.
///
/// # Errors
///
/// Names the first attribute that cannot be stored, and why.
pub fn check(event: &Event) -> Result<(), Error> {
    strings::check(event)?;
    if let Some(time) = &event.time {
        let wrong = |error| Error::wrong("time", format!("is {time:?}, which {error} (RFC 3339)"));
        rfc3339::check(time).map_err(wrong)?;
    }
    if event.data_kind == DataKind::Json {
        shallow("data", &event.data)?;
    }
    event.extensions.iter().try_for_each(|(name, json)| shallow(name, json.as_bytes()))
}

/// Checks that any parser takes this JSON.
fn shallow(name: &str, json: &[u8]) -> Result<(), Error> {
    match depth(json) {
        deep if deep > DATA_DEPTH_MAX => {
            let why =
                format!("is nested {deep} deep, and data_depth_max is {DATA_DEPTH_MAX}: most parsers refuse more");
            Err(Error::wrong(name, why))
        }
        _ => Ok(()),
    }
}

/// Returns the depth to which arrays and objects are nested. The JSON is valid.
pub(super) fn depth(json: &[u8]) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !quoted => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}
