//! The live view on a terminal: nodes, their segments, the load, and what happened last.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{Event, KeyCode, KeyModifiers, poll, read},
    execute,
    style::Stylize,
    terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};

use super::{load::Load, observer::Seen};
use crate::rig::Nodes;

/// Lines of what happened that are shown.
const HAPPENED_MAX: usize = 8;
/// How often it is drawn anew.
const DRAW: Duration = Duration::from_millis(200);

/// A live view, or none.
pub struct View {
    headless: bool,
    open: bool,
    happened: VecDeque<String>,
    drawn: Option<Duration>,
    acked: VecDeque<(Duration, usize)>,
}

/// What the person at the keyboard wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// The n-th node is killed, or revived.
    Toggle(usize),
    /// It is enough.
    End,
}

impl View {
    /// One that is closed: what happens is told line by line, unless nobody wants to know.
    pub const fn new(headless: bool) -> Self {
        Self { headless, open: false, happened: VecDeque::new(), drawn: None, acked: VecDeque::new() }
    }

    /// Opens it where there is a terminal and somebody who wants to see it.
    pub fn open(&mut self) {
        let terminal = !self.headless && io::stdout().is_terminal() && io::stdin().is_terminal();
        self.open = terminal && enable_raw_mode().is_ok() && execute!(io::stdout(), EnterAlternateScreen, Hide).is_ok();
    }

    /// Something happened.
    pub fn says(&mut self, what: &str) {
        if !self.open && !self.headless {
            eprintln!("{what}");
        }
        self.happened.push_back(what.into());
        while self.happened.len() > HAPPENED_MAX {
            self.happened.pop_front();
        }
    }

    /// What was typed since the last time.
    pub fn asked(&self) -> Asked {
        while self.open && poll(Duration::ZERO).unwrap_or(false) {
            let Ok(Event::Key(key)) = read() else { continue };
            match key.code {
                KeyCode::Char(digit @ '1'..='3') => return Asked::Toggle(digit as usize - '1' as usize),
                KeyCode::Char('q') | KeyCode::Esc => return Asked::End,
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Asked::End,
                _ => {}
            }
        }
        Asked::Nothing
    }

    /// Draws what is.
    pub fn show(&mut self, seen: &Seen, nodes: &Nodes, load: &Load, now: Duration, until: Duration) {
        if !self.open || self.drawn.is_some_and(|drawn| now < drawn + DRAW) {
            return;
        }
        self.drawn = Some(now);
        let (acked, last) = load.so_far();
        self.acked.push_back((now, acked));
        while self.acked.front().is_some_and(|(at, _)| now > *at + Duration::from_secs(1)) && self.acked.len() > 2 {
            self.acked.pop_front();
        }
        let text = self.text(seen, nodes, (acked, last), now, until);
        let mut out = io::stdout().lock();
        let _ = execute!(out, MoveTo(0, 0));
        for line in text.lines() {
            let _ = write!(out, "{line}");
            let _ = execute!(out, Clear(ClearType::UntilNewLine));
            let _ = write!(out, "\r\n");
        }
        let _ = execute!(out, Clear(ClearType::FromCursorDown));
    }

    fn text(&self, seen: &Seen, nodes: &Nodes, (acked, last): (usize, u64), now: Duration, until: Duration) -> String {
        let mut text = String::new();
        let left = until.saturating_sub(now).as_secs();
        let _ = writeln!(text, "{}   three nodes, real sockets, real files   {left:>3} s left", "evener demo".bold());
        let _ = writeln!(text);
        let counts = seen.counts();
        for (name, alive) in nodes.alive() {
            let role = match (alive, seen.leader.as_deref() == Some(name)) {
                (false, _) => "dead    ".red().to_string(),
                (true, true) => "leader  ".green().to_string(),
                (true, false) => "follower".to_string(),
            };
            let index = seen.members.iter().find(|(member, _)| member == name).and_then(|(_, index)| *index);
            let index = index.map_or_else(|| "-".to_owned(), |index| index.to_string());
            let owns = seen.segments.iter().filter(|(_, (owner, _))| owner.as_deref() == Some(name));
            let owns: Vec<String> = owns.map(|(id, _)| id.to_string()).collect();
            let count = counts.get(name).copied().unwrap_or(0);
            let _ = writeln!(text, "  {name}  {role}  applied {index:>8}   {count:>2} segments: {}", owns.join(" "));
        }
        let unowned = seen.segments.values().filter(|(owner, _)| owner.is_none()).count();
        let handled = seen.segments.values().map(|(_, token)| *token).min().unwrap_or(0);
        let rate = match (self.acked.front(), self.acked.back()) {
            (Some((from, few)), Some((to, many))) if to > from => (many - few) as f64 / (*to - *from).as_secs_f64(),
            _ => 0.0,
        };
        let silent = u64::try_from(now.as_millis()).unwrap_or(0).saturating_sub(last);
        let _ = writeln!(text);
        let _ = writeln!(text, "  appended and acknowledged {acked:>8}   {rate:>6.0}/s   last {silent} ms ago");
        let lag = seen.head.saturating_sub(handled);
        let _ = writeln!(text, "  handled by all segments   {handled:>8}   lag {lag}   without owner {unowned}");
        let _ = writeln!(text);
        for line in &self.happened {
            let _ = writeln!(text, "  {}", line.as_str().dim());
        }
        let _ = writeln!(text);
        let _ = write!(text, "  1 2 3 kill or revive a node    q ends and judges");
        text
    }

    /// Gives the terminal back.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
            let _ = disable_raw_mode();
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.close();
    }
}
