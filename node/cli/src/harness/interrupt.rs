//! Ctrl-C, SIGTERM or a terminal that was closed: whoever started nodes ends them, and leaves no process behind.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Wishes of a person or a supervisor that it ends, one after the other.
pub struct Interrupt([Option<Signal>; 3]);

impl Interrupt {
    /// From now on such a signal does not end the process by itself.
    pub fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        // Where one cannot be had, it does what it always does.
        Self(kinds.map(|kind| signal(kind).ok()))
    }

    /// The next one.
    pub async fn next(&mut self) {
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
