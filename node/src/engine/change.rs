//! Changes: each is one command with a name, answered within two seconds with what came of it, or with what it
//! waits for.

mod change_log;
mod members;
mod reset;

use evener_core::{
    command::{self, Command, LetterChange, Operate, Outcome, RefusalReason},
    id::NodeId,
    processor::{Definition, Handler},
    reason::Existing,
    state::{ChangeKind, Goal, State},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Change, Operation, OperationState, What, letters,
    local::{ANSWER_WAIT, Engine},
};
use crate::{codes, error::ApiError};

#[cfg(test)]
pub(in crate::engine) use change_log::passes_over;
pub use change_log::watch_unowned;

/// Makes a change, or says what it would come to.
pub(super) async fn change(engine: &Engine, change: Change) -> Result<Operation, ApiError> {
    let (id, events, position) = {
        let state = engine.cluster().state();
        let what = &change.what;
        (change.operation, letters::given_up(&state, what), change_log::passes_over(&state, what))
    };
    match make(engine, &change).await {
        Ok(done) => {
            change_log::changed(&change, &done, position);
            let Done { state, why, changed } = done;
            Ok(Operation { operation: id, state, why, changed, events, dry_run: change.dry_run, note: None })
        }
        Err(error) => Err(error.operation(id)),
    }
}

/// What came of it, before it has its name.
pub(super) struct Done {
    /// Whether it holds.
    pub state: OperationState,
    /// What was done, or what it waits for.
    pub why: Option<String>,
    /// How many things it touched.
    pub changed: Option<u64>,
}

impl Done {
    /// It holds.
    pub(super) fn so(why: Option<String>) -> Self {
        Self { state: OperationState::Done, why, changed: None }
    }

    /// It is decided, and not in effect yet.
    pub(super) fn waiting(why: impl Into<String>) -> Self {
        Self { state: OperationState::Waiting, why: Some(why.into()), changed: None }
    }
}

/// Makes a change in the log with the command for it.
async fn make(engine: &Engine, change: &Change) -> Result<Done, ApiError> {
    use command::Change as To;
    let command = match change.what.clone() {
        What::Create(definition) => create(engine, definition)?,
        What::Delete(name) => To::Delete(name),
        What::Pause(name) => To::Pause(name, true),
        What::Resume(name) => To::Pause(name, false),
        What::Release(name, segment) => To::Release(name, segment),
        What::Unpin(name, segment) => To::Unpin(name, segment),
        What::SkipEvent(name, segment, position) => To::SkipEvent(name, segment, position),
        What::Reset(name, request) => return reset::reset(engine, name, &request, change).await,
        What::Split(name, segment) => To::Split(name, segment),
        What::Merge(name, segment) => To::Merge(name, segment),
        What::Move(name, segment, node) => {
            let first = first_node(&engine.cluster().state(), change, ChangeKind::Move, Some(&node));
            let node = first.map_or_else(|| member(&engine.cluster().state(), &node), Ok)?;
            To::Move(name, segment, node)
        }
        What::Claim(name, segment, node) => To::Claim(name, segment, claimant(engine, change, node.as_deref())?),
        What::Retry(name, selection) => To::Letters(name, selection, LetterChange::Retry),
        What::Skip(name, selection) => To::Letters(name, selection, LetterChange::Skip),
        What::Drop(name, selection) => To::Letters(name, selection, LetterChange::Drop),
        What::Join(peer) => To::Expect(peer),
        What::Leave(node) => return members::leave(engine, &node, change).await,
        What::Transfer(node) => return members::transfer(engine, node.as_deref(), change).await,
    };
    perform(engine, command, change).await
}

/// Has the log make a change, and waits a while for what it is to come to.
pub(super) async fn perform(engine: &Engine, command: command::Change, change: &Change) -> Result<Done, ApiError> {
    if change.dry_run {
        command.may_be_proposed()?;
        if let Some(first) = repeated(engine, &command, change) {
            let first = first?;
            return Ok(reached(engine, change.operation).await.map_or(first, Done::waiting));
        }
        let outcome = engine.cluster().state().try_change(&command);
        return judged(outcome, |touched| Some(trial(&change.what, touched)));
    }
    let done = decide(engine, command, change).await?;
    Ok(reached(engine, change.operation).await.map_or(done, Done::waiting))
}

