//! Says *look* to an actor whenever there is something new to see, once at a time: while it has not looked yet, what
//! else moves waits, so that its mailbox never holds more than one look.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Casts `look` whenever what `seen` shows differs from what was shown before; `moved` waits until it may, and
/// answers false when it never will again. The permit goes with the message: the next one waits until it is dropped.
pub async fn watch<M: ractor::Message, S: PartialEq>(
    me: ActorRef<M>,
    look: fn(OwnedSemaphorePermit) -> M,
    seen: impl Fn() -> S,
    mut moved: impl AsyncFnMut() -> bool,
) {
    let credit = Arc::new(Semaphore::new(1));
    let mut last = None;
    loop {
        let Ok(permit) = credit.clone().acquire_owned().await else { return };
        let now = Some(seen());
        if last != now {
            last = now;
            if me.cast(look(permit)).is_err() {
                return;
            }
        }
        if !moved().await {
            return;
        }
    }
}
