use evener::prelude::*;

#[derive(Event, Serialize, Deserialize)]
#[event(name = "account.credited.v1", key = acount)]
struct Credited {
    account: String,
    cents: i64,
}

#[derive(Event, Serialize, Deserialize)]
#[event(key = account)]
enum Account {
    #[event(name = "account.opened.v1")]
    Opened { account: u64 },
    #[event(name = "account.audited.v1")]
    Audited,
}

#[derive(Event, Serialize, Deserialize)]
enum Twice {
    #[event(name = "a")]
    One,
    #[event(name = "a")]
    Two,
}

#[derive(Event, Serialize, Deserialize)]
#[event(named = "a")]
struct Misspelt;

fn main() {}
