//! Answers in JSON. Pages of events are not here: they stream, line by line.

use evener_core::{append::Appended, id::Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    codes,
    engine::{Reply, Verb},
    error::ApiError,
};

#[derive(Deserialize, Serialize)]
struct AppendedBody {
    first: u64,
    next: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

/// Writes an answer; none for a page.
#[must_use]
pub fn encode(reply: &Reply) -> Option<Vec<u8>> {
    match reply {
        Reply::Appended(appended) => Some(text(&AppendedBody::from(*appended))),
        Reply::Many(answers) => Some(answers.iter().flat_map(|answer| appended_line(answer).into_bytes()).collect()),
        Reply::Page(_) => None,
        Reply::Processors(processors) => Some(text(processors)),
        Reply::Processor(processor) => Some(text(processor)),
        Reply::DeadLetters(letters) => Some(text(letters)),
        Reply::Status(status) => Some(text(status)),
        Reply::Cluster(cluster) => Some(text(cluster)),
        Reply::Operations(operations) => Some(text(operations)),
        Reply::Operation(operation) => Some(text(operation)),
    }
}

/// The line that answers one append of a batch.
#[must_use]
pub fn appended_line(answer: &Result<Appended, ApiError>) -> String {
    let json = match answer {
        Ok(appended) => serde_json::to_string(&AppendedBody::from(*appended)),
        Err(error) => serde_json::to_string(error),
    };
    json.expect("answers are plain values") + "\n"
}

/// Reads the answer to `verb`.
pub fn decode(verb: Verb, body: &[u8]) -> Result<Reply, ApiError> {
    match verb {
        Verb::Append => read::<AppendedBody>(body).map(|body| Reply::Appended(body.into())),
        Verb::AppendMany => {
            let lines = super::append::lines(body).map(appended_answer);
            lines.collect::<Result<Vec<_>, _>>().map(Reply::Many)
        }
        Verb::Processors => read(body).map(Reply::Processors),
        Verb::Processor => read(body).map(Reply::Processor),
        Verb::DeadLetters => read(body).map(Reply::DeadLetters),
        Verb::Status => read(body).map(Reply::Status),
        Verb::ClusterStatus => read(body).map(Reply::Cluster),
        Verb::Operations => read(body).map(Reply::Operations),
        Verb::Read | Verb::ReadBy | Verb::Tail => Err(not_evener("a page of events comes line by line")),
        _ => read(body).map(Reply::Operation),
    }
}

fn appended_answer(line: &[u8]) -> Result<Result<Appended, ApiError>, ApiError> {
    match serde_json::from_slice::<AppendedBody>(line) {
        Ok(body) => Ok(Ok(body.into())),
        Err(_) => read::<ApiError>(line).map(Err),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| not_evener(&error.to_string()))
}

fn text(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers are plain values")
}

fn not_evener(why: &str) -> ApiError {
    ApiError::new(&codes::NOT_EVENER, format!("failed to read the server's answer: {why}"))
}

impl From<Appended> for AppendedBody {
    fn from(appended: Appended) -> Self {
        Self { first: appended.first.0, next: appended.next.0, repeated: appended.repeated }
    }
}

impl From<AppendedBody> for Appended {
    fn from(body: AppendedBody) -> Self {
        Self { first: Position(body.first), next: Position(body.next), repeated: body.repeated }
    }
}
