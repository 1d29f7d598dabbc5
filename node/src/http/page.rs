//! The page: one live table of nodes, segments, owners, lag, and set-aside sequences. Its files are part of the
//! program; its data is sent as server-sent events, built from the same answers that scripts get.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::get,
};
use futures::stream;
use serde_json::json;

use super::{
    SharedApi,
    answer::{failed, typed},
    body::no_room,
};
use crate::{
    engine::{HISTORY_OPERATIONS_MAX, Operation, OperationFilter, Reply, Request},
    error::ApiError,
};

/// Interval between updates of the page.
const TICK: Duration = Duration::from_secs(1);

/// Maximum wait for the data that the page is served with.
const FIRST_WAIT: Duration = Duration::from_millis(300);

/// Maximum number of set-aside sequences shown for one processor. There may be a thousand.
const SEQUENCES_SHOWN_MAX: usize = 20;

/// Only resources of this server, and no script or style within the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the page.
pub(super) fn routes() -> Router<SharedApi> {
    let file = |kind: &'static str, text: &'static str| get(async move || served(kind, text));
    Router::new()
        .route("/", get(index))
        .route("/page/page.js", file("text/javascript; charset=utf-8", include_str!("../page/page.js")))
        .route("/page/page.css", file("text/css; charset=utf-8", include_str!("../page/page.css")))
        .route("/page/icon.svg", file("image/svg+xml", include_str!("../page/icon.svg")))
        .route("/page/live", get(live))
}

/// Serves the page with its first data, so that it is never empty: a screenshot taken at once shows the state.
/// The data is JSON that a browser does not run. If it is not available in time, the page loads it later.
async fn index(State(api): State<SharedApi>) -> Response {
    let first = tokio::time::timeout(FIRST_WAIT, snapshot(&api)).await;
    let first = first.map_or_else(|_| String::new(), |first| first.map_or_else(|_| String::new(), |s| s.to_string()));
    served("text/html; charset=utf-8", page(&first))
}

/// Returns the page with this JSON in it, whose texts may contain anything.
fn page(first: &str) -> String {
    include_str!("../page/index.html").replace("{first}", &first.replace('<', "\\u003c"))
}

fn served(kind: &'static str, text: impl Into<Body>) -> Response {
    let mut response = typed(StatusCode::OK, kind, text);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

async fn live(State(api): State<SharedApi>) -> Response {
    let place = match api.budget.stream() {
        Ok(place) => place,
        Err(error) => return failed(&error),
    };
    let start = (api, place, Duration::ZERO);
    let events = stream::unfold(start, |(api, place, wait)| async move {
        tokio::time::sleep(wait).await;
        let event = match snapshot(&api).await {
            Ok(snapshot) => api.budget.answer(format!("data: {snapshot}\n\n")).ok_or_else(no_room),
            Err(error) => Err(error),
        };
        let event = event.unwrap_or_else(|error| {
            format!("event: trouble\ndata: {}\n\n", error.message.replace(['\n', '\r'], " ")).into()
        });
        Some((Ok::<_, std::convert::Infallible>(event), (api, place, TICK)))
    });
    let mut response = typed(StatusCode::OK, "text/event-stream", Body::from_stream(events));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the data of the page.
async fn snapshot(api: &SharedApi) -> Result<serde_json::Value, ApiError> {
    let (status, cluster, processors) = tokio::try_join!(
        api.answers.call(Request::Status),
        api.answers.call(Request::ClusterStatus),
        api.answers.call(Request::Processors),
    )?;
    let (Reply::Status(status), Reply::Cluster(cluster), Reply::Processors(processors)) = (status, cluster, processors)
    else {
        unreachable!("each request has its own kind of answer");
    };
    let mut dead_letters = BTreeMap::new();
    for processor in processors.iter().filter(|processor| processor.set_aside.sequences > 0) {
        // It may have been deleted in the meantime.
        let asked = Request::DeadLetters(processor.name.clone());
        if let Ok(Reply::DeadLetters(mut letters)) = api.answers.call(asked).await {
            letters.truncate(SEQUENCES_SHOWN_MAX);
            dead_letters.insert(processor.name.clone(), letters);
        }
    }
    let history = history(api).await;
    Ok(json!({
        "status": status,
        "cluster": cluster,
        "processors": processors,
        "dead_letters": dead_letters,
        "history": history,
    }))
}

/// Returns the last operations on each processor, of those on one page of the list.
async fn history(api: &SharedApi) -> BTreeMap<String, Vec<Operation>> {
    let mut history: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    let Ok(Reply::Operations(operations)) = api.answers.call(Request::Operations(OperationFilter::default())).await
    else {
        return history;
    };
    for operation in operations {
        let Some(name) = operation.note.as_ref().and_then(|note| note.subject.processor.clone()) else { continue };
        let last = history.entry(name).or_default();
        if last.len() < HISTORY_OPERATIONS_MAX {
            last.push(operation);
        }
    }
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_cannot_close_its_script_element() {
        let page = page(r#"{"cause":"</script><script>alert(1)</script><!--"}"#);
        assert!(page.contains(r#"<script type="application/json" id="first">{"cause":"\u003c/script>"#), "{page}");
        assert!(!page.contains("alert(1)</script>") && !page.contains("{first}"));
    }
}