/// Returns what a change whose id was used before is answered, without asking the log; none if the id is new.
pub(super) fn repeated(engine: &Engine, command: &command::Change, change: &Change) -> Option<Result<Done, ApiError>> {
    let outcome = engine.cluster().state().repeated(change.operation, command)?;
    Some(decided(outcome, said(command)))
}

/// What a change would come to that is only tried.
fn trial(what: &What, touched: u64) -> String {
    if let What::SkipEvent(.., position) = what {
        return format!("it would skip the event at position {position}; nothing was changed");
    }
    let (_, thing) = what.verb_and_thing();
    match touched {
        0 => "it is so already".to_owned(),
        1 => format!("it would touch 1 {thing}; nothing was changed"),
        _ => format!("it would touch {touched} {thing}s; nothing was changed"),
    }
}

/// Has the log make a change.
pub(super) async fn decide(engine: &Engine, command: command::Change, change: &Change) -> Result<Done, ApiError> {
    let said = said(&command);
    let Change { operation, ref principal, ref reason, .. } = *change;
    let (principal, reason) = (principal.clone(), reason.clone());
    let operate = Operate { operation, principal, reason, change: command };
    let propose = |operate| engine.cluster().propose(Command::Operate(operate));
    let mut outcome = propose(operate.clone()).await.map_err(|error| engine.api_error(error))?;
    // Repeated on another server, which has not applied it yet, a change that leaves its node open is another one.
    if let Some(first) = first_choice(&change.what, &outcome) {
        let change = with_node(operate.change.clone(), first);
        outcome = propose(Operate { change, ..operate }).await.map_err(|error| engine.api_error(error))?;
    }
    decided(outcome, said)
}

/// What the log decided on a change; `said` is said of one that was done.
fn decided(outcome: Outcome, said: Option<String>) -> Result<Done, ApiError> {
    judged(outcome, |changed| match said {
        _ if changed == 0 => Some("it was so already".to_owned()),
        said => said,
    })
}

/// Returns the node that was chosen when a change that leaves it open was made first, where this repeats it.
pub(super) fn first_choice(what: &What, outcome: &Outcome) -> Option<NodeId> {
    let Outcome::Refused(RefusalReason::Exists(Existing::Operation { kind, subject, .. })) = outcome else {
        return None;
    };
    match (what, kind) {
        (What::Claim(_, _, None), ChangeKind::Claim) | (What::Transfer(None), ChangeKind::Lead) => subject.node,
        _ => None,
    }
}

fn with_node(change: command::Change, node: NodeId) -> command::Change {
    match change {
        command::Change::Claim(name, segment, _) => command::Change::Claim(name, segment, node),
        command::Change::Lead(_, term) => command::Change::Lead(node, term),
        other => other,
    }
}

/// What is said of a change that was done, where its name does not say it all.
fn said(change: &command::Change) -> Option<String> {
    match change {
        command::Change::SkipEvent(.., position) => Some(format!("the event at position {position} was skipped")),
        _ => None,
    }
}

/// Returns the node that a change was made to when it was made first, if this repeats it: the node may have left since,
/// its name given to another, or another one be the choice where none is named.
pub(super) fn first_node(state: &State, change: &Change, kind: ChangeKind, name: Option<&str>) -> Option<NodeId> {
    let known = state.operations.iter().find(|known| known.operation == change.operation && known.kind == kind)?;
    let same = name.is_none_or(|name| known.subject.member.as_deref() == Some(name));
    known.subject.node.filter(|_| same)
}

/// What a remembered operation is still to come to.
pub(super) fn goal_of(engine: &Engine, operation: Uuid) -> Option<Goal> {
    let state = engine.cluster().state();
    let known = state.operations.iter().find(|known| known.operation == operation)?;
    known.goal.clone().filter(|goal| waits_for(engine, &state, goal).is_some())
}

