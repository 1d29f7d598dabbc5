//! The threads of handlers. They are separate, so that a blocking handler does not delay heartbeats.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use evener_core::replay::ReplayPhase;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Delivery, Error, HandlerWatch, Reset, Result, Runner, SequenceGuard, SequenceLocks, Verdict, processor::message,
};
use crate::threads::Threads;

/// The runtime that handlers run on. Clones share it.
#[derive(Clone)]
pub struct Handlers {
    threads: Threads,
    watch: HandlerWatch,
    sequence_locks: SequenceLocks,
}

impl Handlers {
    /// Starts a runtime with this many threads.
    ///
    /// # Errors
    /// If no thread can be created.
    pub fn new(handler_threads: usize) -> io::Result<Self> {
        Ok(Self {
            threads: Threads::new("handler", handler_threads)?,
            watch: HandlerWatch::default(),
            sequence_locks: SequenceLocks::default(),
        })
    }

    /// Uses the current runtime, whose time a test or a simulation controls.
    ///
    /// # Panics
    /// If called outside a runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { threads: Threads::current(), watch: HandlerWatch::default(), sequence_locks: SequenceLocks::default() }
    }

    /// Handles one event in its own task. Dropping the returned value cancels the task at its next `.await`.
    pub fn run(&self, runner: &Arc<dyn Runner>, delivery: Delivery) -> Running {
        let (runner, watch) = (runner.clone(), self.watch.clone());
        // Released when the handler ends, even if something else still holds the delivery.
        let guard = delivery.guard.clone();
        let told = Delivery { guard: SequenceGuard::default(), ..delivery.clone() };
        let handling = watch.watched(told, async move { runner.run(delivery).await });
        Running(self.threads.spawn(async move {
            let _guard = guard;
            handling.await
        }))
    }

    /// Runs a hook of a replay. Dropping the returned future cancels the hook at its next `.await`.
    pub async fn run_hook(&self, runner: Arc<dyn Runner>, phase: ReplayPhase, reset: Reset) -> Result {
        let task = AbortOnDropHandle::new(self.threads.spawn(async move { runner.run_hook(phase, reset).await }));
        task.await.unwrap_or_else(|_| Err(Error::retry("the hook was ended with the node")))
    }

    /// Closes a segment on its runner.
    pub fn close(&self, runner: &Arc<dyn Runner>, segment: evener_core::id::SegmentId) -> JoinHandle<()> {
        self.threads.spawn(runner.close(segment))
    }

    /// Returns the sequences that are being handled on this node.
    pub(crate) const fn sequence_locks(&self) -> &SequenceLocks {
        &self.sequence_locks
    }

    /// Returns the watch that reports handlers that block their thread.
    #[must_use]
    pub fn watch(&self) -> &HandlerWatch {
        &self.watch
    }
}

/// A running handler. Dropping it cancels the handler.
#[derive(Debug)]
#[must_use = "dropping this ends the handler"]
pub struct Running(JoinHandle<Verdict>);

impl Future for Running {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        Pin::new(&mut self.0).poll(cx).map(|joined| match joined {
            Ok(verdict) => verdict,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => Verdict::retry(format!("the handler panicked: {}", message(&*panic))),
                Err(_) => Verdict::retry("the handler was ended with the node"),
            },
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
