use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

async fn project(_: Credited) {
    let shared = std::rc::Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {
    let _: Processor = Processor::new("balances").on(project);
}
