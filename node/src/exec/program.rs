//! A running handler program. It leads a process group of its own, so that processes that `sh` started are
//! ended with it.

use std::{io, process::Stdio, sync::Arc, time::Duration};

use evener_core::id::SegmentId;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::{
    Settings,
    answer::{self, shown},
    lines::{Line, Stderr, line, part},
};
use crate::{
    cloudevent,
    handler::{Delivery, Verdict},
};

/// Wait for the exit of a program that closed its output, to report its status and its last line on stderr.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a command that errors show.
const COMMAND_SHOWN_MAX: usize = 80;

/// How a program failed to answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It had not read the event, so the event is not the cause.
    Unread(String),
    /// It had read the event, or some of it.
    Read(String),
}

pub(super) struct Program {
    /// Number of the program, unique within its runner.
    pub(super) number: u64,
    child: Child,
    /// Not part of `child`, which would close it as soon as its exit is awaited.
    stdin: Option<ChildStdin>,
    /// Its process group, which has its pid; none once the program has ended.
    group: Option<Pid>,
    stdout: BufReader<ChildStdout>,
    stderr: Stderr,
    asked: u64,
    started: Instant,
    /// When it last answered.
    answered: Instant,
    /// Its share of the limit of all programs.
    _permit: Option<OwnedSemaphorePermit>,
    command: String,
    settings: Settings,
}

impl Program {
    pub(super) fn start(
        number: u64,
        permit: Option<OwnedSemaphorePermit>,
        processor: &Arc<str>,
        command: &str,
        segment: SegmentId,
        settings: Settings,
    ) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .env("EVENER_PROCESSOR", &**processor)
            .env("EVENER_SEGMENT", segment.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let stderr = stderr.expect("stderr is piped");
        tracing::debug!(%processor, %segment, pid = child.id(), command, "started a handler program");
        Ok(Self {
            number,
            child,
            stdin,
            group,
            stdout: BufReader::new(stdout.expect("stdout is piped")),
            stderr: Stderr::forward(stderr, processor.clone(), segment, settings.line_bytes_max),
            asked: 0,
            started: Instant::now(),
            answered: Instant::now(),
            _permit: permit,
            command: command.to_owned(),
            settings,
        })
    }

    /// Returns whether it got only one delivery so far.
    pub(super) const fn is_fresh(&self) -> bool {
        self.asked == 1
    }

    /// Returns how long it has been idle.
    pub(super) fn idle_time(&self) -> Duration {
        self.answered.elapsed()
    }

    /// Returns how long ago it was started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Passes an event to it, and waits for its verdict. After a fault it cannot be used again.
    pub(super) async fn ask(&mut self, delivery: &Delivery) -> Result<Verdict, Fault> {
        self.asked += 1;
        let request = request(self.asked, delivery);
        let (mut written, mut printed, line_bytes_max) = (0, Vec::new(), self.settings.line_bytes_max);
        let Self { stdin, stdout, child, .. } = self;
        let exchange = async {
            // If it stops reading, its output and exit status show why.
            while let Some(stdin) = stdin.as_mut()
                && let Ok(more @ 1..) = stdin.write(&request.as_bytes()[written..]).await
            {
                written += more;
            }
            line(stdout, &mut printed, line_bytes_max).await
        };
        // Its child processes may hold its pipes open after it has exited.
        let exchange_or_exit = async {
            tokio::select! {
                biased;
                answered = exchange => Some(answered),
                _ = child.wait() => None,
            }
        };
        let answered = timeout(self.settings.answer_wait, exchange_or_exit).await;
        // It may have left a part of an earlier event unread, such as the end of its line.
        let is_unread = written <= self.unread();
        let answered = match answered {
            Ok(Some(answered)) => Ok(answered),
            Ok(None) => Ok(rest(&mut self.stdout, printed, line_bytes_max).await),
            Err(late) => Err(late),
        };
        let why = match answered {
            Ok(Ok(Line::Whole(line))) => match answer::read(&line, self.asked) {
                Ok(verdict) => {
                    self.answered = Instant::now();
                    return Ok(verdict);
                }
                Err(why) => why,
            },
            Ok(Ok(Line::TooLong(start))) => {
                let max = self.settings.line_bytes_max;
                format!("printed a line of more than {max} bytes (line_bytes_max): {}", shown(&start))
            }
            Ok(Ok(Line::End(rest))) => self.how_it_ended(&rest).await,
            Ok(Err(error)) => format!("could not be read from: {error}"),
            Err(_) => format!("did not answer within {:?} (answer_wait)", self.settings.answer_wait),
        };
        Err(if is_unread {
            Fault::Unread(self.describe(&format!("{why}; it had not read the event")))
        } else {
            Fault::Read(self.describe(&why))
        })
    }

