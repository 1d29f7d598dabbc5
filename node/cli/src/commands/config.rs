//! `evener config`

use super::{
    Format,
    output::{say, table},
    serve::Flags,
};
use evener::{error::ApiError, logs, settings::TABLE};

/// Show every setting as `evener serve` would have it with the same flags, and where it comes from
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the reference page of all settings as Markdown
    #[arg(long)]
    reference: bool,
    /// How to show it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// Shows them.
    pub fn run(self) -> Result<(), ApiError> {
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
    let mut page = "# Settings\n\nFlags go before variables, before `evener.toml`, before defaults. \
        `evener config` shows the values in force and where each comes from.\n"
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
