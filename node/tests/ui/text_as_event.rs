use evener::prelude::*;

async fn project(_: String) {}

fn main() {
    let _: Processor = Processor::new("balances").on(project);
}
