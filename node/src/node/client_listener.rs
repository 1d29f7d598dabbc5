//! The HTTP listener of a node, for clients.

use std::{sync::Arc, time::Duration};

use evener_cluster::transport::tcp::explain;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    codes,
    engine::EngineCell,
    error::ApiError,
    health::Health,
    http::{self, Api, Hosts},
    metrics::Metrics,
    settings::Settings,
    threads::Threads,
};

/// How long open requests may take when the node stops. Then they are aborted, since those that follow events never
/// end.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The HTTP listener and server of a node.
pub(super) struct ClientListener {
    url: String,
    serving: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl ClientListener {
    /// Binds the address and serves requests; until the engine is started they are answered that the node is starting.
    pub(super) async fn open(
        settings: &Settings,
        threads: &Threads,
        cell: EngineCell,
        health: Health,
        metrics: Metrics,
    ) -> Result<Self, ApiError> {
        let address = settings.listen.to_string();
        let failed = |error| ApiError::new(&codes::PORT_IN_USE, explain(&address, &error).to_string());
        let listener = threads.spawn(TcpListener::bind(address.clone())).await;
        let listener = listener.map_err(std::io::Error::other).flatten().map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let url = match &settings.advertise {
            Some(advertised) => format!("http://{advertised}"),
            // Port 0 lets the system choose the port.
            None if settings.listen.port() == 0 => format!("http://{bound}"),
            None => format!("http://{}", settings.listen),
        };
        let router = Api::new(Arc::new(cell), metrics.clone(), health, Hosts::of(settings)).router();
        let stop = CancellationToken::new();
        let serving = threads.spawn(http::serve(listener, router, http::connections_max(), metrics, stop.clone()));
        Ok(Self { url, serving: Mutex::new(Some(serving)), stop })
    }

    /// Returns the URL that clients use.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Stops accepting requests and lets open ones finish.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let Some(mut serving) = self.serving.lock().take() else { return };
        if timeout(CLOSE_WAIT, &mut serving).await.is_err() {
            serving.abort();
        }
    }
}

impl Drop for ClientListener {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().take() {
            serving.abort();
        }
    }
}
