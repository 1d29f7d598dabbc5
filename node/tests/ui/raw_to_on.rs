use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

async fn project(_: Raw) {}

fn main() {
    let _: Processor = Processor::new("balances").on(project);
}
