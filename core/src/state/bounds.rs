//! The bounds of a command: every text and list in it that the state keeps has a limit with a name (P10).

use alloc::string::String;

use crate::{
    command::{Admit, Begin, Change, Operate, Selection},
    limits::{LimitExceeded, LimitName, Limits, Measured},
    processor::{Definition, Handler},
    sequence::Sequencing,
};

/// Versions of one embedded processor that a process can run beside each other.
const VERSIONS_MAX: u32 = 64;

/// Checks that a name, described by `of`, is not too long.
fn name(limits: &Limits, name: &str, of: Measured) -> Result<(), LimitExceeded> {
    LimitExceeded::check(LimitName::NameBytes, limits.name_bytes_max, name.len(), || of)
}

impl Operate {
    /// Checks that all of it can be remembered.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        let reason = self.reason.as_deref().map_or(0, str::len);
        LimitExceeded::check(LimitName::ReasonBytes, limits.reason_bytes_max, reason, || Measured::Reason)?;
        if let Some(principal) = &self.principal {
            name(limits, &principal.0, Measured::Principal)?;
        }
        self.change.within(limits)
    }
}

impl Change {
    /// Checks that all names in it can be names.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        match self {
            Self::Create(definition) => definition.within(limits),
            Self::Expect(peer) => name(limits, peer, Measured::PeerAddress),
            Self::Letters(processor, selection, _) => {
                name(limits, processor, Measured::ProcessorName)?;
                let Selection::Sequence(_, sequence) = selection else { return Ok(()) };
                // A sequence is named by a key or a stream, by a tag, or by an extension attribute.
                let Limits { name_bytes_max, tag_bytes_max, extension_bytes_max, .. } = *limits;
                let max = name_bytes_max.max(tag_bytes_max).max(extension_bytes_max);
                LimitExceeded::check(LimitName::ExtensionBytes, max, sequence.len(), || Measured::SequenceName)
            }
            Self::Delete(processor)
            | Self::Pause(processor, _)
            | Self::Release(processor, _)
            | Self::Claim(processor, ..)
            | Self::Unpin(processor, _)
            | Self::Split(processor, _)
            | Self::Merge(processor, _)
            | Self::Move(processor, ..)
            | Self::SkipEvent(processor, ..) => name(limits, processor, Measured::ProcessorName),
            Self::Reset(processor, _, context) => {
                name(limits, processor, Measured::ProcessorName)?;
                let (max, bytes) = (limits.reset_context_bytes_max, context.as_ref().map_or(0, String::len));
                LimitExceeded::check(LimitName::ResetContextBytes, max, bytes, || Measured::ResetContext)
            }
            Self::SetLimits(_) | Self::Leave(_) | Self::Lead(..) => Ok(()),
        }
    }
}

impl Definition {
    fn within(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        name(limits, &self.name, Measured::ProcessorName)?;
        if let Handler::Exec(command) | Handler::Webhook(command) = &self.handler {
            let max = limits.exec_bytes_max;
            LimitExceeded::check(LimitName::ExecBytes, max, command.len(), || Measured::ProcessorCommand)?;
        }
        if let Sequencing::Tag(by) | Sequencing::Extension(by) = &self.sequencing {
            name(limits, by, Measured::SequencedBy)?;
        }
        self.criteria.within(limits)?;
        let items = self.criteria.0.iter();
        let texts = items.flat_map(|item| item.types.iter().chain(&item.tags)).map(String::len).sum::<usize>();
        LimitExceeded::check(LimitName::DefinitionBytes, limits.definition_bytes_max, texts, || {
            Measured::ProcessorTexts
        })
    }
}

impl Admit {
    /// Checks that it can be a member's.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        name(limits, &self.name, Measured::MemberName)?;
        name(limits, &self.peer, Measured::PeerAddress)?;
        name(limits, &self.http, Measured::HttpAddress)
    }
}

impl Begin {
    /// Checks that it can be a member's.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        name(limits, &self.peer, Measured::PeerAddress)?;
        name(limits, &self.http, Measured::HttpAddress)?;
        let count = self.capabilities.len();
        LimitExceeded::check(LimitName::Processors, limits.processors_max, count, || Measured::Capabilities)?;
        for (processor, versions) in &self.capabilities {
            name(limits, processor, Measured::ProcessorName)?;
            LimitExceeded::check(LimitName::Versions, VERSIONS_MAX, versions.len(), || Measured::Versions)?;
        }
        Ok(())
    }
}
