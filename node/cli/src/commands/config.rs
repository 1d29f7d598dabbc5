//! `evener config`

use super::{
    Format,
    output::{say, table},
    serve::Flags,
};
use evener::{error::ApiError, logs, settings::TABLE};

/// Show every setting that `evener serve` would use with the same flags, and its origin
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write the reference of all settings, as Markdown
    #[arg(long)]
    reference: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// Shows the settings.
    pub(super) fn run(self) -> Result<(), ApiError> {
        if self.reference {
            return say(&reference());
        }
        let loaded = self.flags.load()?;
        let rows = loaded.rows();
        self.output.show(&rows, || {
            let rows = rows.iter().map(|row| [row.name.into(), row.value.clone(), row.origin.clone()]);
            table(["setting", "value", "from"], rows)
        })?;
        logs::filter(&loaded.settings)?;
        loaded.settings.check()
    }
}

fn reference() -> String {
    let mut page = "# Settings\n\nFlags override variables, which override `evener.toml`, which overrides defaults. \
        `evener config` shows the effective values and their origins.\n"
        .to_owned();
    for setting in TABLE {
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        page.push_str(&format!(
            "\n## `{}`\n\n{}.\n\n- flag `--{}`, variable `{}`, kind `{}`\n- default `{default}`: {}\n- since {}\n",
            setting.name,
            setting.about,
            setting.flag,
            setting.variable(),
            setting.kind,
            setting.reason,
            setting.since,
        ));
    }
    page
}
