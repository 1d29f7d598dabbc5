//! Handlers that are programs: `sh -c CMD`, one for each active segment, with events on its stdin and verdicts on its
//! stdout, one JSON object per line. Events of sequences that are set aside are tried by separate programs, so that one
//! that hangs does not block its segment.
//!
//! ```text
//! > {"delivery":1,"processor":"mail","segment":3,"mask":15,"epoch":8,"lent":false,"attempt":1,…,"event":{…}}
//! < {"delivery":1,"ok":true}
//! > {"delivery":2,…}
//! < {"delivery":2,"error":"no such address","verdict":"set-aside"}
//! ```
//!
//! `processor`, `segment`, `mask` and `epoch` are the fence to pass to a database, see
//! [`Claim`](crate::handler::Claim).
//!
//! A program gets one event at a time. If it breaks the contract after it has read an event (it exits, prints
//! something else, or does not answer), the attempt has failed with that cause, and the next attempt, after the
//! usual wait, uses a fresh program. So does the attempt after a cancelled one, whose answer might still arrive.
//!
//! If a program does so without having read the event, the event is not the cause. If it answered before, a
//! fresh one is tried at once. If a fresh one does so, it does not exist here, or lacks what it needs: the segment
//! waits ([`Verdict::Unable`]).
//!
//! The programs of a process are bounded by `programs_max`: 1,024, or an eighth of the files that it may open if that
//! is less. Segments for which there is none take turns.
//!
//! An idle program is ended after a while, and so is one whose processor is paused: the next event uses the version
//! that is installed by then.

pub(crate) mod answer;
mod limit;
mod lines;
mod program;
mod retry_programs;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evener_core::id::SegmentId;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::handler::{Delivery, Runner, Verdict};
use limit::ProgramLimit;
use program::{Fault, Program};
use retry_programs::RetryPrograms;

/// Timeouts and limits of handler programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether this node runs handler programs.
    pub allowed: bool,
    /// Timeout of the answer to one delivery; then the program is killed, and the attempt has failed.
    pub answer_wait: Duration,
    /// Timeout of its exit after its stdin was closed; then it gets SIGTERM.
    pub end_wait: Duration,
    /// Timeout of its exit after SIGTERM; then it is killed.
    pub term_wait: Duration,
    /// An idle program is ended after this time.
    pub idle_wait: Duration,
    /// Maximum number of programs of one processor that try events of sequences that are set aside, in all segments
    /// together. Further attempts wait.
    pub try_programs_max: usize,
    /// Maximum length of a line that it prints, in bytes. An answer needs a few hundred.
    pub line_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed: true,
            answer_wait: Duration::from_secs(30),
            end_wait: Duration::from_secs(2),
            term_wait: Duration::from_secs(2),
            idle_wait: Duration::from_secs(10),
            try_programs_max: 8,
            line_bytes_max: 65_536,
        }
    }
}

/// Runs a processor's program. Clones share it.
#[derive(Clone)]
pub(crate) struct ExecRunner(Arc<Shared>);

struct Shared {
    processor: Arc<str>,
    command: String,
    /// Description of the working directory and node that it is started in.
    location: String,
    settings: Settings,
    /// The last delivery could not be tried. This is logged once.
    is_failing: AtomicBool,
    /// Programs started so far.
    started: AtomicU64,
    programs: Mutex<BTreeMap<SegmentId, Arc<Slot>>>,
    retry_programs: Arc<RetryPrograms>,
    limit: ProgramLimit,
}

/// A segment's idle program. A delivery takes it out, and puts it back only after it has
/// answered: if the delivery is cancelled in between, the program is killed.
type Slot = tokio::sync::Mutex<Option<Program>>;

impl ExecRunner {
    /// Returns a runner of this command for a processor on the node of this name.
    #[must_use]
    pub(crate) fn new(
        processor: impl Into<Arc<str>>,
        command: impl Into<String>,
        node: impl std::fmt::Display,
        settings: Settings,
    ) -> Self {
        Self::within(ProgramLimit::shared(), processor, command, node, settings)
    }

    fn within(
        limit: ProgramLimit,
        processor: impl Into<Arc<str>>,
        command: impl Into<String>,
        node: impl std::fmt::Display,
        settings: Settings,
    ) -> Self {
        let (processor, command, programs) = (processor.into(), command.into(), Mutex::default());
        let folder =
            std::env::current_dir().map_or_else(|_| "an unknown directory".into(), |dir| dir.display().to_string());
        let location = format!("{folder} of node {node}");
        let (is_failing, started) = (AtomicBool::new(false), AtomicU64::new(0));
        let retry_programs = RetryPrograms::new(settings.try_programs_max);
        Self(Arc::new(Shared {
            processor,
            command,
            location,
            settings,
            is_failing,
            started,
            programs,
            retry_programs,
            limit,
        }))
    }
}

