//! The live view on a terminal: nodes, their segments, the load and the latest messages.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{Event, KeyCode, KeyModifiers, poll, read},
    execute,
    style::{StyledContent, Stylize},
    terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};

use super::{load::Load, observer::Snapshot};
use crate::{harness::Nodes, text::truncate as truncate_text};

/// The most messages that are shown.
const MESSAGES_MAX: usize = 8;
/// The assumed size of a terminal that does not report its own.
const DEFAULT_SIZE: (u16, u16) = (60, 14);
/// The help line for the keys.
const KEYS: &str = "keys: 1 2 3 kill or restart a node, q ends and checks";
/// How often the view is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The live view. While it is closed, messages go to stderr.
pub(super) struct View {
    headless: bool,
    open: bool,
    messages: VecDeque<String>,
    drawn: Option<Duration>,
    acked: VecDeque<(Duration, usize)>,
}

/// A line of the view: styled texts.
type Line = Vec<StyledContent<String>>;

/// A command from the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyCommand {
    /// No key was pressed.
    Nothing,
    /// Kill or restart the n-th node.
    Toggle(usize),
    /// End the load.
    Quit,
}

impl View {
    /// Returns a closed view. Messages are printed line by line, unless `headless`.
    pub(super) const fn new(headless: bool) -> Self {
        Self { headless, open: false, messages: VecDeque::new(), drawn: None, acked: VecDeque::new() }
    }

    /// Opens the view if there is a terminal and the run is not headless.
    pub(super) fn open(&mut self) {
        let terminal = !self.headless && io::stdout().is_terminal() && io::stdin().is_terminal();
        self.open = terminal && enable_raw_mode().is_ok() && execute!(io::stdout(), EnterAlternateScreen, Hide).is_ok();
    }

    /// Shows a message.
    pub(super) fn message(&mut self, what: &str) {
        if !self.open && !self.headless {
            eprintln!("{what}");
        }
        self.messages.push_back(what.into());
        while self.messages.len() > MESSAGES_MAX {
            self.messages.pop_front();
        }
    }

    /// Returns the next command that was typed.
    pub(super) fn key_command(&self) -> KeyCommand {
        while self.open && poll(Duration::ZERO).unwrap_or(false) {
            let Ok(Event::Key(key)) = read() else { continue };
            match key.code {
                KeyCode::Char(digit @ '1'..='3') => return KeyCommand::Toggle(digit as usize - '1' as usize),
                KeyCode::Char('q') | KeyCode::Esc => return KeyCommand::Quit,
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return KeyCommand::Quit,
                _ => {}
            }
        }
        KeyCommand::Nothing
    }

    /// Draws the state of the cluster.
    pub(super) fn show(&mut self, seen: &Snapshot, nodes: &Nodes, load: &Load, now: Duration, until: Duration) {
        if !self.open || self.drawn.is_some_and(|drawn| now < drawn + DRAW_INTERVAL) {
            return;
        }
        self.drawn = Some(now);
        let (acked, last) = load.so_far();
        self.acked.push_back((now, acked));
        while self.acked.front().is_some_and(|(at, _)| now > *at + Duration::from_secs(1)) && self.acked.len() > 2 {
            self.acked.pop_front();
        }
        let size = crossterm::terminal::size().unwrap_or(DEFAULT_SIZE);
        let (columns, rows) = (usize::from(size.0).max(20), usize::from(size.1).max(4));
        let lines = self.lines(seen, nodes, (acked, last), now, until);
        let mut out = io::stdout().lock();
        for (row, line) in (0..).zip(fit_rows(lines, &self.messages, rows)) {
            let _ = execute!(out, MoveTo(0, row));
            for span in truncate(line, columns) {
                let _ = write!(out, "{span}");
            }
            let _ = execute!(out, Clear(ClearType::UntilNewLine));
        }
        let _ = execute!(out, Clear(ClearType::FromCursorDown));
    }

