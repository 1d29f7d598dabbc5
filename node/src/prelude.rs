//! The items that a program with handlers needs: `use evener::prelude::*;`.

pub use serde::{Deserialize, Serialize};

pub use crate::{
    Attempt, Claim, Criteria, Criterion, DurationExt, Error, Event, FromDelivery, Meta, Node, OnError, Outcome,
    Position, Processor, Raw, ReplayContext, Replaying, Reset, Result, Revision, Sequencing, Start, State,
    node::NoStream,
};
