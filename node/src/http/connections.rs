//! Client connections: their maximum number, and the timeouts of request heads and of writes. Answers as a whole have
//! no deadline: a tail never ends.
//!
//! Beyond [`CONNECTIONS_MAX`] a few reserved connections are served, so that health checks work with any number of
//! clients: they answer `/livez`, `/readyz` and `/healthz`, and refuse everything else. The newest connection is always
//! served; if there are too many, the oldest is closed.

mod deadline;

use std::{collections::VecDeque, io, time::Duration};

use axum::{Router, extract::Request, http::HeaderValue, middleware::Next, response::Response};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{answer::failed, body::overloaded};
use crate::metrics::Metrics;
use deadline::WriteDeadline;

/// Maximum number of open connections: twice that of streams, so that streams alone cannot take them all.
pub(crate) const CONNECTIONS_MAX: usize = 2_048;
/// Number of reserved connections beyond that, for health checks, and to refuse other requests with a reason.
const RESERVED_MAX: usize = 64;
/// Time for the request and the answer of a reserved connection.
const RESERVED_WAIT: Duration = Duration::from_secs(2);
/// Paths that reserved connections answer.
const HEALTH_PATHS: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// The connection to a client that reads nothing of its answer for this time is closed: the answer holds memory.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// The head of each request must arrive within this time: it fits a few packets. So an idle connection is closed after
/// it, too; the client then opens another one.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// Maximum size of the head of a request and of the read-ahead of its body: the memory of a connection.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause after accepting a connection failed (no free file descriptor, say), so that others can end.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// Returns [`CONNECTIONS_MAX`], or half of the files that this process may open if that is less: the log needs the
/// others.
#[must_use]
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS_MAX, |files| CONNECTIONS_MAX.min(files / 2))
}

/// Accepts and serves connections until `stop`, then completes the requests in progress.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut served = JoinSet::new();
    let mut reserved = Reserved::new(reserved(&router, connections_max));
    loop {
        metrics.connections.set(i64::try_from(served.len()).unwrap_or(i64::MAX));
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = served.join_next() => continue,
            Some(_) = reserved.tasks.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and many: none must wait for the next one to fill a packet.
                let _ = stream.set_nodelay(true);
                if served.len() < connections_max {
                    served.spawn(connection(stream, router.clone(), stop.clone()));
                } else {
                    reserved.take(stream, &stop);
                }
            }
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::error!(%error, "failed to accept a connection");
                sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while served.join_next().await.is_some() {}
}

/// Connections beyond the maximum.
struct Reserved {
    router: Router,
    tasks: JoinSet<()>,
    /// Oldest first; some may have ended.
    order: VecDeque<AbortHandle>,
}

impl Reserved {
    fn new(router: Router) -> Self {
        Self { router, tasks: JoinSet::new(), order: VecDeque::new() }
    }

    /// Serves one more connection; closes the oldest if there are too many. So a request that is sent at once is
    /// answered, and idle connections block no other.
    fn take(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, stop: &CancellationToken) {
        self.order.retain(|task| !task.is_finished());
        if self.order.len() >= RESERVED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        let serving = connection(stream, self.router.clone(), stop.clone());
        self.order.push_back(self.tasks.spawn(async move { drop(timeout(RESERVED_WAIT, serving).await) }));
    }
}

/// Serves one connection: one request after the other, and none after `stop`.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_BYTES_MAX);
    let stream = WriteDeadline::new(stream, WRITE_WAIT);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Returns a router that answers health checks, refuses everything else, and closes the connection.
fn reserved(router: &Router, connections_max: usize) -> Router {
    router.clone().layer(axum::middleware::from_fn(move |request: Request, next: Next| async move {
        let mut response: Response = if HEALTH_PATHS.contains(&request.uri().path()) {
            next.run(request).await
        } else {
            failed(&overloaded(format!("{connections_max} connections are open already")))
        };
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        response
    }))
}

/// Returns whether only the accepted connection failed.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
