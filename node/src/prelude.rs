//! What a program made of handlers needs: `use evener::prelude::*;`.

pub use serde::{Deserialize, Serialize};

pub use crate::{
    Attempt, Claim, Criteria, Criterion, Error, Event, Every, FromDelivery, Meta, Node, OnError, Outcome, Position,
    Processor, Raw, Replaying, Result, Revision, Sequencing, Start, State, node::NoStream,
};
