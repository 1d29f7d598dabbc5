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

/// Run three nodes, a load and a judge on this machine, and kill nodes meanwhile
///
/// Ctrl-C ends the load, and what was done until then is judged; once more, and nothing is. Nothing is left behind
/// unless a promise breaks. On a terminal it ends in sentences, elsewhere with one JSON object.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the load runs
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = duration)]
    time: Duration,
    /// No live view and no sentences: only one JSON object on standard output
    #[arg(long)]
    headless: bool,
    /// Plant this fault into the record that is judged, to see that it is found
    #[arg(long = "break", value_name = "FAULT")]
    fault: Option<InjectedFault>,
}

impl Args {
    /// Runs it.
    pub fn run(self) -> Result<(), ApiError> {
        let Self { time, headless, fault } = self;
        let program = program()?;
        let ended = runtime()?.block_on(run(Options { time, headless, fault, program }));
        let Outcome { report, kept } = ended.map_err(|error| ApiError::new(&codes::RIG, error))?;
        let Some(report) = report else {
            eprintln!("ended before anything was judged");
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

/// What it comes to, for people.
fn words(report: &Report) -> String {
    let Report { acked, stored, handled, redelivered, moves, takeover_ms, append_gap_ms, kills, .. } = report;
    let (acked, a_second, stored) = (count(*acked), count(report.events_per_s as u64), count(*stored));
    let mut words = format!("{acked} events were acknowledged, {a_second} a second; every node has stored {stored}.\n");
    words += &format!("{} were handled, {} of them once more.\n", count(*handled), count(*redelivered));
    words += &match kills {
        0 => "No node was killed.\n".to_owned(),
        kills => format!(
            "Nodes were killed {kills} times, and segments changed their owner {} times:\n  \
             all had a living owner again after {} ms in the middle, {} ms at most;\n  \
             the longest wait for an acknowledgement was {} ms.\n",
            count(*moves),
            count(takeover_ms.p50),
            count(takeover_ms.max),
            count(append_gap_ms.max),
        ),
    };
    words += &format!("The machine was idle for {:.0} % of the time.\n", report.idle_share * 100.0);
    match report.broken() {
        [] => words + "Every promise held: nothing is lost, nothing stored twice, all is in order.\n",
        broken => broken.iter().fold(words + "A promise broke:\n", |words, broken| format!("{words}  {broken}\n")),
    }
}

/// A promise that broke, and where all that was judged is kept.
fn broken(first: &str, fault: Option<InjectedFault>, kept: &Path) -> ApiError {
    let (error, kept) = (ApiError::new(&codes::BROKEN, first), kept.display());
    error.hint(match fault {
        // What somebody asked for is nothing to report.
        Some(_) => {
            format!(
                "nothing: `--break` planted a fault, and the judge has found it in the record kept in {kept}/judged"
            )
        }
        None => format!("please report it with what was printed and the folder {kept}"),
    })
}

/// A handler program of the demo
#[derive(Debug, clap::Args)]
pub struct HandlerArgs {
    folder: PathBuf,
}

impl HandlerArgs {
    /// Handles events until its input ends.
    pub fn run(self) -> Result<(), ApiError> {
        run_handler(&self.folder).map_err(|error| ApiError::new(&codes::FILE, error.to_string()))
    }
}

/// This very program.
pub(super) fn program() -> Result<PathBuf, ApiError> {
    std::env::current_exe().map_err(|error| ApiError::new(&codes::RIG, format!("cannot find this program: {error}")))
}

/// Threads for many clients.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ApiError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| ApiError::new(&codes::RIG, format!("cannot start threads: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{Observed, Records};

    #[test]
    fn a_person_is_told_in_sentences() {
        let observed = Observed { kills_ms: vec![5, 9], takeovers_ms: vec![300, 1_200], ..Observed::default() };
        let mut report = Report::of(&Records::default(), &observed, 1.0, 0.5);
        report.acked = 12_345;
        let told = words(&report);
        for part in ["12,345 events were acknowledged", "killed 2 times", "1,200 ms at most", "50 %"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(told.ends_with("all is in order.\n"), "{told}");
        report.broken.push("event x is not on n1".into());
        assert!(words(&report).ends_with("A promise broke:\n  event x is not on n1\n"));
    }

    #[test]
    fn a_fault_that_was_planted_is_nothing_to_report() {
        let planted = broken("event x is lost", Some(InjectedFault::LoseOne), Path::new("/tmp/kept"));
        assert!(planted.hint.starts_with("nothing") && planted.hint.contains("/tmp/kept"), "{}", planted.hint);
        let real = broken("event x is lost", None, Path::new("/tmp/kept"));
        assert!(real.hint.contains("report it") && real.hint.contains("/tmp/kept"), "{}", real.hint);
        assert_eq!((planted.exit_code(), real.exit_code()), (1, 1));
    }
}
