//! Connections of clients: how many may be open, how long each may take to say what it wants, and how long to take
//! some of its answer. Answers as a whole have no deadline: a tail never ends.
//!
//! Beyond [`CONNECTIONS_MAX`] a few more connections are read, so that whoever watches this node hears how it is
//! however many clients there are: `/livez`, `/readyz` and `/healthz` are answered there, all else is refused. The
//! newest of them is always read; the oldest makes room for it.

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

/// Connections that are open at one time: twice as many as streams, so that streams alone cannot take them all.
pub(crate) const CONNECTIONS_MAX: usize = 2_048;
/// Beyond that so many are read, for questions of health, and to tell others why they are not served.
const RESERVED_MAX: usize = 64;
/// Each of these has so long to ask, and to hear the answer.
const RESERVED_WAIT: Duration = Duration::from_secs(2);
/// What is answered there.
const HEALTH_PATHS: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// A peer that takes nothing of its answer for so long is let go: what it was to be given takes memory.
const WRITE_WAIT: Duration = Duration::from_secs(30);
/// The head of a request comes within this time, the first as well as any later one: it fits a few packets. So an
/// idle connection is closed after it, too; a client that has more to say opens another.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// Bytes of the head of a request, and of what is read ahead of its body: what each connection may hold.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// After a connection could not be accepted, as where no file may be opened any more, others have time to end.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// [`CONNECTIONS_MAX`], and no more than half of the files that this process may open: the log needs the others.
#[must_use]
pub(crate) fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS_MAX, |files| CONNECTIONS_MAX.min(files / 2))
}

/// Serves whoever connects until `stop`, and then those that are being served.
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
                // Answers are small and many: none may wait for the next one to fill a packet.
                let _ = stream.set_nodelay(true);
                if served.len() < connections_max {
                    served.spawn(connection(stream, router.clone(), stop.clone()));
                } else {
                    reserved.take(stream, &stop);
                }
            }
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no client can connect for now");
                sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while served.join_next().await.is_some() {}
}

/// Connections beyond the greatest number of them.
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

    /// Reads a connection more; the oldest ends if there are too many. So whoever asks at once is answered, and those
    /// that connect and say nothing keep nobody out.
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

/// Answers how this node is, and everything else with why it is not served; either ends the connection.
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

/// Whether it is the trouble of the one that wanted to connect.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
