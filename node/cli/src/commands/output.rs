//! Output of replies and errors: tables for people, JSON or YAML for programs.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use serde::Serialize;
use serde_json::Value;

use evener::{
    codes,
    error::ApiError,
    printable::{printable, printable_json},
};

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Table for people
    Table,
    /// One JSON value
    Json,
    /// One JSON value per line
    Ndjson,
    /// YAML
    Yaml,
}

impl Format {
    /// Writes `answer`, as the text of `words` for a table.
    pub(crate) fn show(self, answer: &impl Serialize, words: impl FnOnce() -> String) -> Result<(), ApiError> {
        if self == Self::Table {
            return say(&printable(&words()));
        }
        let answer = serde_json::to_value(answer).expect("answers are plain values");
        match (self, &answer) {
            (Self::Ndjson, Value::Array(items)) => {
                say(&printable_json(&items.iter().map(|item| format!("{item}\n")).collect::<String>()))
            }
            (Self::Ndjson, answer) => say(&printable_json(&format!("{answer}\n"))),
            (Self::Yaml, answer) => {
                say(&serde_yaml_ng::to_string(answer).expect("every JSON value can be written as YAML"))
            }
            (_, answer) => say(&printable_json(&format!("{answer:#}\n"))),
        }
    }
}

impl Format {
    /// Writes the answer to a completed change, as [`show`](Self::show) does. If it cannot be written, the error states
    /// that the change was made: the exit status must not look like that of a failed change.
    pub(crate) fn show_done(self, answer: &impl Serialize, words: impl Fn() -> String) -> Result<(), ApiError> {
        self.show(answer, &words).map_err(|error| {
            let message = format!("{}; the answer to it is lost: {}", words().trim_end(), error.message);
            ApiError::new(&codes::ANSWER_LOST, message)
        })
    }
}

/// Writes to stdout. If the pipe is closed, as by `head`, the process exits without an error.
pub(super) fn say(text: &str) -> Result<(), ApiError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(ApiError::new(&codes::FILE, format!("failed to write to stdout: {error}"))),
    }
}

/// Writes JSON to stdout: escaped on a terminal, byte for byte otherwise.
pub(super) fn say_json(json: &str) -> Result<(), ApiError> {
    let line = format!("{json}\n");
    if std::io::stdout().is_terminal() { say(&printable_json(&line)) } else { say(&line) }
}

/// Writes an error to stderr: its code, its message and its hint.
pub(super) fn print_error(error: &ApiError) {
    let colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (red, bold, faint, plain) =
        if colored { ("\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "", "") };
    let columns = columns_of(&std::io::stderr());
    let start = format!("error[{}]:", error.code);
    let message = printable(error.message.trim_end());
    eprintln!("{red}{bold}{start}{plain}{}", indented_after(&start, &message, columns));
    if let Some(conflict) = &error.conflict {
        let json = serde_json::to_string(conflict).expect("a conflict is plain values");
        if json.len() < 500 {
            eprintln!("  {faint}conflict:{plain} {}", printable_json(&json));
        }
    }
    if let Some(leader) = &error.leader {
        eprintln!("  {faint}leader:{plain} {}", printable(leader));
    }
    eprintln!("  {bold}next:{plain}{}", indented_after("  next:", &printable(&error.hint), columns));
    eprintln!("  {faint}more: evener explain {}{plain}", error.code);
}

/// Returns `text` to be printed after `start`, with its further lines indented.
fn indented_after(start: &str, text: &str, columns: Option<u16>) -> String {
    let all = format!("{start} {text}");
    let all = columns.map_or_else(|| all.clone(), |columns| wrapped_within(usize::from(columns) - 2, &all));
    all[start.len()..].trim_end().replace('\n', "\n  ")
}

/// Returns the width of the terminal at stdout, if it is one.
pub(super) fn columns() -> Option<u16> {
    columns_of(&std::io::stdout())
}

fn columns_of(out: &impl IsTerminal) -> Option<u16> {
    let size = out.is_terminal().then(crossterm::terminal::size)?;
    width(size.ok()?.0)
}

/// Returns the usable width. A terminal that reports no columns, as some serial lines and editors do, has none.
fn width(columns: u16) -> Option<u16> {
    (columns > 0).then(|| columns.max(20))
}

/// Wraps a text to the width of the terminal. A pipe gets it unwrapped.
pub(super) fn wrapped(text: &str) -> String {
    columns().map_or_else(|| text.to_owned(), |columns| wrapped_within(columns.into(), text))
}

fn wrapped_within(columns: usize, text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut column = 0;
        // Leading spaces stay: an error may point at a column of the line above.
        for word in line.split_inclusive(' ') {
            let long = word.trim_end().chars().count();
            if column > 0 && column + long > columns {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                column = 0;
            }
            out.push_str(word);
            column += word.chars().count();
        }
        out.push('\n');
    }
    out
}

/// Formats a table with these headings. The first column, the name of the row, is never truncated, so that it can be
/// copied. On a terminal the other columns are truncated to fit; `-o json` and pipes have the full text.
pub(super) fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    table_within(columns(), heads, rows)
}

