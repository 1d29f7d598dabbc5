//! Ctrl-C, SIGTERM and a closed terminal: the process that started nodes stops them before it exits.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A stream of requests to end the process.
pub(crate) struct Interrupt([Option<Signal>; 3]);

impl Interrupt {
    /// Installs the signal handlers: the signals no longer end the process by themselves.
    pub(crate) fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        // A signal whose handler cannot be installed keeps its default action.
        Self(kinds.map(|kind| signal(kind).ok()))
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = recv_or_pending(interrupt) => {}
            () = recv_or_pending(terminate) => {}
            () = recv_or_pending(hangup) => {}
        }
    }
}

async fn recv_or_pending(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