    /// Returns the number of bytes written to it that it has not read. The pipe keeps them even without a reader.
    fn unread(&self) -> usize {
        let unread = self.stdin.as_ref().map(rustix::io::ioctl_fionread);
        // If this is not available, assume that it has read all: an event that is never blamed would be tried for ever.
        unread.and_then(Result::ok).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default()
    }

    /// Describes a fault, with the program's last line on stderr.
    fn describe(&self, why: &str) -> String {
        let last = self.stderr.last().map_or_else(String::new, |last| format!("; its last words: {last}"));
        format!("the program {} {why}{last}", command_shown(&self.command))
    }

    /// Describes how a program ended that exited or closed its output after it had printed only `rest`.
    async fn how_it_ended(&mut self, rest: &[u8]) -> String {
        let ended = timeout(EXIT_WAIT, self.child.wait()).await;
        if ended.is_ok() {
            // End its remaining child processes, which hold its stderr open.
            self.signal(Signal::KILL);
        }
        self.stderr.drained(EXIT_WAIT).await;
        let printed = if rest.is_empty() { String::new() } else { format!(" and had printed {}", shown(rest)) };
        match ended {
            Ok(Ok(status)) => format!("ended with {status} before it answered{printed}"),
            Ok(Err(error)) => format!("ended before it answered{printed}; its status is unknown: {error}"),
            Err(_) => format!("closed its output before it answered{printed}"),
        }
    }

    /// Ends it gracefully: closes its stdin, then sends SIGTERM, then kills it.
    pub(super) async fn end(mut self) {
        let Settings { end_wait, term_wait, .. } = self.settings;
        self.stdin = None;
        if timeout(end_wait, self.child.wait()).await.is_err() {
            self.signal(Signal::TERM);
            if timeout(term_wait, self.child.wait()).await.is_err() {
                tracing::warn!(command = self.command, "killing a handler program: it did not exit after SIGTERM");
            }
        }
        self.kill().await;
    }

    /// Kills it and its child processes.
    pub(super) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.group = None;
        self.child.wait().await.ok();
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            kill_process_group(group, signal).ok();
        }
    }
}

impl Drop for Program {
    /// Kills it if its delivery is cancelled. The runtime reaps it.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Returns the line that a program printed before it exited, if its child processes hold its output open.
async fn rest(stdout: &mut BufReader<ChildStdout>, mut printed: Vec<u8>, bytes_max: usize) -> io::Result<Line> {
    loop {
        let waiting = rustix::io::ioctl_fionread(stdout.get_ref()).unwrap_or_default();
        if stdout.buffer().is_empty() && waiting == 0 {
            return Ok(Line::End(printed));
        }
        if let Some(line) = part(stdout, &mut printed, bytes_max).await? {
            return Ok(line);
        }
    }
}

/// Returns the line that delivers an event.
fn request(number: u64, delivery: &Delivery) -> String {
    let Delivery { processor, segment, mask, epoch, lent, attempt, replaying, stored, replay_context, .. } = delivery;
    let context = replay_context.as_ref().map(|context| format!("\"context\":{context},")).unwrap_or_default();
    let processor = serde_json::Value::from(&**processor);
    let event = cloudevent::stored_to_json(stored);
    format!(
        "{{\"delivery\":{number},\"processor\":{processor},\"segment\":{segment},\"mask\":{mask},\"epoch\":{epoch},\
         \"lent\":{lent},\"attempt\":{attempt},\"replaying\":{replaying},{context}\"event\":{event}}}\n"
    )
}

fn command_shown(command: &str) -> String {
    let end = command.floor_char_boundary(COMMAND_SHOWN_MAX);
    if end < command.len() { format!("`{} …`", &command[..end]) } else { format!("`{command}`") }
}
