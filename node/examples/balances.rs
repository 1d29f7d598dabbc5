//! The whole of an event processor: an event, its handler, a node. `cargo run --example balances`.
#![allow(clippy::unwrap_used, reason = "a poisoned lock ends an example")]

use evener::prelude::*;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1", key = account)] // a name that outlives the type; what orders it
struct Credited {
    account: String,
    cents: i64,
}

type Balances = Arc<Mutex<HashMap<String, i64>>>;

async fn project(event: Credited, State(balances): State<Balances>) {
    *balances.lock().unwrap().entry(event.account).or_default() += event.cents;
}

#[tokio::main]
async fn main() -> Result {
    let balances = Balances::default();
    let node = Node::from_env()? // flags > EVENER_* > evener.toml > one node in ./data
        .log_to_stderr()? // or a subscriber of `tracing` of your own
        .processor(Processor::new("balances").on(project).with_state(balances.clone()))
        .start()
        .await?;
    node.append("account-7", [Credited { account: "7".into(), cents: 100 }]).await?;
    node.caught_up("balances").await?; // read your writes, in a line
    println!("account 7 holds {} cents", balances.lock().unwrap()["7"]);
    node.run().await // Ctrl-C or SIGTERM: drain, hand over, stop
}
