use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1")]
struct Credited;

fn main() {
    let node = Node::connect("http://127.0.0.1:4750").unwrap();
    let _ = node.append("account-7", [&Credited]);
}
