//! Liveness and readiness of this node, for supervisors and load balancers.

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};

use super::{SharedApi, answer::typed};
use crate::health::Check;

/// `/livez`.
pub(super) async fn live(State(api): State<SharedApi>) -> Response {
    line("alive", (api.health)().into_iter().filter(|check| check.vital))
}

/// `/readyz`.
pub(super) async fn ready(State(api): State<SharedApi>) -> Response {
    line("ready", (api.health)().into_iter())
}

/// `/healthz`, with `?verbose` one line a check.
pub(super) async fn all(State(api): State<SharedApi>, RawQuery(query): RawQuery) -> Response {
    let checks = (api.health)();
    if query.as_deref().is_none_or(|query| !query.starts_with("verbose")) {
        return line("healthy", checks.into_iter());
    }
    let status = status(checks.iter().all(|check| check.trouble.is_none()));
    let lines = checks.iter().map(|check| match &check.trouble {
        None => match &check.note {
            None => format!("ok   {}\n", check.name),
            Some(note) => format!("ok   {}: {note}\n", check.name),
        },
        Some(trouble) => format!("FAIL {}: {trouble}\n", check.name),
    });
    typed(status, "text/plain; charset=utf-8", lines.collect::<String>())
}

fn line(good: &str, checks: impl Iterator<Item = Check>) -> Response {
    let (mut trouble, mut good) = (None, good.to_owned());
    for check in checks {
        trouble = trouble.or(check.trouble.map(|trouble| format!("{}: {trouble}", check.name)));
        good += &check.note.map_or_else(String::new, |note| format!("; {note}"));
    }
    let status = status(trouble.is_none());
    typed(status, "text/plain; charset=utf-8", trouble.unwrap_or(good) + "\n")
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
