//! HTTP: the routes of all verbs, and those that only browsers and monitoring need.
//!
//! Rules: idle clients hold neither connections nor memory ([`connections`], [`body`]), every error
//! is JSON with a code ([`answer`]), and this module decides nothing: it passes requests to an [`Answers`].

mod answer;
mod body;
mod connections;
mod health;
mod hosts;
mod metrics;
mod openapi;
mod page;
mod requester;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{RawPathParams, RawQuery, Request, State},
    http::{HeaderMap, Method, Uri},
    response::Response,
    routing::{MethodFilter, MethodRouter, get, on},
};

use crate::{
    codes,
    engine::{Answers, TABLE, Verb, VerbEntry},
    error::ApiError,
    health::Health,
    metrics::Metrics,
    wire::{Call, binding},
};

#[cfg(test)]
pub(crate) use connections::CONNECTIONS_MAX;
pub(crate) use connections::{connections_max, serve};
pub(crate) use hosts::Hosts;
pub(crate) use requester::Requester;

use answer::{failed, reply};
use body::Budget;

/// The shared state of the routes, cloned several times for each request.
type SharedApi = Arc<Api>;

/// The shared state of the routes.
pub(crate) struct Api {
    /// Answers the requests.
    pub answers: Arc<dyn Answers>,
    /// Metrics for `/metrics`.
    pub metrics: Metrics,
    /// Checks for `/livez`, `/readyz` and `/healthz`.
    pub health: Health,
    /// Host names that requests may use.
    pub hosts: Hosts,
    budget: Budget,
}

impl Api {
    /// Returns an API over `answers`, served under these host names.
    #[must_use]
    pub(crate) fn new(answers: Arc<dyn Answers>, metrics: Metrics, health: Health, hosts: Hosts) -> Self {
        Self { answers, metrics, health, hosts, budget: Budget::default() }
    }

    /// Returns the router with all routes.
    pub(crate) fn router(self) -> Router {
        let api = Arc::new(self);
        let mut router = Router::new();
        for row in TABLE {
            router = router.route(row.path, route(row));
        }
        router
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/healthz", get(health::all))
            .route("/metrics", get(metrics::show))
            .route("/openapi.json", get(openapi::show))
            .merge(page::routes())
            .fallback(no_such_route)
            .method_not_allowed_fallback(no_such_method)
            .layer(axum::middleware::from_fn_with_state(api.clone(), own_site))
            .layer(axum::middleware::from_fn_with_state(api.clone(), counted))
            .layer(axum::middleware::from_fn_with_state(api.clone(), metrics::count))
            .layer(axum::middleware::from_fn(requester::identify))
            .with_state(api)
    }
}

fn route(row: &VerbEntry) -> MethodRouter<SharedApi> {
    let method = match row.method {
        "GET" => MethodFilter::GET,
        "DELETE" => MethodFilter::DELETE,
        _ => MethodFilter::POST,
    };
    let verb = row.verb;
    let answer = move |State(api): State<SharedApi>,
                       Extension(requester): Extension<Requester>,
                       path: RawPathParams,
                       RawQuery(query): RawQuery,
                       request: Request| {
        let path = path.iter().map(|(_, value)| value.to_owned()).collect();
        let call = Call { path, query: query.unwrap_or_default(), body: Vec::new() };
        async move { answered(api, verb, call, requester, request).await.unwrap_or_else(|error| failed(&error)) }
    };
    on(method, answer)
}

async fn answered(
    api: SharedApi,
    verb: Verb,
    mut call: Call,
    Requester(principal): Requester,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let held = api.budget.read(verb, &parts.headers, body, || api.answers.limits()).await?;
    call.body = if verb == Verb::Append { binding::append(&parts.headers, held.bytes)? } else { held.bytes };
    match verb {
        Verb::AppendMany => stream::append_many(&api, &call).await,
        Verb::Read | Verb::ReadBy => stream::read(&api, call.parse(verb)?).await,
        Verb::Tail => stream::tail(&api, call.parse(verb)?, &parts.headers).await,
        _ => api.answers.call(call.parse(verb)?.asked_by(principal)).await.map(|answer| reply(verb, &answer)),
    }
}

async fn no_such_route(uri: Uri, headers: HeaderMap) -> Response {
    let grpc = headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        return failed(&ApiError::not_yet("gRPC"));
    }
    failed(&unknown_route(uri.path()))
}

/// Returns the error for an unknown path, with the route that was probably meant: one with the command line's words, or
/// with this path as its end.
fn unknown_route(path: &str) -> ApiError {
    let open = if path.len() > 1 && path.ends_with('/') { ": the part after the last / is missing" } else { "" };
    let error = ApiError::new(&codes::NO_SUCH_ROUTE, format!("no route at {path}{open}"));
    let path = path.trim_end_matches('/');
    let words = path.trim_start_matches('/').replace('/', " ");
    let meant = |row: &&VerbEntry| !words.is_empty() && (row.words == words || row.path.ends_with(path));
    match TABLE.iter().find(meant) {
        Some(VerbEntry { method, path, .. }) => {
            error.hint(format!("did you mean {method} {path}? GET /openapi.json lists all routes"))
        }
        None => error,
    }
}

async fn no_such_method(method: Method, uri: Uri) -> Response {
    failed(&ApiError::new(&codes::NO_SUCH_METHOD, format!("{} does not take {method}", uri.path())))
}

/// Counts the answer against the budget of all answers until the client has read it.
async fn counted(State(api): State<SharedApi>, request: Request, next: axum::middleware::Next) -> Response {
    api.budget.counted(next.run(request).await).await
}

/// Refuses requests of another site's page in a browser on this machine: there is no other protection yet. Such a page
/// has its own `Origin`, or makes its own host name resolve to this machine (DNS rebinding).
async fn own_site(State(api): State<SharedApi>, request: Request, next: axum::middleware::Next) -> Response {
    if let Some(host) = api.hosts.foreign(request.uri(), request.headers()) {
        let message = format!("the request is addressed to {host:?}, which is not a name of this node");
        return failed(&ApiError::new(&codes::OTHER_HOST, message));
    }
    match foreign(request.headers()) {
        None => next.run(request).await,
        Some(origin) => {
            let message = format!("a page of {origin} may not use this server");
            failed(&ApiError::new(&codes::OTHER_ORIGIN, message))
        }
    }
}

fn foreign(headers: &HeaderMap) -> Option<String> {
    let host = headers.get("host").and_then(|value| value.to_str().ok());
    // An origin that cannot be parsed counts as another site.
    let origins = headers.get_all("origin").iter().map(|origin| origin.to_str().unwrap_or("?"));
    let is_foreign = |origin: &str| {
        let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
        host != Some(authority)
    };
    origins.into_iter().find(|origin| is_foreign(origin)).map(str::to_owned)
}
