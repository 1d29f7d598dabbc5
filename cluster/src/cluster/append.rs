//! Appends: checked against the state applied here, then proposed to the log.

use std::{borrow::Cow, mem::take};

use evener_core::{
    append::{self, Appended, Checked, Refusal, Request, Stamp},
    command::Outcome,
    event::Event,
    id::FeatureLevel,
};
use evener_store::history::{HistorySearch, SHORT_CHECK_PROBES_MAX};
use tokio::time::{Instant, timeout_at};

use super::{Cluster, propose::RETRY_DELAY};
use crate::{
    disk_reserve,
    error::{Class, Error},
    proposal::Group,
    searches::SearchPhase,
};

impl Cluster {
    /// Appends events: all or none.
    ///
    /// # Errors
    ///
    /// After an error of [`Class::Unknown`] the events may have been stored: retry with the same ids. After any other
    /// error they were not.
    pub async fn append(&self, request: &Request) -> Result<Appended, Error> {
        self.check_running()?;
        let deadline = Instant::now() + self.config.proposer.deadline;
        // Rare waits are boxed: an append's future is moved several times on its way to a task, and would be
        // kilobytes long if it held all of them in place.
        if !self.is_founded() {
            Box::pin(self.wait_founded(deadline)).await?;
        }
        let context = request.context;
        if !self.applied_state.view.state().contexts.contains_key(&context) {
            return Err(Error::new(Class::Invalid, format!("there is no context {context}")));
        }
        let mut request = Cow::Borrowed(request);
        if self.applied_state.view.state().level < FeatureLevel::SOURCE_IDS {
            let request = request.to_mut();
            request.events = take(&mut request.events).into_iter().map(Event::into_bare).collect();
        }
        // The marker may come from a read on a node that has applied more of the log than this one.
        let head = self.events.head(context);
        if request.conditions.iter().any(|condition| condition.marker > head) {
            Box::pin(self.barrier()).await?;
        }
        loop {
            // The check runs outside apply, against the state applied here. A request refused now would be refused
            // at its place in the log too, because history only grows.
            let stamp = match self.check(&request).await? {
                Checked::Answered(appended) => return Ok(appended),
                Checked::Refused(refusal) => return Err(refusal.into()),
                Checked::Passed(stamp) => stamp,
            };
            // A repeated append that is already stored was answered above.
            self.check_disk_reserve()?;
            let (index, outcomes) = self.proposer.propose(Group::append(&request, &stamp)).await?;
            match outcomes.into_iter().next() {
                Some(Outcome::Appended(appended)) => return Ok(appended),
                // Too many entries lie between the check and the append's place: check again, up to that place.
                Some(Outcome::AppendRefused(Refusal::Retry)) if Instant::now() < deadline => {
                    self.applied_state.view.wait_applied(index).await;
                    if !request.conditions.is_empty() {
                        with_later_markers(request.to_mut(), &stamp);
                    }
                }
                Some(Outcome::AppendRefused(refusal)) => return Err(refusal.into()),
                Some(Outcome::Refused(why)) => return Err(why.into()),
                other => return Err(Error::unknown(format!("the answer makes no sense: {other:?}"))),
            }
        }
    }

    /// Checks an append against the state applied here. A check that reads far back continues on a search thread.
    async fn check(&self, request: &Request) -> Result<Checked, Error> {
        let limits = self.applied_state.view.state().limits;
        let (checked, exhausted) = {
            let past = HistorySearch::new(self.events.clone(), SHORT_CHECK_PROBES_MAX);
            let checked = append::check(&past, &limits, request);
            (checked, past.is_exhausted())
        };
        match checked {
            Checked::Passed(_) if exhausted => {
                let (events, request) = (self.events.clone(), request.clone());
                let check =
                    move |cancelled| append::check(&HistorySearch::unlimited(events, cancelled), &limits, &request);
                Box::pin(self.searches.run(SearchPhase::Start, check)).await
            }
            // A refusal stays a refusal, whatever the rest of the history holds.
            checked => Ok(checked),
        }
    }

    /// Waits until the first entry of the log is applied here. Before that, a node that has just joined knows no
    /// contexts and no limits, and would refuse requests that the cluster accepts.
    async fn wait_founded(&self, deadline: Instant) -> Result<(), Error> {
        let mut applied = self.applied_state.view.applied();
        let founded = timeout_at(deadline, applied.wait_for(|_| self.is_founded())).await;
        let late =
            || Error::new(Class::Overloaded, "this node has not received the cluster's log yet; ask another one");
        founded.map(|_| ()).map_err(|_| late().retry_after(RETRY_DELAY))
    }

    /// Returns why appends are refused, or `None` if they are accepted.
    pub(crate) fn append_refusal(&self) -> Option<String> {
        let blocking = self.blocking_disks.borrow().clone();
        (!blocking.is_empty()).then(|| disk_reserve::refusal(&self.names_of(&blocking), *self.disk_status.borrow()))
    }

    /// Refuses an append while the disk reserve is reached.
    fn check_disk_reserve(&self) -> Result<(), Error> {
        self.append_refusal().map_or(Ok(()), |why| Err(disk_reserve::refused(why)))
    }
}

/// Moves the markers of the conditions to the position up to which they were checked: no earlier event matches, so
/// earlier events need not be checked again.
fn with_later_markers(request: &mut Request, stamp: &Stamp) {
    for condition in &mut request.conditions {
        condition.marker = condition.marker.max(stamp.checked_to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<'a, F: Future>(_: impl FnOnce(&'a Cluster, &'a Request) -> F) -> usize {
        size_of::<F>()
    }

    /// An HTTP request may hold thousands of appends, each with a future of its own that is moved several times.
    #[test]
    fn the_future_of_an_append_is_small() {
        let bytes = future_bytes(Cluster::append);
        assert!(bytes <= 1024, "{bytes} bytes");
    }
}
