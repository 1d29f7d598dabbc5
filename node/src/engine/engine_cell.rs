//! Answers for a node that is still starting: its addresses are taken and its health can be asked for, before
//! it is a member that can do anything.

use std::sync::{Arc, OnceLock};

use evener_core::limits::Limits;
use futures::future::BoxFuture;

use super::{Answers, Engine, Reply, Request};
use crate::{
    codes,
    error::ApiError,
    health::{Check, Health},
};

/// A cell for the engine of a node that is starting. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct EngineCell(Arc<OnceLock<Engine>>);

impl EngineCell {
    /// Lets `engine` answer from now on. A second call has no effect.
    pub fn set(&self, engine: Engine) {
        let _ = self.0.set(engine);
    }

    /// The engine, once it is there.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.0.get()
    }

    /// Its health, or that it starts.
    #[must_use]
    pub fn health(&self) -> Health {
        let cell = self.clone();
        Arc::new(move || match cell.engine() {
            Some(engine) => engine.health(),
            None => vec![Check { name: "node", vital: false, trouble: Some("it is starting".to_owned()), note: None }],
        })
    }
}

impl Answers for EngineCell {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply, ApiError>> {
        Box::pin(async move {
            match self.engine() {
                Some(engine) => engine.call(request).await,
                None => {
                    let wait = std::time::Duration::from_millis(200);
                    Err(ApiError::new(&codes::NOT_READY, "this node is starting").retry_after(wait))
                }
            }
        })
    }

    fn limits(&self) -> Limits {
        self.engine().map_or(Limits::DEFAULT, Answers::limits)
    }
}
