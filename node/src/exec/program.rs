//! One program at work: started, asked, ended. It leads a process group of its own, so that what `sh` started
//! goes with it.

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

/// How long a program that closed its output is waited for, to tell how it ended and what it said last.
const EXIT_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a command that are shown.
const COMMAND_SHOWN_MAX: usize = 80;

/// What a program did instead of answering.
#[derive(Debug)]
pub(super) enum Fault {
    /// It had not read the event: whatever ails it, it is not that.
    Unread(String),
    /// It had the event, or some of it.
    Read(String),
}

pub(super) struct Program {
    /// Among those of its runner.
    pub(super) number: u64,
    child: Child,
    /// Not part of `child`, which would close it as soon as its exit is awaited.
    stdin: Option<ChildStdin>,
    /// Its process group, which bears its number; none once the program has ended.
    group: Option<Pid>,
    stdout: BufReader<ChildStdout>,
    stderr: Stderr,
    asked: u64,
    started: Instant,
    /// When it last answered.
    answered: Instant,
    /// It counts among the programs of this process.
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

    /// Whether it was asked only once.
    pub(super) const fn is_fresh(&self) -> bool {
        self.asked == 1
    }

    /// How long it was asked nothing.
    pub(super) fn idle_time(&self) -> Duration {
        self.answered.elapsed()
    }

    /// How long ago it was started.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Hands it an event, and waits for its verdict. After a fault it cannot be asked again.
    pub(super) async fn ask(&mut self, delivery: &Delivery) -> Result<Verdict, Fault> {
        self.asked += 1;
        let request = request(self.asked, delivery);
        let (mut written, mut printed, line_bytes_max) = (0, Vec::new(), self.settings.line_bytes_max);
        let Self { stdin, stdout, child, .. } = self;
        let exchange = async {
            // If it reads no more, what it printed and how it ended tells why.
            while let Some(stdin) = stdin.as_mut()
                && let Ok(more @ 1..) = stdin.write(&request.as_bytes()[written..]).await
            {
                written += more;
            }
            line(stdout, &mut printed, line_bytes_max).await
        };
        // What it started may hold its pipes open after it has ended.
        let exchange_or_exit = async {
            tokio::select! {
                biased;
                answered = exchange => Some(answered),
                _ = child.wait() => None,
            }
        };
        let answered = timeout(self.settings.answer_wait, exchange_or_exit).await;
        // It may have left some of an earlier event unread, if only the end of its line.
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

    /// Bytes that were given to it and that it has not read. The pipe keeps them also where nobody reads any more.
    fn unread(&self) -> usize {
        let unread = self.stdin.as_ref().map(rustix::io::ioctl_fionread);
        // Where the system cannot tell, none: an event is rather tried too seldom than for ever.
        unread.and_then(Result::ok).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default()
    }

    /// What is wrong, in the program's own words, too.
    fn describe(&self, why: &str) -> String {
        let last = self.stderr.last().map_or_else(String::new, |last| format!("; its last words: {last}"));
        format!("the program {} {why}{last}", command_shown(&self.command))
    }

    /// It ended or closed its output, having printed no answer but only `rest`.
    async fn how_it_ended(&mut self, rest: &[u8]) -> String {
        let ended = timeout(EXIT_WAIT, self.child.wait()).await;
        if ended.is_ok() {
            // What it started and left behind goes with it, and does not hold its stderr open.
            self.signal(Signal::KILL);
        }
        self.stderr.drained(EXIT_WAIT).await;
        let printed = if rest.is_empty() { String::new() } else { format!(" and had printed {}", shown(rest)) };
        match ended {
            Ok(Ok(status)) => format!("ended with {status} before it answered{printed}"),
            Ok(Err(error)) => format!("ended before it answered{printed}; how is unknown: {error}"),
            Err(_) => format!("closed its output before it answered{printed}"),
        }
    }

    /// Ends it as it should be: its stdin is closed; if that does not end it, it is told to, and then killed.
    pub(super) async fn end(mut self) {
        let Settings { end_wait, term_wait, .. } = self.settings;
        self.stdin = None;
        if timeout(end_wait, self.child.wait()).await.is_err() {
            self.signal(Signal::TERM);
            if timeout(term_wait, self.child.wait()).await.is_err() {
                tracing::warn!(command = self.command, "a handler program is killed: it did not end by SIGTERM");
            }
        }
        self.kill().await;
    }

    /// Ends it, and whatever it started, at once.
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
    /// It was given up in the middle of a question. The runtime waits for it.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Returns the line that a program that has ended had printed, if what it started holds its output open.
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

/// One line that asks about an event.
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
