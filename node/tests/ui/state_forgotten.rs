use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

async fn project(_: Credited, State(_): State<String>) {}

fn run(_: impl evener::handler::Ready) {}

fn main() {
    run(Processor::new("balances").on(project));
}
