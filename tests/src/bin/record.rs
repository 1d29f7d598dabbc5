//! A handler program for the tests: records each delivery, and fails for configured events.
//!
//! `record FOLDER` appends a line `position TAB stream TAB type TAB attempt TAB segment TAB epoch TAB at_us TAB ok TAB
//! replaying TAB context` per delivery to its own file, named after the process ids of the node and of itself. Every
//! attempt at an event of a stream listed in `FOLDER/fail-always` fails, as long as it is listed, and so do the first
//! three attempts at the positions in `FOLDER/fail-thrice`. Each delivery takes at least the microseconds in
//! `FOLDER/delay-us`.

use std::{
    fs::{OpenOptions, read_to_string},
    io::{self, BufRead, Write},
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or_else(|| io::Error::other("a folder is missing"))?);
    let name = format!("{}-{}.seen", std::os::unix::process::parent_id(), std::process::id());
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
    let mut out = io::stdout().lock();
    let delay = read_to_string(folder.join("delay-us")).ok().and_then(|text| text.trim().parse().ok());
    for line in io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let event = &asked["event"];
        let (stream, kind) = (event["subject"].as_str().unwrap_or(""), event["type"].as_str().unwrap_or(""));
        let attempt = asked["attempt"].as_u64().unwrap_or(0);
        if let Some(delay) = delay {
            std::thread::sleep(Duration::from_micros(delay));
        }
        let (segment, epoch, position) = (&asked["segment"], &asked["epoch"], &event["position"]);
        let named = |list: &str, what: &str| {
            read_to_string(folder.join(list)).is_ok_and(|text| text.lines().any(|l| l == what))
        };
        let fails = named("fail-always", stream) || (attempt <= 3 && named("fail-thrice", &position.to_string()));
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let row = format!(
            "{position}\t{stream}\t{kind}\t{attempt}\t{segment}\t{epoch}\t{at}\t{}\t{}\t{}\n",
            !fails, asked["replaying"], asked["context"]
        );
        file.write_all(row.as_bytes())?;
        let delivery = &asked["delivery"];
        match fails {
            true => writeln!(out, "{{\"delivery\":{delivery},\"error\":\"{stream} fails as configured\"}}")?,
            false => writeln!(out, "{{\"delivery\":{delivery},\"ok\":true}}")?,
        }
        out.flush()?;
    }
    Ok(())
}
