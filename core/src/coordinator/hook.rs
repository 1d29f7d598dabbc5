//! The hook of a replay, as the coordinator of the node that runs it sees it: one node runs it, the owner of the
//! processor's first segment. Its claim fences the hook as claims fence handlers: if the claim moves while the hook
//! runs, the hook is stopped here and the next owner runs it again.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use super::Effect;
use crate::{
    id::{Epoch, Generation, SegmentId},
    replay::ReplayPhase,
    time::Moment,
};

/// The longest wait before a failed hook is run again.
const HOOK_WAIT_MAX: Duration = Duration::from_secs(60);

/// A hook that a node has to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The generation that the reset began.
    pub generation: Generation,
    /// The phase that ends with it.
    pub phase: ReplayPhase,
    /// The first segment, which this node owns, ...
    pub segment: SegmentId,
    /// ... the hash bits that the fence covers: 0, which is all segments, for the hook that prepares a replay, ...
    pub mask: u32,
    /// ... and the epoch of its claim.
    pub epoch: Epoch,
    /// The context that the operator gave, as JSON.
    pub context: Option<String>,
}

/// What is being done about a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum HookRun {
    /// There is none to run.
    #[default]
    None,
    /// It runs, after this many failures.
    Running(Hook, u32),
    /// It failed so often, for this reason, and is run again at that moment.
    Failed(Hook, u32, Moment, String),
}

impl HookRun {
    /// Begins, keeps or stops the hook, as the log says now.
    pub(super) fn update<T>(&mut self, wanted: Option<&Hook>, effects: &mut Vec<Effect<T>>) {
        if self.hook() == wanted {
            return;
        }
        if matches!(self, Self::Running(..)) {
            effects.push(Effect::StopHook);
        }
        *self = match wanted {
            None => Self::None,
            Some(hook) => {
                effects.push(Effect::RunHook(hook.clone()));
                Self::Running(hook.clone(), 0)
            }
        };
    }

    /// Takes the result of a run. One that succeeded is over once the log says so.
    pub(super) fn ran(&mut self, now: Moment, hook: &Hook, result: Result<(), String>, delay: Duration) {
        let Self::Running(running, failures) = self else { return };
        let (Err(cause), true) = (result, running == hook) else { return };
        let failures = *failures;
        let wait = delay.saturating_mul(1 << failures.min(5)).min(HOOK_WAIT_MAX);
        *self = Self::Failed(hook.clone(), failures + 1, now.after(wait), cause);
    }

    /// Runs a failed hook again if it is due; returns when it will be.
    pub(super) fn wake<T>(&mut self, now: Moment, effects: &mut Vec<Effect<T>>) -> Option<Moment> {
        let Self::Failed(hook, failures, until, _) = self else { return None };
        if *until > now {
            return Some(*until);
        }
        effects.push(Effect::RunHook(hook.clone()));
        *self = Self::Running(hook.clone(), *failures);
        None
    }

    /// Returns why it failed and when it is run again, if it failed.
    pub(super) fn failure(&self) -> Option<(&str, Moment)> {
        match self {
            Self::Failed(_, _, until, cause) => Some((cause, *until)),
            _ => None,
        }
    }

    const fn hook(&self) -> Option<&Hook> {
        match self {
            Self::None => None,
            Self::Running(hook, _) | Self::Failed(hook, ..) => Some(hook),
        }
    }
}
