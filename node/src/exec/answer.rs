//! Parses the answers of a handler program.

use serde::Deserialize;

use crate::handler::Verdict;

#[derive(Deserialize)]
struct Answer {
    delivery: u64,
    ok: Option<bool>,
    error: Option<String>,
    verdict: Option<VerdictName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum VerdictName {
    Retry,
    SetAside,
    Skip,
}

/// Parses a printed line as the verdict on delivery `asked`, or returns why it is none.
pub(crate) fn read(line: &[u8], asked: u64) -> Result<Verdict, String> {
    let expected = format!("expected {{\"delivery\":{asked},\"ok\":true}} or {{\"delivery\":{asked},\"error\":\"…\"}}");
    let shown = shown(line);
    let refuse = |why: String| format!("printed {shown}, which is not an answer: {why}; {expected}");
    let answer: Answer = serde_json::from_slice(line).map_err(|error| refuse(error.to_string()))?;
    if answer.delivery != asked {
        return Err(refuse(format!("it answers delivery {}", answer.delivery)));
    }
    match (answer.ok, answer.error, answer.verdict) {
        (Some(true), None, None) => Ok(Verdict::Handled),
        (None | Some(false), Some(cause), name) => Ok(failed(cause, name)),
        (Some(true), ..) => Err(refuse("it is both ok and failed".to_owned())),
        _ => Err(refuse("it has neither `\"ok\":true` nor an `error`".to_owned())),
    }
}

fn failed(cause: String, name: Option<VerdictName>) -> Verdict {
    let cause = crate::handler::cause(cause);
    match name {
        None | Some(VerdictName::Retry) => Verdict::Retry { cause, after: None },
        Some(VerdictName::SetAside) => Verdict::SetAside { cause },
        Some(VerdictName::Skip) => Verdict::Skip { cause },
    }
}

/// Bytes of a printed line that errors show.
const SHOWN_MAX: usize = 120;

/// Returns the first bytes of a printed line in readable form.
pub(super) fn shown(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(&printed[..printed.len().min(SHOWN_MAX)]);
    let text = text.trim_end_matches(['\n', '\r']);
    if printed.len() > SHOWN_MAX { format!("{text:?} …") } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_verdict() {
        let check = |line: &str, expected: Verdict| assert_eq!(read(line.as_bytes(), 7), Ok(expected), "of {line}");
        let cause = || "no".to_owned();
        check(r#"{"delivery":7,"ok":true}"#, Verdict::Handled);
        check(r#"{"delivery":7,"error":"no"}"#, Verdict::Retry { cause: cause(), after: None });
        check(r#"{"delivery":7,"ok":false,"error":"no","verdict":"retry"}"#, Verdict::retry("no"));
        check(r#"{"delivery":7,"error":"no","verdict":"set-aside"}"#, Verdict::SetAside { cause: cause() });
        check(r#"{"verdict":"skip","delivery":7,"error":"no","more":1}"#, Verdict::Skip { cause: cause() });
    }

    #[test]
    fn an_error_without_a_text_has_a_cause_for_every_verdict() {
        for verdict in ["", r#","verdict":"retry""#, r#","verdict":"set-aside""#, r#","verdict":"skip""#] {
            let line = format!(r#"{{"delivery":7,"error":""{verdict}}}"#);
            let (Verdict::Retry { cause, .. } | Verdict::SetAside { cause } | Verdict::Skip { cause }) =
                read(line.as_bytes(), 7).unwrap()
            else {
                panic!("it failed: {line}");
            };
            assert_eq!(cause, "the handler gave no reason", "{line}");
        }
    }

    #[test]
    fn an_invalid_answer_is_shown_with_the_expected_one() {
        let why = |line: &str| read(line.as_bytes(), 7).unwrap_err();
        assert_eq!(
            why("hello\r\n"),
            "printed \"hello\", which is not an answer: expected value at line 1 column 1; \
             expected {\"delivery\":7,\"ok\":true} or {\"delivery\":7,\"error\":\"…\"}"
        );
        assert!(why(r#"{"delivery":6,"ok":true}"#).contains("it answers delivery 6;"));
        assert!(why(r#"{"delivery":7}"#).contains("it has neither"));
        assert!(why(r#"{"delivery":7,"ok":true,"error":"x"}"#).contains("both ok and failed"));
        assert!(why(r#"{"delivery":7,"error":"x","verdict":"stop"}"#).contains("unknown variant `stop`"));
        assert!(why(&"x".repeat(500)).len() < 400);
    }
}