/// Waits a while for what an operation is to come to. Answers what it waits for then, if for anything.
pub(super) async fn reached(engine: &Engine, operation: Uuid) -> Option<String> {
    let waits = || goal_of(engine, operation);
    let (mut applied, mut leadership) = (engine.cluster().applied(), engine.cluster().leadership());
    let rests = async {
        while waits().is_some() {
            let news = tokio::select! {
                news = applied.changed() => news,
                news = leadership.changed() => news,
            };
            if news.is_err() {
                return;
            }
        }
    };
    timeout(ANSWER_WAIT, rests).await.err()?;
    let goal = waits()?;
    waits_for(engine, &engine.cluster().state(), &goal)
}

/// What a goal waits for; none where it is reached.
pub(super) fn waits_for(engine: &Engine, state: &State, goal: &Goal) -> Option<String> {
    if let Goal::Leads(node, term) = goal {
        let (leadership, name) = (engine.cluster().leadership().borrow().clone(), state.name_of(*node));
        let over = leadership.term > *term || leadership.leader == Some(*node);
        return (!over).then(|| format!("{name} was asked to lead and does not yet: it may lack a part of the log"));
    }
    (!state.reached(goal)).then(|| match goal {
        Goal::Settled(id, segment) => {
            let share = state.processors.get(id).and_then(|processor| processor.segments.get(segment));
            let owner = share.and_then(|share| share.claim.owner);
            let owner = owner.map_or_else(|| "its owner".to_owned(), |owner| state.name_of(owner));
            format!("{owner} first finishes what it handles there")
        }
        Goal::Joined(peer) => members::how_to_join(engine, peer),
        Goal::Left(node) => format!("{} hands over what it has, then leaves and ends", state.name_of(*node)),
        Goal::Leads(..) => unreachable!("it was answered above"),
    })
}

fn create(engine: &Engine, definition: Box<Definition>) -> Result<command::Change, ApiError> {
    if matches!(definition.handler, Handler::Exec(_)) && !engine.allows_exec() {
        let message = format!("processor {} would run a program, and this node does not allow it", definition.name);
        return Err(ApiError::new(&codes::EXEC_NOT_ALLOWED, message));
    }
    let known = engine.cluster().state().processor(&definition.name).is_some();
    match definition.check_new() {
        Err(unfit) if !known => Err(ApiError::new(&codes::INVALID_CHANGE, unfit.to_string())),
        _ => Ok(command::Change::Create(definition)),
    }
}

/// Returns the node that a segment is given to: that of this name, else the node that is asked.
fn claimant(engine: &Engine, change: &Change, name: Option<&str>) -> Result<NodeId, ApiError> {
    let state = engine.cluster().state();
    match (first_node(&state, change, ChangeKind::Claim, name), name) {
        (Some(first), _) => Ok(first),
        (None, Some(name)) => member(&state, name),
        (None, None) => Ok(engine.cluster().me()),
    }
}

fn judged(outcome: Outcome, why: impl FnOnce(u64) -> Option<String>) -> Result<Done, ApiError> {
    match outcome {
        Outcome::Refused(why) => Err(why.into()),
        Outcome::Changed(changed) => Ok(Done { changed: Some(changed), ..Done::so(why(changed)) }),
        _ => Ok(Done::so(None)),
    }
}

/// The number of the member called `name`.
pub(super) fn member(state: &State, name: &str) -> Result<NodeId, ApiError> {
    let found = state.member(name).map(|member| member.node);
    found.ok_or_else(|| {
        let names = state.members.values().map(|member| member.name.clone());
        let error = ApiError::new(&codes::UNKNOWN_NODE, format!("there is no member {name}"));
        match crate::settings::nearest(name, names) {
            Some(near) => error.hint(format!("did you mean {near}? `evener cluster status` lists the members")),
            None => error,
        }
    })
}
