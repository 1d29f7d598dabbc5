//! What a program made of handlers needs: `use evener::prelude::*;`.

pub use serde::{Deserialize, Serialize};

pub use crate::{
    Attempt, Claim, Error, Event, Every, FromDelivery, Meta, OnError, Outcome, Position, Processor, Raw, Replaying,
    Result, Sequencing, Start, State,
};
