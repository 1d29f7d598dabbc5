//! Where handlers run: on threads of their own, so that one that blocks stops no heartbeat.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::task::JoinHandle;

use super::{Delivery, HandlerWatch, Runner, Turn, Turns, Verdict, processor::message};
use crate::threads::Threads;

/// The threads that handlers run on. Clones are the same threads.
#[derive(Clone)]
pub struct Handlers {
    threads: Threads,
    watch: HandlerWatch,
    turns: Turns,
}

impl Handlers {
    /// Threads of their own.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub fn new(handler_threads: usize) -> io::Result<Self> {
        Ok(Self {
            threads: Threads::new("handler", handler_threads)?,
            watch: HandlerWatch::default(),
            turns: Turns::default(),
        })
    }

    /// The runtime that this is called on: where a test or a simulation holds the time.
    ///
    /// # Panics
    /// Outside any runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { threads: Threads::current(), watch: HandlerWatch::default(), turns: Turns::default() }
    }

    /// Handles one event in a task of its own. Dropping what this returns ends it at its next `.await`.
    pub fn run(&self, runner: &Arc<dyn Runner>, delivery: Delivery) -> Running {
        let (runner, watch) = (runner.clone(), self.watch.clone());
        // It is given up when the handler has ended, whatever else still looks at the delivery.
        let turn = delivery.turn.clone();
        let told = Delivery { turn: Turn::default(), ..delivery.clone() };
        let handling = watch.watched(told, async move { runner.run(delivery).await });
        Running(self.threads.spawn(async move {
            let _turn = turn;
            handling.await
        }))
    }

    /// Tells a runner that a segment is at work here no longer.
    pub fn close(&self, runner: &Arc<dyn Runner>, segment: evener_core::id::SegmentId) -> JoinHandle<()> {
        self.threads.spawn(runner.close(segment))
    }

    /// Returns the sequences that are being handled on this node.
    pub(crate) const fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Names handlers that hold their thread.
    #[must_use]
    pub fn watch(&self) -> &HandlerWatch {
        &self.watch
    }
}

/// A handler at work. Dropped, it is ended.
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
