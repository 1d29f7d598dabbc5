//! The door of a node: where clients reach it over HTTP.

use std::{sync::Arc, time::Duration};

use evener_cluster::transport::tcp::explain;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    codes,
    engine::Late,
    error::ApiError,
    health::Health,
    http::{self, Api, Hosts},
    metrics::Metrics,
    settings::Settings,
    threads::Threads,
};

/// How long requests under way may take when the node ends; then they are cut off, as those that follow events
/// would never end.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Where clients reach a node.
pub(super) struct Door {
    url: String,
    serving: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
}

impl Door {
    /// Takes the address, and answers who knocks: at first that the node is starting.
    pub(super) async fn open(
        settings: &Settings,
        threads: &Threads,
        late: Late,
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
            // The port is the system's choice where none was named.
            None if settings.listen.port() == 0 => format!("http://{bound}"),
            None => format!("http://{}", settings.listen),
        };
        let router = Api::new(Arc::new(late), metrics.clone(), health, Hosts::of(settings)).router();
        let stop = CancellationToken::new();
        let serving = threads.spawn(http::serve(listener, router, http::connections_max(), metrics, stop.clone()));
        Ok(Self { url, serving: Mutex::new(Some(serving)), stop })
    }

    /// What clients are told.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Answers nobody new, and lets those under way end.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let Some(mut serving) = self.serving.lock().take() else { return };
        if timeout(CLOSE_WAIT, &mut serving).await.is_err() {
            serving.abort();
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().take() {
            serving.abort();
        }
    }
}
