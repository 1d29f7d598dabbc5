use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

async fn project(State(_): State<u32>, _: Credited) {}

fn main() {
    let _: Processor<u32> = Processor::new("balances").on(project);
}
