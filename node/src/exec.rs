//! Handlers that are programs: `sh -c CMD`, one for each segment at work, events on its stdin, verdicts on its
//! stdout, a JSON object a line.
//!
//! ```text
//! > {"delivery":1,"processor":"mail","segment":3,"epoch":8,"lent":false,"attempt":1,"replaying":false,"event":{…}}
//! < {"delivery":1,"ok":true}
//! > {"delivery":2,…}
//! < {"delivery":2,"error":"no such address","verdict":"set-aside"}
//! ```
//!
//! `processor`, `segment` and `epoch` are the fence to hand to a database, as [`Claim`](crate::handler::Claim) tells.
//!
//! A program is asked one thing at a time. What it does beside the contract — it ends, prints something else,
//! or does not answer — is a failed attempt that says so, and the next attempt, after the usual wait, finds a
//! fresh program. So does the attempt after one that was given up: its answer might still come.

mod answer;
mod lines;
mod program;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use evener_core::id::SegmentId;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::handler::{Delivery, Runner, Verdict};
use program::Program;

/// How long programs are waited for, and how much they may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For the answer to one delivery; then the program is killed, and the attempt has failed.
    pub answer_wait: Duration,
    /// For its end after its stdin was closed; then it is sent SIGTERM.
    pub end_wait: Duration,
    /// For its end after SIGTERM; then it is killed.
    pub term_wait: Duration,
    /// Bytes of one line that it prints. An answer needs a few hundred.
    pub line_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer_wait: Duration::from_secs(30),
            end_wait: Duration::from_secs(2),
            term_wait: Duration::from_secs(2),
            line_bytes_max: 65_536,
        }
    }
}

/// Runs a processor's program. Clones run the same one.
#[derive(Clone)]
pub struct ExecRunner(Arc<Shared>);

struct Shared {
    processor: Arc<str>,
    command: String,
    settings: Settings,
    programs: Mutex<BTreeMap<SegmentId, Slot>>,
}

/// A segment's program while nobody asks it anything. Whoever does takes it out, and puts it back only when it
/// has answered: one that was given up in between is gone, killed.
type Slot = Arc<tokio::sync::Mutex<Option<Program>>>;

impl ExecRunner {
    /// For a processor, by this command.
    #[must_use]
    pub fn new(processor: impl Into<Arc<str>>, command: impl Into<String>, settings: Settings) -> Self {
        let (processor, command) = (processor.into(), command.into());
        Self(Arc::new(Shared { processor, command, settings, programs: Mutex::default() }))
    }
}

impl Runner for ExecRunner {
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict> {
        let shared = self.0.clone();
        Box::pin(async move {
            let slot = shared.programs.lock().entry(delivery.segment).or_default().clone();
            let mut slot = slot.lock().await;
            let rested = slot.take().and_then(|mut program| program.is_running().then_some(program));
            let start = || Program::start(&shared.processor, &shared.command, delivery.segment, shared.settings);
            let mut program = match rested.map_or_else(start, Ok) {
                Ok(program) => program,
                Err(error) => return Verdict::retry(format!("failed to start `{}`: {error}", shared.command)),
            };
            match program.ask(&delivery).await {
                Ok(verdict) => {
                    *slot = Some(program);
                    verdict
                }
                Err(fault) => {
                    program.kill().await;
                    Verdict::retry(fault)
                }
            }
        })
    }

    fn close(&self, segment: SegmentId) -> BoxFuture<'static, ()> {
        let slot = self.0.programs.lock().remove(&segment);
        Box::pin(async move {
            if let Some(slot) = slot
                && let Some(program) = slot.lock().await.take()
            {
                program.end().await;
            }
        })
    }
}

#[cfg(test)]
mod tests;
