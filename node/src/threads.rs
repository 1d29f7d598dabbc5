//! The runtimes of a node. A process has three, so that a blocking handler delays no request, and neither delays a
//! heartbeat: for the cluster, for the node itself, and for handlers. In a test or a simulation all three are the one
//! runtime that controls the time.

use std::{future::Future, io, sync::Arc};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// A runtime. Clones share it; it shuts down with the last one.
#[derive(Clone)]
pub(crate) struct Threads {
    handle: Handle,
    _owned: Option<Arc<Owned>>,
}

/// Shuts down without waiting for blocking tasks: it may be dropped in an async context.
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    /// Starts a runtime with this many threads.
    ///
    /// # Errors
    /// If no thread can be created.
    pub(crate) fn new(name: &str, count: usize) -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(count.max(1)).thread_name(name).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), _owned: Some(Arc::new(Owned(Some(runtime)))) })
    }

    /// Returns the current runtime.
    ///
    /// # Panics
    /// If called outside a runtime.
    #[must_use]
    pub(crate) fn current() -> Self {
        Self { handle: Handle::current(), _owned: None }
    }

    /// Returns a handle that does not keep them alive.
    #[must_use]
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Spawns a task.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.handle.spawn(task)
    }
}
