//! Changes: each is one command with a name, answered within two seconds with what came of it, or with what it
//! waits for.

use evener_core::{
    claim::Motion,
    command::{self, Command, LetterChange, Operate, Outcome, Why},
    id::{NodeId, SegmentId},
    state::State,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Change, Operation, OperationState, What, leave,
    local::{ANSWER_WAIT, Engine},
};
use crate::{codes, error::ApiError};

/// Makes a change, or says what it would come to.
pub async fn change(engine: &Engine, change: Change) -> Result<Operation, ApiError> {
    let id = change.operation;
    let answer = match &change.what {
        What::Join(peer) => leave::join(engine, peer),
        What::Leave(name) => leave::leave(engine, name, &change).await,
        What::Transfer(name) => leave::transfer(engine, name.as_deref(), change.dry_run).await,
        What::NotYet(verb) => Err(ApiError::not_yet(verb.row().words)),
        what => operate(engine, what, &change).await,
    };
    match answer {
        Ok(Done { state, why, changed }) => {
            Ok(Operation { operation: id, state, why, changed, dry_run: change.dry_run })
        }
        Err(error) => Err(error.operation(id)),
    }
}

/// What came of a change that was remembered.
pub fn operation(engine: &Engine, id: Uuid) -> Result<Operation, ApiError> {
    let state = engine.cluster().state();
    let Some(known) = state.operations.iter().find(|known| known.operation == id) else {
        return Err(ApiError::new(&codes::UNKNOWN_OPERATION, format!("there is no operation {id}")));
    };
    let (state, why, changed) = match &known.outcome {
        Outcome::Not(why) => (OperationState::Refused, Some(ApiError::from(why.clone()).message), None),
        Outcome::Changed(changed) => (OperationState::Done, None, Some(*changed)),
        _ => (OperationState::Done, None, None),
    };
    Ok(Operation { operation: id, state, why, changed, dry_run: false })
}

/// What came of it, before it has its name.
pub struct Done {
    /// Whether it holds.
    pub state: OperationState,
    /// What was done, or what it waits for.
    pub why: Option<String>,
    /// How many things it touched.
    pub changed: Option<u64>,
}

impl Done {
    /// It holds.
    pub fn so(why: Option<String>) -> Self {
        Self { state: OperationState::Done, why, changed: None }
    }

    /// It is decided, and not in effect yet.
    pub fn waiting(why: impl Into<String>) -> Self {
        Self { state: OperationState::Waiting, why: Some(why.into()), changed: None }
    }
}

async fn operate(engine: &Engine, what: &What, change: &Change) -> Result<Done, ApiError> {
    let command = command(engine, what)?;
    if change.dry_run {
        let outcome = engine.cluster().state().try_change(&command);
        return judged(outcome, |changed| Some(format!("it would touch {changed}: nothing was changed")));
    }
    let operate = Operate { operation: change.operation, reason: change.reason.clone(), change: command };
    let outcome = engine.cluster().propose(Command::Operate(operate)).await.map_err(|error| engine.told(error))?;
    let done = judged(outcome, |changed| (changed == 0).then(|| "it was so already".to_owned()))?;
    match what {
        What::Release(name, segment) | What::Claim(name, segment, _) => {
            Ok(settled(engine, name, *segment).await.unwrap_or(done))
        }
        _ => Ok(done),
    }
}

fn command(engine: &Engine, what: &What) -> Result<command::Change, ApiError> {
    use command::Change as To;
    Ok(match what {
        What::Create(definition) => To::Create(definition.clone()),
        What::Delete(name) => To::Delete(name.clone()),
        What::Pause(name) => To::Pause(name.clone(), true),
        What::Resume(name) => To::Pause(name.clone(), false),
        What::Release(name, segment) => To::Release(name.clone(), *segment),
        What::Unpin(name, segment) => To::Unpin(name.clone(), *segment),
        What::Claim(name, segment, node) => {
            let node =
                node.as_deref().map_or(Ok(engine.cluster().me()), |node| member(&engine.cluster().state(), node))?;
            To::Claim(name.clone(), *segment, node)
        }
        What::Retry(name, which) => To::Letters(name.clone(), which.clone(), LetterChange::Retry),
        What::Skip(name, which) => To::Letters(name.clone(), which.clone(), LetterChange::Skip),
        What::Drop(name, which) => To::Letters(name.clone(), which.clone(), LetterChange::Drop),
        What::Join(_) | What::Leave(_) | What::Transfer(_) | What::NotYet(_) => {
            unreachable!("changes of the members are no operations of the log")
        }
    })
}

fn judged(outcome: Outcome, why: impl FnOnce(u64) -> Option<String>) -> Result<Done, ApiError> {
    match outcome {
        Outcome::Not(why) => Err(refused(why)),
        Outcome::Changed(changed) => Ok(Done { changed: Some(changed), ..Done::so(why(changed)) }),
        _ => Ok(Done::so(None)),
    }
}

/// A refusal with the code of what was not found.
fn refused(why: Why) -> ApiError {
    let code = match &why {
        Why::Unknown(what) if what.contains("set aside") => &codes::UNKNOWN_SEQUENCE,
        Why::Unknown(what) => match what.strip_prefix("there is no ").and_then(|what| what.split(' ').next()) {
            Some("processor") => &codes::UNKNOWN_PROCESSOR,
            Some("segment") => &codes::UNKNOWN_SEGMENT,
            Some("member") => &codes::UNKNOWN_NODE,
            Some("context") => &codes::UNKNOWN_CONTEXT,
            _ => &codes::UNKNOWN_THING,
        },
        _ => return why.into(),
    };
    ApiError::new(code, ApiError::from(why).message)
}

/// Waits a while until a segment rests: its owner first finishes what it handles.
async fn settled(engine: &Engine, name: &str, segment: SegmentId) -> Option<Done> {
    let mut applied = engine.cluster().applied();
    let motion = || {
        let state = engine.cluster().state();
        let claim = &state.processor(name)?.segments.get(&segment)?.claim;
        (claim.motion != Motion::Rest)
            .then(|| claim.owner.map_or_else(String::new, |o| super::local::name_of(&state, o)))
    };
    let rests = async {
        while motion().is_some() {
            if applied.changed().await.is_err() {
                return;
            }
        }
    };
    timeout(ANSWER_WAIT, rests).await.err()?;
    let owner = motion()?;
    Some(Done::waiting(format!("{owner} first finishes what it handles there")))
}

/// The number of the member called `name`.
pub fn member(state: &State, name: &str) -> Result<NodeId, ApiError> {
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
