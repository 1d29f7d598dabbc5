//! `evener demo`

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    args::duration,
    output::{count, say},
};
use crate::demo::{InjectedFault, Options, Outcome, Report, run, run_handler};
use evener::{codes, error::ApiError};

/// Run three nodes under load, kill some of them, and check every promise
///
/// Ctrl-C ends the load early and checks the results so far; a second Ctrl-C skips the check. All files are removed
/// unless a promise is broken. The result is text on a terminal, and one JSON object otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Duration of the load
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration)]
    time: Duration,
    /// Print only one JSON object, without a live view
    #[arg(long)]
    headless: bool,
    /// Inject this fault into the records, to show that the check finds it
    #[arg(long = "break", value_name = "FAULT")]
    fault: Option<InjectedFault>,
}

impl Args {
    /// Runs the demo.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let Self { time, headless, fault } = self;
        let program = program()?;
        let ended = runtime()?.block_on(run(Options { time, headless, fault, program }));
        let Outcome { report, kept } = ended.map_err(|error| ApiError::new(&codes::HARNESS, error))?;
        let Some(report) = report else {
            eprintln!("ended before anything was checked");
            return Ok(());
        };
        if headless || !std::io::stdout().is_terminal() {
            let json = serde_json::to_string(&report).map_err(|error| ApiError::new(&codes::BUG, error.to_string()))?;
            say(&format!("{json}\n"))?;
        } else {
            say(&words(&report))?;
        }
        match report.broken().first() {
            None => Ok(()),
            Some(first) => Err(broken(first, fault, &kept.unwrap_or_default())),
        }
    }
}

/// Describes the result in sentences.
fn words(report: &Report) -> String {
    let Report { acked, stored, handled, redelivered, moves, takeover_ms, append_gap_ms, kills, .. } = report;
    let (acked, a_second, stored) = (count(*acked), count(report.events_per_s as u64), count(*stored));
    let mut words = format!("{acked} events were acknowledged, {a_second} a second; every node has stored {stored}.\n");
    words += &format!("{} events were handled; {} redeliveries.\n", count(*handled), count(*redelivered));
    words += &match kills {
        0 => "No node was killed.\n".to_owned(),
        kills => format!(
            "Nodes were killed {kills} times, and segments changed their owner {} times:\n  \
             all segments had a running owner again after {} ms (median), {} ms at most;\n  \
             the longest wait for an acknowledgement was {} ms.\n",
            count(*moves),
            count(takeover_ms.p50),
            count(takeover_ms.max),
            count(append_gap_ms.max),
        ),
    };
    words += &format!("The machine was idle for {:.0} % of the time.\n", report.idle_share * 100.0);
    match report.broken() {
        [] => words + "Every promise held: nothing was lost or stored twice, and everything is in order.\n",
        broken => broken.iter().fold(words + "A promise was broken:\n", |words, broken| format!("{words}  {broken}\n")),
    }
}

/// Returns the error for a broken promise, with the folder that is kept.
fn broken(first: &str, fault: Option<InjectedFault>, kept: &Path) -> ApiError {
    let (error, kept) = (ApiError::new(&codes::BROKEN, first), kept.display());
    error.hint(match fault {
        // An injected fault is not to be reported.
        Some(_) => {
            format!("nothing: the check found the fault that `--break` injected; the records are in {kept}/records")
        }
        None => format!("please report this, with the output and the folder {kept}"),
    })
}

/// A handler program of the demo
#[derive(Debug, clap::Args)]
pub(super) struct HandlerArgs {
    folder: PathBuf,
}

impl HandlerArgs {
    /// Handles events until its input ends.
    pub(super) fn run(self) -> Result<(), ApiError> {
        run_handler(&self.folder).map_err(|error| ApiError::new(&codes::FILE, error.to_string()))
    }
}

/// Returns the path of this program.
pub(super) fn program() -> Result<PathBuf, ApiError> {
    std::env::current_exe()
        .map_err(|error| ApiError::new(&codes::HARNESS, format!("cannot find this program: {error}")))
}

/// Returns a runtime with several threads, for many clients.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ApiError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| ApiError::new(&codes::HARNESS, format!("cannot start threads: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{Observed, Records};

    #[test]
    fn the_result_is_described_in_sentences() {
        let observed = Observed { kills_ms: vec![5, 9], takeovers_ms: vec![300, 1_200], ..Observed::default() };
        let mut report = Report::of(&Records::default(), &observed, 1.0, 0.5);
        report.acked = 12_345;
        let text = words(&report);
        for part in ["12,345 events were acknowledged", "killed 2 times", "1,200 ms at most", "50 %"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.ends_with("everything is in order.\n"), "{text}");
        report.broken.push("event x is not on n1".into());
        assert!(words(&report).ends_with("A promise was broken:\n  event x is not on n1\n"));
    }

    #[test]
    fn an_injected_fault_is_not_to_be_reported() {
        let injected = broken("event x is lost", Some(InjectedFault::LoseOne), Path::new("/tmp/kept"));
        assert!(injected.hint.starts_with("nothing") && injected.hint.contains("/tmp/kept"), "{}", injected.hint);
        let real = broken("event x is lost", None, Path::new("/tmp/kept"));
        assert!(real.hint.contains("report this") && real.hint.contains("/tmp/kept"), "{}", real.hint);
        assert_eq!((injected.exit_code(), real.exit_code()), (1, 1));
    }
}
