use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

async fn count(_: Credited, State(_): State<u32>) {}

async fn name(_: Credited, State(_): State<String>) {}

fn main() {
    let _: Processor<u32> = Processor::new("balances").on(count).on(name);
}
