//! Sends a refresh to an actor whenever its inputs change, one at a time: until the actor has processed it, further
//! changes are only noted, so that its mailbox holds at most one refresh.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Casts `look` whenever the value of `seen` changes. `moved` waits for a possible change and returns false if there
/// will be none. The message carries the permit: the next message waits until it is dropped.
pub(super) async fn watch<M: ractor::Message, S: PartialEq>(
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
