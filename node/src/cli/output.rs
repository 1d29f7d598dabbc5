//! How answers and errors are shown: to people as tables, to programs as JSON or YAML.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::{codes, error::ApiError};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON value
    Json,
    /// One JSON value a line
    Ndjson,
    /// YAML
    Yaml,
}

impl Format {
    /// Writes `answer`; `words` is how people read it.
    pub fn show(self, answer: &impl Serialize, words: impl FnOnce() -> String) -> Result<(), ApiError> {
        if self == Self::Table {
            return say(&words());
        }
        let answer = serde_json::to_value(answer).expect("answers are plain values");
        match (self, &answer) {
            (Self::Ndjson, Value::Array(items)) => {
                say(&items.iter().map(|item| format!("{item}\n")).collect::<String>())
            }
            (Self::Ndjson, answer) => say(&format!("{answer}\n")),
            (Self::Yaml, answer) => {
                say(&serde_yaml_ng::to_string(answer).expect("every JSON value can be written as YAML"))
            }
            (_, answer) => say(&format!("{answer:#}\n")),
        }
    }
}

/// Writes to stdout. Where nobody reads any more, as behind `head`, the command ends without a complaint.
pub fn say(text: &str) -> Result<(), ApiError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(ApiError::new(&codes::FILE, format!("failed to write to stdout: {error}"))),
    }
}

/// Writes an error to stderr: its code, what was being done, and what to do next.
pub fn complain(error: &ApiError) {
    let bright = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (red, bold, faint, plain) =
        if bright { ("\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "", "") };
    let message = error.message.trim_end().replace('\n', "\n  ");
    eprintln!("{red}{bold}error[{}]{plain}: {message}", error.code);
    if let Some(conflict) = &error.conflict {
        let json = serde_json::to_string(conflict).expect("a conflict is plain values");
        if json.len() < 500 {
            eprintln!("  {faint}conflict:{plain} {json}");
        }
    }
    if let Some(leader) = &error.leader {
        eprintln!("  {faint}leader:{plain} {leader}");
    }
    eprintln!("  {bold}next:{plain} {}", error.hint);
    eprintln!("  {faint}more: evener explain {}{plain}", error.code);
}

/// A table with these heads.
pub fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        // Who reads it from a pipe wants whole lines.
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(heads.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// What may be missing.
pub fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `8577` as `8,577`.
pub fn count(number: u64) -> String {
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
    }

    #[test]
    fn tables_are_aligned_and_have_no_trailing_space() {
        let text = table(["name", "n"], [["a".into(), "1".into()], ["longer".into(), "22".into()]]);
        assert_eq!(text, "NAME    N\na       1\nlonger  22\n");
    }
}
