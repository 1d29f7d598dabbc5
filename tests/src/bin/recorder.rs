//! A program with an embedded node, for the tests: its only processor, `receipts`, records each delivery.
//!
//! It takes the settings of `evener serve`, and writes rows like those of the handler program `record` to its own file
//! in `RECORDER_FOLDER`. An event of type `block.v1` blocks the handler's thread for ten seconds, as no handler should.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evener::prelude::*;

/// How long an event of type `block.v1` blocks its thread.
const BLOCK: Duration = Duration::from_secs(10);

async fn record(
    event: Raw,
    Position(at): Position,
    Attempt(attempt): Attempt,
    claim: Claim,
    State(file): State<Arc<File>>,
) -> Result {
    let (stream, kind) = (event.event.stream.as_deref().unwrap_or(""), &event.event.kind);
    if kind == "block.v1" {
        std::thread::sleep(BLOCK);
    }
    let at_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
    let (segment, epoch) = (claim.segment, claim.epoch);
    let row = format!("{at}\t{stream}\t{kind}\t{attempt}\t{segment}\t{epoch}\t{at_us}\ttrue\tfalse\tnull\n");
    (&*file).write_all(row.as_bytes())?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let folder = PathBuf::from(std::env::var("RECORDER_FOLDER")?);
    let name = format!("{0}-{0}.seen", std::process::id());
    let file = Arc::new(OpenOptions::new().create(true).append(true).open(folder.join(name))?);
    let node = Node::from_env()?.processor(Processor::new("receipts").on_any(record).with_state(file)).start().await?;
    println!("{}", node.ready_line().unwrap_or_default());
    node.run().await
}
