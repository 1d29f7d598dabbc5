//! What a command may hold: every text and list in it that the state keeps has a limit with a name (P10).

use alloc::{format, string::String};

use crate::{
    command::{Admit, Begin, Change, Selection, Why},
    limits::{Limits, Passed},
    processor::{Definition, Handler},
    sequence::Sequencing,
};

/// Versions of one embedded processor that a process can run beside each other.
const VERSIONS_MAX: u32 = 64;

impl From<Passed> for Why {
    fn from(passed: Passed) -> Self {
        Self::Invalid(format!("{passed}"))
    }
}

/// Whether a name, of what `of` says, is not too long.
fn name(limits: &Limits, name: &str, of: &str) -> Result<(), Passed> {
    Passed::check("name_bytes_max", limits.name_bytes_max, name.len(), || format!("bytes of {of}"))
}

/// Whether a person's reason is not too long.
pub(super) fn reason_within(limits: &Limits, reason: Option<&str>) -> Result<(), Passed> {
    let bytes = reason.map_or(0, str::len);
    Passed::check("reason_bytes_max", limits.reason_bytes_max, bytes, || String::from("bytes of a reason"))
}

impl Change {
    /// Whether all that it names can be the name of something.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), Passed> {
        match self {
            Self::Create(definition) => definition.within(limits),
            Self::Expect(peer) => name(limits, peer, "an address"),
            Self::Letters(processor, selection, _) => {
                name(limits, processor, "a processor's name")?;
                let Selection::Sequence(_, sequence) = selection else { return Ok(()) };
                // A sequence is named by a key or a stream, by a tag, or by an extension attribute.
                let Limits { name_bytes_max, tag_bytes_max, extension_bytes_max, .. } = *limits;
                let max = name_bytes_max.max(tag_bytes_max).max(extension_bytes_max);
                Passed::check("extension_bytes_max", max, sequence.len(), || "bytes of a sequence's name".into())
            }
            Self::Delete(processor)
            | Self::Pause(processor, _)
            | Self::Release(processor, _)
            | Self::Claim(processor, ..)
            | Self::Unpin(processor, _)
            | Self::SkipEvent(processor, ..) => name(limits, processor, "a processor's name"),
            Self::SetLimits(_) | Self::Leave(_) | Self::Lead(..) => Ok(()),
        }
    }
}

impl Definition {
    fn within(&self, limits: &Limits) -> Result<(), Passed> {
        name(limits, &self.name, "a processor's name")?;
        if let Handler::Exec(command) | Handler::Webhook(command) = &self.handler {
            let max = limits.exec_bytes_max;
            Passed::check("exec_bytes_max", max, command.len(), || "bytes of a processor's command".into())?;
        }
        if let Sequencing::Tag(by) | Sequencing::Extension(by) = &self.sequencing {
            name(limits, by, "what a sequence is named by")?;
        }
        self.criteria.within(limits)?;
        let items = self.criteria.0.iter();
        let texts = items.flat_map(|item| item.types.iter().chain(&item.tags)).map(String::len).sum::<usize>();
        Passed::check("definition_bytes_max", limits.definition_bytes_max, texts, || {
            "bytes of the types and tags of a processor".into()
        })
    }
}

impl Admit {
    /// Whether it can be a member's.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), Passed> {
        name(limits, &self.name, "a member's name")?;
        name(limits, &self.peer, "a member's peer address")?;
        name(limits, &self.http, "a member's HTTP address")
    }
}

impl Begin {
    /// Whether it can be a member's.
    pub(super) fn within(&self, limits: &Limits) -> Result<(), Passed> {
        name(limits, &self.peer, "a member's peer address")?;
        name(limits, &self.http, "a member's HTTP address")?;
        let count = self.capabilities.len();
        Passed::check("processors_max", limits.processors_max, count, || "processors of one program".into())?;
        for (processor, versions) in &self.capabilities {
            name(limits, processor, "a processor's name")?;
            Passed::check("versions_max", VERSIONS_MAX, versions.len(), || "versions of one processor".into())?;
        }
        Ok(())
    }
}
