//! `/metrics`, and its count of requests.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, StatusCode, header::ACCEPT},
    middleware::Next,
    response::Response,
};
use tokio::time::Instant;

use super::{SharedApi, answer::typed};
use crate::{
    engine::{Processor, Reply, Request as Asked, Status},
    metrics::{Form, LimitLabels, Metrics, ProcessorLabels, RequestLabels, RouteLabels, SegmentLabels},
};

/// Counts a request.
pub(super) async fn count(State(api): State<SharedApi>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "other".into(), |path| path.as_str().into());
    let begun = Instant::now();
    let response = next.run(request).await;
    let of_route = RouteLabels { route };
    api.metrics.request_time.get_or_create(&of_route).observe(begun.elapsed().as_secs_f64());
    let of_request = RequestLabels { route: of_route.route, status: response.status().as_u16() };
    api.metrics.requests.get_or_create(&of_request).inc();
    response
}

/// Serves the metrics; those of the state are measured on request.
pub(super) async fn show(State(api): State<SharedApi>, headers: HeaderMap) -> Response {
    let mut me = String::new();
    if let Ok(Reply::Status(status)) = api.answers.call(Asked::Status).await {
        measure(&api.metrics, &status);
        me = status.node;
    }
    if let Ok(Reply::Processors(processors)) = api.answers.call(Asked::Processors).await {
        api.metrics.clear_processors();
        processors.iter().for_each(|processor| measure_processor(&api.metrics, processor, &me));
    }
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let form = Form::accepted(accept);
    typed(StatusCode::OK, form.content_type(), form.of(api.metrics.text()))
}

fn measure(metrics: &Metrics, status: &Status) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.head.set(number(status.head));
    metrics.applied.set(number(status.applied));
    metrics.durable.set(number(status.durable));
    metrics.disk_free.set(number(status.disk.free_bytes));
    metrics.log_bytes.set(number(status.disk.log_bytes));
    metrics.disk_reserve.set(number(status.disk.reserve_bytes));
    metrics.disk_refuses.set(i64::from(status.disk.appends_refused.is_some()));
    metrics.term.set(number(status.term));
    metrics.leader.set(i64::from(status.role == "leader"));
    let seconds = |millis: f64| millis / 1_000.0;
    metrics.clock_ahead.set(seconds(status.clock_ahead_ms.unwrap_or(0) as f64));
    metrics.log_ahead.set(seconds(status.log_ahead_ms as f64));
}

fn measure_processor(metrics: &Metrics, processor: &Processor, me: &str) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let name = ProcessorLabels { processor: processor.name.clone() };
    for segment in &processor.segments {
        let of = SegmentLabels { processor: processor.name.clone(), segment: segment.id };
        metrics.lag_events.get_or_create(&of).set(number(segment.lag_events));
        metrics.lag_time.get_or_create(&of).set(segment.lag_seconds);
    }
    let owners = || processor.segments.iter().map(|segment| segment.owner.as_deref());
    metrics.owned.get_or_create(&name).set(count(owners().filter(|owner| *owner == Some(me)).count()));
    let stalled = processor.segments.iter().filter(|segment| segment.state == "stalled").count();
    metrics.stalled.get_or_create(&name).set(count(stalled));
    metrics.unowned.get_or_create(&name).set(count(owners().filter(Option::is_none).count()));
    metrics.set_aside.get_or_create(&name).set(number(processor.set_aside.sequences));
    metrics.dead.get_or_create(&name).set(number(processor.set_aside.dead));
    metrics.skipped.get_or_create(&name).set(number(processor.skipped));
    metrics.letters.get_or_create(&name).set(number(processor.set_aside.letters));
    metrics.letters_fullest.get_or_create(&name).set(number(processor.room.letters.used));
    let limits = [("letters_max", processor.room.letters), ("sequences_max", processor.room.sequences)];
    for (limit, used) in limits {
        metrics.limits.get_or_create(&LimitLabels { limit }).set(number(used.max));
    }
}
