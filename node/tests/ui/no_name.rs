use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
struct Credited;

#[derive(Event, Serialize, Deserialize)]
enum Account {
    #[event(name = "account.opened.v1")]
    Opened,
    Closed,
}

fn main() {}
