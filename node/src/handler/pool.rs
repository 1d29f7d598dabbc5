//! Where handlers run: on threads of their own, so that one that blocks stops no heartbeat.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

use super::{Delivery, HandlerWatch, Runner, Verdict, processor::message};

/// The threads that handlers run on. Clones are the same threads.
#[derive(Clone)]
pub struct Handlers {
    threads: Handle,
    watch: HandlerWatch,
    _owned: Option<Arc<Owned>>,
}

/// Stops its runtime without waiting for what blocks in it: it may be dropped where one must not wait.
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Handlers {
    /// Threads of their own.
    ///
    /// # Errors
    /// Where the system gives no more threads.
    pub fn new(handler_threads: usize) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(handler_threads.max(1)).thread_name("handler").enable_all().build()?;
        let (threads, owned) = (runtime.handle().clone(), Arc::new(Owned(Some(runtime))));
        Ok(Self { threads, watch: HandlerWatch::default(), _owned: Some(owned) })
    }

    /// The runtime that this is called on: where a test or a simulation holds the time.
    ///
    /// # Panics
    /// Outside any runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { threads: Handle::current(), watch: HandlerWatch::default(), _owned: None }
    }

    /// Handles one event in a task of its own. Dropping what this returns ends it at its next `.await`.
    pub fn run(&self, runner: &Arc<dyn Runner>, delivery: Delivery) -> Running {
        let (runner, watch) = (runner.clone(), self.watch.clone());
        let told = delivery.clone();
        Running(self.threads.spawn(watch.watched(told, async move { runner.run(delivery).await })))
    }

    /// Tells a runner that a segment is at work here no longer.
    pub fn close(&self, runner: &Arc<dyn Runner>, segment: evener_core::id::SegmentId) -> JoinHandle<()> {
        self.threads.spawn(runner.close(segment))
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
