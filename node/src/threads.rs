//! The threads of a node. A process has three sets of them, so that a handler that blocks stops no request, and
//! neither stops a heartbeat: for the cluster, for the node itself, and for handlers. In a test or a simulation
//! all three are the one runtime that holds the time.

use std::{future::Future, io, sync::Arc};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// Some threads. Clones are the same ones; the last one dropped ends them.
#[derive(Clone)]
pub struct Threads {
    handle: Handle,
    _owned: Option<Arc<Owned>>,
}

/// Ends without waiting for what blocks: it may be dropped where one must not wait.
struct Owned(Option<Runtime>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    /// So many of their own.
    ///
    /// # Errors
    /// Where the system gives no more.
    pub fn new(name: &str, count: usize) -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(count.max(1)).thread_name(name).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), _owned: Some(Arc::new(Owned(Some(runtime)))) })
    }

    /// Those that this is called on.
    ///
    /// # Panics
    /// Outside any runtime.
    #[must_use]
    pub fn current() -> Self {
        Self { handle: Handle::current(), _owned: None }
    }

    /// Returns a handle that does not keep them alive.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs a task on them.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.handle.spawn(task)
    }
}
