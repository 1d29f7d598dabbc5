//! `evener operations …`

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use uuid::Uuid;

use super::{
    Server,
    args::{name, number_from_1},
    output::{ago, maybe, some, table, wrapped},
};
use evener::{
    codes,
    engine::{
        Note, OPERATIONS_PAGE, OPERATIONS_PAGE_MAX, Operation, OperationFilter, OperationState, Reply, Request,
        Subject, kinds,
    },
    error::ApiError,
};

/// List the latest changes with their outcomes and reasons, newest first
///
/// The cluster stores the latest 1,024 operations (`operations_max`).
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER)]
pub(super) struct Command {
    #[command(subcommand)]
    sub: Option<Sub>,
    #[command(flatten)]
    list: List,
}

const AFTER: &str = "The reason is the text given with --reason. An id may be abbreviated to a unique prefix, as in \
                     the list; `-o json` has the full id.";

#[derive(Debug, Subcommand)]
enum Sub {
    /// List operations (the default)
    List(List),
    /// Show one operation
    Show {
        /// Id of the operation, or a unique prefix
        #[arg(value_parser = name())]
        id: String,
        #[command(flatten)]
        server: Server,
    },
}

/// The arguments of a list.
#[derive(Debug, Args)]
struct List {
    /// Only operations on this processor, even if it was deleted
    #[arg(long, value_name = "NAME", value_parser = name())]
    processor: Option<String>,
    /// Only operations that name this node
    #[arg(long, value_name = "NAME", value_parser = name())]
    node: Option<String>,
    /// Only operations of this kind
    #[arg(long, value_parser = PossibleValuesParser::new(kinds()))]
    kind: Option<String>,
    /// Only operations before the one with this id or prefix
    #[arg(long, value_name = "ID", value_parser = name())]
    before: Option<String>,
    /// Maximum number of operations, up to 1000 (`operations_page_max`) [default: 100]
    #[arg(long, value_name = "N", value_parser = number_from_1::<u64>)]
    limit: Option<u64>,
    #[command(flatten)]
    server: Server,
}

impl Command {
    /// Runs the command.
    pub(super) fn run(self) -> Result<(), ApiError> {
        match self.sub {
            Some(Sub::Show { id, server }) => show(&id, &server),
            Some(Sub::List(list)) => list.run(),
            None => self.list.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<(), ApiError> {
        let Self { processor, node, kind, before, limit, server } = self;
        let before = before.map(|id| whole_id(&server, &id)).transpose()?;
        let filtered = processor.is_some() || node.is_some() || kind.is_some();
        let operations = ask(&server, OperationFilter { processor, node, kind, before, limit })?;
        server.format().show(&operations, || match &operations[..] {
            [] => nothing(filtered || before.is_some()),
            [.., last] if operations.len() as u64 == limit.unwrap_or(OPERATIONS_PAGE) => {
                let (list, last) = (text(&operations), last.operation);
                format!("{list}\nfor older operations add --before {last}\n")
            }
            _ => text(&operations),
        })
    }
}

fn nothing(filtered: bool) -> String {
    let such = if filtered { " such" } else { "" };
    format!("no{such} operation is stored (only the latest 1,024 are: operations_max)\n")
}

fn ask(server: &Server, filter: OperationFilter) -> Result<Vec<Operation>, ApiError> {
    match server.ask("failed to list operations", Request::Operations(filter))? {
        Reply::Operations(operations) => Ok(operations),
        _ => unreachable!("operations are answered with operations"),
    }
}

fn show(id: &str, server: &Server) -> Result<(), ApiError> {
    let id = whole_id(server, id)?;
    let Reply::Operation(operation) = server.ask("failed to show an operation", Request::Operation(id))? else {
        unreachable!("an operation is answered with an operation");
    };
    server.format().show(&operation, || wrapped(&one(&operation)))
}

/// Returns the id of the operation with this prefix.
fn whole_id(server: &Server, start: &str) -> Result<Uuid, ApiError> {
    if let Ok(id) = start.parse() {
        return Ok(id);
    }
    let start = start.to_ascii_lowercase();
    if !start.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        let message = format!("'{start}' is not an operation id or a prefix of one: ids are UUIDs");
        return Err(ApiError::new(&codes::USAGE, message).hint("`evener operations` lists them with their ids"));
    }
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let limit = Some(OPERATIONS_PAGE_MAX);
        let page = ask(server, OperationFilter { before, limit, ..OperationFilter::default() })?;
        found.extend(page.iter().map(|operation| operation.operation).filter(|id| id.to_string().starts_with(&start)));
        before = page.last().map(|last| last.operation);
        if (page.len() as u64) < OPERATIONS_PAGE_MAX {
            break;
        }
    }
    match found[..] {
        [id] => Ok(id),
        [] => Err(ApiError::new(&codes::UNKNOWN_OPERATION, format!("no operation has an id that begins with {start}"))),
        [first, second, ..] => {
            let message = format!("{} operations have ids that begin with {start}", found.len());
            Err(ApiError::new(&codes::USAGE, message).hint(format!("use a longer prefix: {first}, {second}, …")))
        }
    }
}

/// Formats the operations as a table.
fn text(operations: &[Operation]) -> String {
    let ids: Vec<String> = operations.iter().map(|operation| operation.operation.to_string()).collect();
    let length = distinct(&ids);
    let rows = operations.iter().zip(&ids).map(|(operation, id)| {
        let [when, verb, subject, outcome, reason] = cells(operation);
        [id[..length].to_owned(), when, verb, subject, outcome, reason]
    });
    table(["id", "when", "verb", "subject", "outcome", "reason"], rows)
}