impl Shared {
    async fn run(&self, delivery: &Delivery) -> Verdict {
        if !self.settings.allowed {
            return self.unable("this node was started without --allow-exec and does not run handler programs");
        }
        if delivery.is_set_aside {
            return self.run_try(delivery).await;
        }
        let place = self.programs.lock().entry(delivery.segment).or_default().clone();
        let mut slot = place.lock().await;
        let asked = self.ask(slot.take(), delivery).await.map(|(program, verdict)| {
            if program.is_fresh() {
                let (place, limit) = (Arc::downgrade(&place), self.limit.clone());
                tokio::spawn(end_when_idle(place, program.number, limit, self.settings.idle_wait));
            }
            *slot = Some(program);
            verdict
        });
        self.verdict(asked)
    }

    /// Tries an event of a sequence that is set aside, concurrently with its segment.
    async fn run_try(&self, delivery: &Delivery) -> Verdict {
        let (_permit, idle) = self.retry_programs.take(delivery.segment).await;
        let asked = self.ask(idle, delivery).await.map(|(program, verdict)| {
            self.retry_programs.put_back(delivery.segment, program, self.settings.idle_wait);
            verdict
        });
        self.verdict(asked)
    }

    /// Passes a delivery to the idle program, or to a fresh one. A program that does not answer is ended.
    async fn ask(&self, idle: Option<Program>, delivery: &Delivery) -> Result<(Program, Verdict), Fault> {
        if let Some(program) = idle.and_then(|mut program| program.is_running().then_some(program)) {
            match ask_one(program, delivery).await {
                Err(Fault::Unread(why)) => tracing::debug!(why, "replacing a handler program"),
                asked => return asked,
            }
        }
        let permit = self.limit.acquire().await;
        let number = self.started.fetch_add(1, Relaxed);
        match Program::start(number, permit, &self.processor, &self.command, delivery.segment, self.settings) {
            Ok(program) => ask_one(program, delivery).await,
            Err(error) => Err(Fault::Unread(format!("`sh` could not be started: {error}"))),
        }
    }

    fn verdict(&self, asked: Result<Verdict, Fault>) -> Verdict {
        match asked {
            Ok(verdict) => {
                if self.is_failing.swap(false, Relaxed) {
                    tracing::info!(processor = &*self.processor, "the handler program runs");
                }
                verdict
            }
            Err(Fault::Read(why)) => Verdict::retry(why),
            Err(Fault::Unread(why)) => {
                let why = format!("{why}; it is started in {}: check that it runs there", self.location);
                self.unable(&why)
            }
        }
    }

    /// Returns the verdict, and logs it once until a program runs again.
    fn unable(&self, why: &str) -> Verdict {
        if !self.is_failing.swap(true, Relaxed) {
            tracing::warn!(
                processor = &*self.processor,
                "cannot run the handler program; its segments wait, retrying: {why}"
            );
        }
        Verdict::unable(why)
    }
}

/// Passes a delivery to a program, and ends it if it does not answer.
async fn ask_one(mut program: Program, delivery: &Delivery) -> Result<(Program, Verdict), Fault> {
    match program.ask(delivery).await {
        Ok(verdict) => Ok((program, verdict)),
        Err(fault) => {
            program.kill().await;
            Err(fault)
        }
    }
}

/// Ends the program of this number once it is idle for this time, or if another one needs its place under the limit.
/// Its exit is not awaited: it has answered everything.
async fn end_when_idle(place: Weak<Slot>, number: u64, limit: ProgramLimit, idle_wait: Duration) {
    let mut wait = idle_wait;
    loop {
        limit.wait_idle(wait).await;
        let Some(place) = place.upgrade() else { return };
        let mut slot = place.lock().await;
        let own = slot.as_ref().filter(|program| program.number == number);
        let Some((idle, age)) = own.map(|program| (program.idle_time(), program.age())) else {
            // The notification may have been meant for a program that still exists.
            return limit.notify_next();
        };
        let idle_left = idle_wait.saturating_sub(idle);
        wait = limit.yields_after(age).map_or(idle_left, |left| left.min(idle_left));
        if wait.is_zero() {
            let program = slot.take();
            drop(slot);
            if let Some(program) = program {
                program.end().await;
            }
            return;
        }
    }
}

impl Runner for ExecRunner {
    fn run(&self, delivery: Delivery) -> BoxFuture<'static, Verdict> {
        let shared = self.0.clone();
        Box::pin(async move { shared.run(&delivery).await })
    }

    fn close(&self, segment: SegmentId) -> BoxFuture<'static, ()> {
        let slot = self.0.programs.lock().remove(&segment);
        let retries = self.0.retry_programs.remove(segment);
        Box::pin(async move {
            let retries = futures::future::join_all(retries.into_iter().map(Program::end));
            let own = async {
                if let Some(slot) = slot
                    && let Some(program) = slot.lock().await.take()
                {
                    program.end().await;
                }
            };
            futures::join!(own, retries);
        })
    }
}

#[cfg(test)]
mod tests;