    /// Returns the lines above the messages.
    fn lines(
        &self,
        seen: &Snapshot,
        nodes: &Nodes,
        (acked, last): (usize, u64),
        now: Duration,
        until: Duration,
    ) -> Vec<Line> {
        let left = until.saturating_sub(now).as_secs();
        let mut lines = vec![vec!["evener demo".to_owned().bold(), format!(": three nodes, {left} s left").stylize()]];
        let running = nodes.running().find(|(_, running)| *running).map(|(name, _)| name);
        if let Some((name, url)) = nodes.each_url().into_iter().find(|(name, _)| Some(name.as_str()) == running) {
            lines.push(vec![format!("page: {url} (of {name})").stylize()]);
        }
        lines.push(Line::new());
        lines.extend(nodes.running().map(|(name, running)| node_line(seen, name, running)));
        lines.push(Line::new());
        let unowned = seen.segments.values().filter(|(owner, _)| owner.is_none()).count();
        let handled = seen.segments.values().map(|(_, token)| *token).min().unwrap_or(0);
        let rate = match (self.acked.front(), self.acked.back()) {
            (Some((from, few)), Some((to, many))) if to > from => (many - few) as f64 / (*to - *from).as_secs_f64(),
            _ => 0.0,
        };
        let since_ack_ms = u64::try_from(now.as_millis()).unwrap_or(0).saturating_sub(last);
        let lag = seen.head.saturating_sub(handled);
        lines.push(vec![format!("acknowledged {acked:>9}  {rate:>6.0}/s  last {since_ack_ms} ms ago").stylize()]);
        lines.push(vec![format!("handled      {handled:>9}  lag {lag}  without owner {unowned}").stylize()]);
        lines
    }

    /// Restores the terminal.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
            let _ = disable_raw_mode();
        }
    }
}

/// Returns the line of a node: its role, its applied index, and the segments that it owns.
fn node_line(seen: &Snapshot, name: &str, running: bool) -> Line {
    let role = match (running, seen.leader.as_deref() == Some(name)) {
        (false, _) => "down    ".to_owned().red(),
        (true, true) => "leader  ".to_owned().green(),
        (true, false) => "follower".to_owned().stylize(),
    };
    let index = seen.members.iter().find(|(member, _)| member == name).and_then(|(_, index)| *index);
    let index = index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    let owns = seen.segments.iter().filter(|(_, (owner, _))| owner.as_deref() == Some(name));
    let owns: Vec<String> = owns.map(|(id, _)| id.to_string()).collect();
    let count = owns.len();
    let details = format!("  applied {index:>7}  {count:>2} segments: {}", owns.join(" "));
    vec![format!("{name}  ").stylize(), role, details.stylize()]
}

/// Fits the lines into `rows` rows: the help line always stays, and the latest messages fill the space that is left.
fn fit_rows(mut lines: Vec<Line>, messages: &VecDeque<String>, rows: usize) -> Vec<Line> {
    let room = rows.saturating_sub(lines.len() + 2);
    if room > 0 {
        lines.push(Line::new());
    }
    let first = messages.len().saturating_sub(room);
    lines.extend(messages.iter().skip(first).map(|line| vec![line.clone().dim()]));
    lines.truncate(rows - 1);
    lines.push(vec![KEYS.to_owned().stylize()]);
    lines
}

/// Truncates a line to so many columns.
fn truncate(line: Line, columns: usize) -> Line {
    let mut left = columns;
    let fitting = line.into_iter().map(|span| {
        let text = truncate_text(span.content(), left);
        left -= text.chars().count();
        StyledContent::new(*span.style(), text)
    });
    fitting.collect()
}

impl Drop for View {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: Vec<Line>, columns: usize) -> Vec<String> {
        let line = |line| truncate(line, columns).iter().map(|span| span.content().clone()).collect();
        lines.into_iter().map(line).collect()
    }

    #[test]
    fn the_view_fits_its_terminal() {
        let plain = |text: &str| vec![text.to_owned().stylize()];
        let messages: VecDeque<String> = (1..=8).map(|n| format!("{n} message")).collect();
        let above = || (0..9).map(|_| plain(&"x".repeat(80))).collect::<Vec<_>>();
        for (rows, last) in [(14, "8 message"), (12, "8 message"), (11, "x"), (5, "x")] {
            let lines = text(fit_rows(above(), &messages, rows), 60);
            assert!(lines.len() <= rows, "{rows} rows: {lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:?}");
            assert_eq!(lines.last().map(String::as_str), Some(KEYS));
            assert!(lines[lines.len() - 2].starts_with(last), "{rows} rows: {lines:?}");
        }
        assert!(KEYS.len() <= 60);
    }

    #[test]
    fn a_truncated_line_keeps_its_colours() {
        let line = vec!["n1  ".to_owned().stylize(), "leader".to_owned().green(), " owns all".to_owned().stylize()];
        assert_eq!(text(vec![line], 12), ["n1  leader …"]);
    }
}