fn table_within<const N: usize>(
    columns: Option<u16>,
    heads: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_truncation_indicator("…");
    // Truncate at the end of the column, not after the last whole word.
    table.set_delimiter('\n');
    match columns {
        Some(columns) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(table_row(heads.map(str::to_uppercase)));
    for row in rows {
        table.add_row(table_row(row));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(columns) = columns {
        let whole = table.column_max_content_widths().into_iter().map(|width| width.saturating_add(2)).collect();
        for (column, width) in table.column_iter_mut().zip(shrunk(whole, columns)) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// Shrinks the widest columns, except for the first, until all fit, so that numbers stay complete.
fn shrunk(mut widths: Vec<u16>, columns: u16) -> Vec<u16> {
    while widths.iter().map(|width| u32::from(*width)).sum::<u32>() > u32::from(columns) {
        let Some(widest) = widths.iter_mut().skip(1).max().filter(|width| **width > 4) else { break };
        *widest -= 1;
    }
    widths
}

fn table_row<const N: usize>(cells: [String; N]) -> Row {
    let mut name = true;
    let mut row = Row::from(cells.map(|cell| {
        if std::mem::take(&mut name) {
            return name_cell(&cell);
        }
        // A cause may be a program's error of several lines.
        printable(&cell.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
    }));
    row.max_height(1);
    row
}

/// Returns a name in printable form, quoted if it begins or ends with a space.
fn name_cell(name: &str) -> String {
    let shown = printable(name).replace('\n', "\\n").replace('\t', "\\t");
    if name.trim() == name { shown } else { format!("'{shown}'") }
}

/// Formats a time relative to now: `in 12 s`, `3 min ago`. A text that is not a time is returned unchanged.
pub(super) fn from_now(time: &str) -> String {
    let Ok(at) = time.parse::<jiff::Timestamp>() else { return time.to_owned() };
    let seconds = at.as_second() - jiff::Timestamp::now().as_second();
    if seconds >= 0 {
        format!("in {}", span(seconds.unsigned_abs()))
    } else {
        format!("{} ago", span(seconds.unsigned_abs()))
    }
}

/// Formats a past time relative to now. The log's time may be slightly ahead of this clock.
pub(super) fn ago(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(at) if at.as_second() >= jiff::Timestamp::now().as_second() => "now".to_owned(),
        _ => from_now(time),
    }
}

/// Formats a due time relative to now; a past one is `due now`.
pub(super) fn due(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(at) if at <= jiff::Timestamp::now() => "due now".to_owned(),
        _ => from_now(time),
    }
}

/// Formats seconds in a suitable unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", count(seconds / 3_600)),
    }
}

/// Formats an optional value; none is `-`.
pub(super) fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Formats a count with its noun: `1 event`, `8,577 events`.
pub(super) fn some(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Formats `8577` as `8,577`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + 6);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 8_577, 1_000_000].map(count), ["0", "999", "8,577", "1,000,000"]);
        assert_eq!([0, 1, 8_577].map(|n| some(n, "event")), ["0 events", "1 event", "8,577 events"]);
    }

    #[test]
    fn on_a_terminal_each_row_is_one_line_that_fits() {
        let name = format!("case-{}", "9".repeat(40));
        let row = [name.clone(), "dead".into(), format!("no such\naddress {}", "x".repeat(200))];
        let text = table_within(Some(80), ["sequence", "state", "cause"], [row]);
        assert!(text.lines().nth(1).is_some_and(|line| line.starts_with(&name)), "a name can be copied: {text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("dead") && text.contains('…') && text.contains("no such"), "{text}");
        assert_eq!(shrunk(vec![40, 7, 100, 9], 80), [40, 7, 24, 9], "the widest shrink");
        assert_eq!(shrunk(vec![60, 7], 80), [60, 7], "fitting widths stay");
        let words = ["7".into(), "dead".into(), "a cause of many words goes on ".repeat(9)];
        let text = table_within(Some(80), ["sequence", "state", "cause"], [words]);
        let filled = text.lines().nth(1).map(|line| line.chars().count());
        let wide = table_within(Some(80), ["n", "cause"], [["7".into(), "漢".repeat(60)]]);
        assert!((33..40).contains(&wide.matches('漢').count()), "a wide character takes two columns: {wide}");
        assert_eq!((text.lines().count(), filled), (2, Some(78)), "a truncated cell fills its column: {text}");
    }

    #[test]
    fn names_are_shown_so_that_they_can_be_copied_and_nothing_reaches_the_terminal_raw() {
        let rows =
            ["a  b", " c ", &"n".repeat(200), "e\x1b[2J\u{9b}31m"].map(|name| [name.to_owned(), "x\x1b[1m".into()]);
        let text = table_within(Some(80), ["name", "cause"], rows);
        let starts: Vec<&str> = text.lines().skip(1).map(str::trim_end).collect();
        assert!(starts[0].starts_with("a  b ") && starts[1].starts_with("' c ' "), "{text}");
        assert!(starts[2].starts_with(&"n".repeat(200)), "{text}");
        assert!(starts[3].starts_with(r"e\u{1b}[2J\u{9b}31m"), "{text}");
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
    }

    #[test]
    fn a_terminal_without_a_known_width_truncates_nothing() {
        assert_eq!([width(0), width(7), width(80)], [None, Some(20), Some(80)]);
    }

    #[test]
    fn lines_wrap_between_words() {
        assert_eq!(wrapped_within(10, "one two three\n\nfour"), "one two\nthree\n\nfour\n");
        assert_eq!(wrapped_within(4, "a-long-word b"), "a-long-word\nb\n");
        assert_eq!(wrapped_within(20, "1 | [node\n  |     ^"), "1 | [node\n  |     ^\n", "indentation stays");
        assert_eq!(indented_after("next:", "one two\nthree", Some(13)), " one\n  two\n  three");
        assert_eq!(indented_after("next:", "one two\nthree", None), " one two\n  three");
    }

    #[test]
    fn times_are_relative_to_now() {
        let seconds = |seconds: i64| {
            let at = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
            from_now(&at.to_string())
        };
        assert!(["in 90 s", "in 89 s"].contains(&seconds(90).as_str()), "{}", seconds(90));
        assert_eq!((seconds(-600), seconds(90_000)), ("10 min ago".into(), "in 25 h".into()));
        assert_eq!(from_now("later"), "later");
        let at = |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
        assert_eq!((due(&at(-54)), due("later")), ("due now".into(), "later".into()));
        assert!(due(&at(90)).starts_with("in "), "{}", due(&at(90)));
        assert_eq!((ago(&at(-600)), ago(&at(2)), ago("then")), ("10 min ago".into(), "now".into(), "then".into()));
    }

    #[test]
    fn tables_are_aligned_and_have_no_trailing_space() {
        let text = table(["name", "n"], [["a".into(), "1".into()], ["longer".into(), "22".into()]]);
        assert_eq!(text, "NAME    N\na       1\nlonger  22\n");
    }
}