/// Formats the latest operations on a processor, for the end of its status.
pub(super) fn history(name: &str, operations: &[Operation]) -> String {
    if operations.is_empty() {
        return String::new();
    }
    let rows = table(["when", "verb", "subject", "outcome", "reason"], operations.iter().map(cells));
    format!("\nlast operations (all: evener operations --processor {name}):\n{rows}")
}

fn cells(operation: &Operation) -> [String; 5] {
    let note = operation.note.clone().unwrap_or_default();
    [ago(&note.recorded), note.kind.clone(), subject(&note), outcome(operation).to_owned(), maybe(note.reason)]
}

/// Returns the length of prefix that distinguishes the ids; at least eight characters, as for commits.
fn distinct(ids: &[String]) -> usize {
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let common = |pair: &[&str]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
    let common = sorted.windows(2).map(common).max().unwrap_or(0);
    (common + 1).clamp(8, 36)
}

/// What an operation was made to, in as few words as a table has room for.
fn subject(note: &Note) -> String {
    let Subject { processor, segment, position, sequence, node, address, .. } = &note.subject;
    let mut text = processor.clone().unwrap_or_default();
    text += &segment.map(|segment| format!("/{segment}")).unwrap_or_default();
    text += &position.map(|position| format!(" at {position}")).unwrap_or_default();
    match sequence {
        Some(sequence) => text += &format!(" '{sequence}'"),
        None if matches!(note.kind.as_str(), "retry" | "skip" | "drop") => text += ", all set aside",
        None => {}
    }
    match (node.as_ref().or(address.as_ref()), text.is_empty()) {
        (Some(node), true) => node.clone(),
        (Some(node), false) => format!("{text} for {node}"),
        (None, _) => text,
    }
}

const fn outcome(operation: &Operation) -> &'static str {
    match (operation.state, operation.changed) {
        (OperationState::Done, Some(0)) => "no change",
        (OperationState::Done, _) => "done",
        (OperationState::Waiting, _) => "waiting",
        (OperationState::Refused, _) => "refused",
    }
}

/// One operation, line by line.
fn one(operation: &Operation) -> String {
    let Some(note) = &operation.note else { return format!("{}\n", operation.operation) };
    let head = format!("{} {}", note.kind, subject(note));
    let mut text = format!("{}: {}\n", head.trim_end(), outcome(operation));
    if let Some(why) = &operation.why {
        let code = note.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        text += &format!("why        {why}{code}\n");
    }
    if let Some(changed) = operation.changed.filter(|changed| *changed > 1) {
        text += &format!("changed    {}\n", some(changed, "thing"));
    }
    text += &format!("reason     {}\n", note.reason.as_deref().unwrap_or("none was given"));
    if let Some(principal) = &note.principal {
        text += &format!("asked by   {principal}\n");
    }
    text += &format!("recorded   {} ({}), log index {}\n", note.recorded, ago(&note.recorded), note.index);
    text + &format!("operation  {}\n", operation.operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: u128, kind: &str, subject: Subject, reason: Option<&str>) -> Operation {
        let note = Note {
            recorded: "2026-01-01T00:00:00Z".into(),
            kind: kind.into(),
            subject,
            reason: reason.map(str::to_owned),
            ..Note::default()
        };
        let (operation, state) = (Uuid::from_u128(id), OperationState::Done);
        Operation { operation, state, why: None, changed: Some(1), events: None, dry_run: false, note: Some(note) }
    }

    fn of(processor: &str) -> Subject {
        Subject { processor: Some(processor.into()), ..Subject::default() }
    }

    #[test]
    fn a_row_says_what_was_done_to_what_and_why() {
        let claim = Subject { segment: Some(3), node: Some("n2".into()), node_id: Some(2), ..of("mail") };
        let skip = Subject { sequence: Some("case 1".into()), ..of("mail") };
        let join = Subject { address: Some("10.0.0.1:4751".into()), ..Subject::default() };
        let line = |kind: &str, subject: Subject| {
            let [_, verb, subject, outcome, reason] = cells(&operation(1, kind, subject, Some("a test")));
            assert_eq!((outcome.as_str(), reason.as_str()), ("done", "a test"));
            format!("{verb} {subject}")
        };
        assert_eq!(line("claim", claim), "claim mail/3 for n2");
        assert_eq!(line("skip", skip), "skip mail 'case 1'");
        assert_eq!(line("retry", of("mail")), "retry mail, all set aside");
        assert_eq!(
            line("skip-event", Subject { segment: Some(0), position: Some(7), ..of("p") }),
            "skip-event p/0 at 7"
        );
        assert_eq!(line("join", join), "join 10.0.0.1:4751");
        assert_eq!(line("pause", of("mail")), "pause mail");
    }

    #[test]
    fn ids_are_shown_as_far_as_they_differ() {
        let ids = |ids: &[u128]| ids.iter().map(|id| Uuid::from_u128(*id).to_string()).collect::<Vec<_>>();
        assert_eq!(distinct(&ids(&[1 << 120, 2 << 120])), 8);
        assert_eq!(distinct(&ids(&[1, 2])), 36, "those that a script counts up are whole");
        assert_eq!(distinct(&ids(&[7])), 8);
        assert_eq!(distinct(&[]), 8);
    }

    #[test]
    fn one_that_was_refused_says_why() {
        let mut refused = operation(5, "pause", of("none"), None);
        (refused.state, refused.changed) = (OperationState::Refused, None);
        refused.why = Some("there is no processor none".into());
        refused.note.as_mut().unwrap().code = Some("EV0300".into());
        let text = one(&refused);
        assert!(text.starts_with("pause none: refused\nwhy        there is no processor none (EV0300)\n"), "{text}");
        assert!(text.contains("\nreason     none was given\n") && !text.contains("asked by"), "{text}");
    }
}
