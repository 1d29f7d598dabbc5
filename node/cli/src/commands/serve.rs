//! `evener serve`

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, FromArgMatches};
use sd_notify::NotifyState;

use super::block_on;
use crate::harness::parent_watch;
use evener::{
    Node, codes,
    error::ApiError,
    logs,
    settings::{Loaded, Settings, Sources, TABLE},
};

/// Run a node: bootstrap a cluster, join one, or restart from a data directory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Exit when standard input ends
    #[arg(long, hide = true)]
    ends_with_stdin: bool,
}

/// The flags of all settings, generated from their table.
#[derive(Debug, Default)]
pub(super) struct Flags {
    config: Option<PathBuf>,
    given: Vec<(&'static str, String)>,
}

impl clap::Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config").long("config").value_name("FILE").value_parser(clap::value_parser!(PathBuf));
        let mut command = command.arg(config.help("The settings file [default: evener.toml, if there is one]"));
        for setting in TABLE {
            let unset = if setting.default.is_empty() { "none" } else { setting.default };
            let help = format!("{} [default: {unset}]", setting.about);
            let arg = Arg::new(setting.name).long(setting.flag).help(help);
            command = command.arg(if setting.is_switch() {
                arg.action(ArgAction::SetTrue)
            } else {
                arg.value_name(setting.kind)
            });
        }
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        for setting in TABLE {
            if setting.is_switch() {
                self.given.extend(matches.get_flag(setting.name).then(|| (setting.name, "true".to_owned())));
            } else if let Some(value) = matches.get_one::<String>(setting.name) {
                self.given.push((setting.name, value.clone()));
            }
        }
        Ok(())
    }
}

impl Flags {
    /// Returns the effective settings, with the origin of each.
    pub(super) fn load(self) -> Result<Loaded, ApiError> {
        Sources::of_process(self.given, self.config.as_deref())?.load()
    }
}

impl Args {
    /// Runs the node until it is stopped.
    pub(super) fn run(self) -> Result<(), ApiError> {
        if self.ends_with_stdin {
            parent_watch::start();
        }
        let settings = self.flags.load()?.settings;
        settings.check()?;
        let log = logs::start(&settings)?;
        let first_start = is_empty(&settings.data);
        let welcome_settings = settings.clone();
        block_on(async {
            let node = Node::with(settings).start().await?;
            if first_start {
                log.print(&welcome(&welcome_settings, node.url().unwrap_or_default(), node.peer().unwrap_or_default()));
            }
            let ready = node.is_ready();
            let line = node.ready_line().unwrap_or_default();
            print(&line);
            // The node serves even if it is not ready yet: a supervisor must not restart it.
            notify_supervisor(&[NotifyState::Ready, NotifyState::Status(&line)]);
            if !ready {
                tokio::spawn(report_when_ready(node.clone(), line));
            }
            let ended = node.run().await;
            notify_supervisor(&[NotifyState::Stopping]);
            ended.map_err(|error| match error.cause().downcast_ref::<ApiError>() {
                Some(error) => error.clone(),
                None => ApiError::new(&codes::FAILED_NODE, error.to_string()),
            })
        })
    }
}

/// Prints a second line once the node is ready.
async fn report_when_ready(node: Node, first_line: String) {
    node.ready().await;
    let line = node.ready_line().unwrap_or_default();
    if line != first_line {
        print(&line);
        notify_supervisor(&[NotifyState::Status(&line)]);
    }
}

/// Writes a line to stdout from another thread, as its reader may be stuck.
fn print(line: &str) {
    let line = format!("{line}\n");
    let write = move || {
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            tracing::warn!(%error, "failed to write the ready line to stdout");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("stdout".into()).spawn(write) {
        tracing::warn!(%error, "failed to start the thread that writes to stdout");
    }
}

fn is_empty(data: &Path) -> bool {
    std::fs::read_dir(data).map_or(true, |mut entries| entries.next().is_none())
}

/// Returns the text for the first start of a node.
fn welcome(settings: &Settings, url: &str, peers: &str) -> String {
    let server = if url == "http://127.0.0.1:4750" { String::new() } else { format!(" --server {url}") };
    let data = std::path::absolute(&settings.data).unwrap_or_else(|_| settings.data.clone());
    let program = match settings.allow_exec {
        true => {
            format!("    evener processor create seen --exec 'jq -c --unbuffered \"{{delivery, ok: true}}\"'{server}")
        }
        false => {
            "  Handler programs (evener processor create --help) run on nodes started with --allow-exec.".to_owned()
        }
    };
    format!(
        r#"
  {name} is a member of its cluster.

    data     {data}
    clients  {url}   (and the status page)
    peers    {peers}

  Try next:

    evener append --type hello --data '{{"to":"world"}}'{server}
    evener read{server}
{program}

"#,
        name = settings.name,
        data = data.display(),
    )
}

/// Reports the state of the node to systemd; has no effect elsewhere.
fn notify_supervisor(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "failed to notify the service manager");
    }
}
