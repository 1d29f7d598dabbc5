//! `evener processor create`

use clap::Args;
use evener_core::processor::OnError;

use crate::commands::args::{ChangeArgs, name, number_from_1, outcome_line};
use evener::{
    definition::{Fields, RetryFields, StartAt},
    engine::{Operation, OperationState, What},
    error::ApiError,
};

const EXAMPLE: &str = r#"Example, with this as totals.py in the directory where each `evener serve` was started:

import json, sys
for line in sys.stdin:
    delivery = json.loads(line)
    print("handled", delivery["event"]["id"], file=sys.stderr)
    print(json.dumps({"delivery": delivery["delivery"], "ok": True}), flush=True)

evener processor create totals --exec 'python3 totals.py'"#;

/// The arguments of `create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(in crate::commands) struct Create {
    /// Name of the processor, unique in the cluster
    #[arg(value_parser = name())]
    name: String,
    /// Handler program, run by `sh -c` on each node once per busy segment: it reads one JSON object per line and
    /// answers each with one
    ///
    /// Each node needs the program; a relative path such as ./totals.py refers to the working directory of that node's
    /// `evener serve`. Its stderr goes to the node's log.
    ///
    /// A running program is not replaced when its file changes: the new one is started after `evener processor pause`
    /// and `resume`, or once the old one was idle for 10 s.
    ///
    /// The program reads {"delivery":1,"processor":"mail","segment":3,"mask":15,"epoch":8,"lent":false,"attempt":1,
    /// "replaying":false,"event":{…}} and answers {"delivery":1,"ok":true} or {"delivery":1,"error":"no such
    /// address"}, optionally with "verdict": "retry", "set-aside" or "skip".
    ///
    /// To fence writes to your own database, store the epoch of each processor, segment and mask there, and in the
    /// writing transaction refuse an event if an overlapping row of the processor has a higher epoch; rows overlap if
    /// row.segment and segment agree in the bits of row.mask & mask. Answer a refusal with an error: it does not count
    /// as an attempt.
    #[arg(long, value_name = "CMD", required_unless_present = "webhook")]
    exec: Option<String>,
    /// URL to which events are posted (not built yet)
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Number of segments [default: 16]
    #[arg(long, value_name = "N", value_parser = number_from_1::<u32>)]
    segments: Option<u32>,
    /// Start position: `beginning`, `head`, a position, or a time (not built yet) [default: beginning]
    #[arg(long)]
    start: Option<String>,
    /// Only events of this type (repeatable: any of the types)
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only events with exactly this tag, any text such as account=7 (repeatable: all of the tags)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Sequencing policy, which events are handled in order: key-else-stream (events of one `key`, else of one
    /// subject), stream (of one subject), tag:NAME, extension:NAME, whole (all), none [default: key-else-stream]
    ///
    /// Events to which the policy does not apply, such as those without a subject, form one sequence: if one of them
    /// keeps failing, all later ones are set aside.
    #[arg(long, value_name = "POLICY")]
    sequencing: Option<String>,
    /// Action for an event that keeps failing: set-aside, stop or skip [default: set-aside]
    #[arg(long, value_name = "WHAT", value_parser = on_error)]
    on_error: Option<OnError>,
    /// Wait after the first failure [default: 1s]
    #[arg(long, value_name = "TIME")]
    retry_first: Option<String>,
    /// Maximum wait between attempts [default: 60s]
    #[arg(long, value_name = "TIME")]
    retry_max: Option<String>,
    /// Maximum number of attempts [default: 10]
    #[arg(long, value_name = "N", value_parser = number_from_1::<u32>)]
    retry_attempts: Option<u32>,
    /// The event store: `default` or `system`
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    #[command(flatten)]
    changing: ChangeArgs,
}

impl Create {
    pub(super) fn run(self) -> Result<(), ApiError> {
        let retry = RetryFields { first: self.retry_first, max: self.retry_max, attempts: self.retry_attempts };
        let name = self.name.clone();
        let fields = Fields {
            name: self.name,
            context: self.context,
            exec: self.exec,
            webhook: self.webhook,
            segments: self.segments,
            start: self.start.as_deref().map(StartAt::of_word).transpose()?,
            types: self.types,
            tags: self.tags,
            sequencing: self.sequencing,
            on_error: self.on_error,
            retry: Some(retry),
            ..Fields::default()
        };
        let what = What::Create(Box::new(fields.definition()?));
        let action = format!("create {name}");
        self.changing.change_with(&action, what, |operation| outcome_line(&action, operation) + &see(&name, operation))
    }
}

/// Returns the line that follows a creation: a created processor may still fail to run its program.
fn see(name: &str, operation: &Operation) -> String {
    if operation.dry_run || operation.state != OperationState::Done {
        return String::new();
    }
    format!("progress: evener processor show {name}\n")
}

fn on_error(word: &str) -> Result<OnError, String> {
    match word {
        "set-aside" => Ok(OnError::SetAside),
        "stop" => Ok(OnError::Stop),
        "skip" => Ok(OnError::Skip),
        _ => Err("it must be set-aside, stop or skip".to_owned()),
    }
}
