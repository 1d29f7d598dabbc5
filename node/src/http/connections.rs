//! Connections of clients: how many may be open, and how long each may take to say what it wants. Answers have no
//! deadline here: a tail never ends.

use std::{io, time::Duration};

use axum::{Router, extract::Request};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{answer::failed, body::overloaded};

/// Connections that are open at one time: twice as many as streams, so that streams alone cannot take them all.
pub const CONNECTIONS_MAX: usize = 2_048;
/// Beyond that so many are told why they are not served; any more are closed without a word.
const REFUSED_MAX: usize = 64;
/// Whoever is refused has so long to ask, and to hear why.
const REFUSED_WAIT: Duration = Duration::from_secs(2);
/// The head of a request comes within this time, the first as well as any later one: it fits a few packets. So an
/// idle connection is closed after it, too; a client that has more to say opens another.
const HEAD_WAIT: Duration = Duration::from_secs(30);
/// Bytes of the head of a request, and of what is read ahead of its body: what each connection may hold.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// After a connection could not be accepted, as where no file may be opened any more, others have time to end.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// [`CONNECTIONS_MAX`], and no more than half of the files that this process may open: the log needs the others.
#[must_use]
pub fn connections_max() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(CONNECTIONS_MAX, |files| CONNECTIONS_MAX.min(files / 2))
}

/// Serves whoever connects until `stop`, and then those that are being served.
pub async fn serve(listener: TcpListener, router: Router, connections_max: usize, stop: CancellationToken) {
    let (mut served, mut refused) = (JoinSet::new(), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = served.join_next() => continue,
            Some(_) = refused.join_next() => continue,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and many: none may wait for the next one to fill a packet.
                let _ = stream.set_nodelay(true);
                if served.len() < connections_max {
                    served.spawn(connection(stream, router.clone(), stop.clone()));
                } else if refused.len() < REFUSED_MAX {
                    let refusal = connection(stream, refusing(connections_max), stop.clone());
                    refused.spawn(async move { drop(timeout(REFUSED_WAIT, refusal).await) });
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

/// Serves one connection: one request after the other, and none after `stop`.
async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT).max_buf_size(HEAD_BYTES_MAX);
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

/// Answers everything with why it is not served, and ends the connection.
fn refusing(connections_max: usize) -> Router {
    Router::new().fallback(move |_: Request| async move {
        let mut response = failed(&overloaded(format!("{connections_max} connections are open already")));
        response.headers_mut().insert("connection", axum::http::HeaderValue::from_static("close"));
        response
    })
}

/// Whether it is the trouble of the one that wanted to connect.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
