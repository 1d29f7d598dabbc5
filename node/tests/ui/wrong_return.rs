use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

async fn project(_: Credited) -> u64 {
    7
}

fn main() {
    let _: Processor = Processor::new("balances").on(project);
}
