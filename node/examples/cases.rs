//! Writes a line for each event to the file that `CASES` names: position, case, activity, attempt.
//!
//! Start it with the same settings as `evener serve`, on as many nodes as there are:
//! `CASES=cases.tsv cargo run --example cases -- --data n1 --bootstrap`.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::Arc,
};

use evener::prelude::*;

async fn write(event: Raw, Position(at): Position, Attempt(attempt): Attempt, State(file): State<Arc<File>>) -> Result {
    let (case, activity) = (event.event.stream.as_deref().unwrap_or("-"), &event.event.kind);
    // One write a line, at the end of the file: several nodes may share it.
    (&*file).write_all(format!("{at}\t{case}\t{activity}\t{attempt}\n").as_bytes())?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let path = std::env::var("CASES").unwrap_or_else(|_| "cases.tsv".to_owned());
    let file = Arc::new(OpenOptions::new().create(true).append(true).open(path)?);
    let node = Node::from_env()?
        .log_to_stderr()?
        .processor(Processor::new("cases").on_any(write).with_state(file))
        .start()
        .await?;
    println!("{}", node.ready_line().unwrap_or_default());
    node.run().await
}
