//! `evener man [--dir DIR]`

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, output::say};
use evener::{codes, error::ApiError};

/// Write manual pages
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write one file per command to this directory, instead of the main page to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Args {
    /// Writes the pages.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let failed =
            |error: std::io::Error| ApiError::new(&codes::FILE, format!("failed to write the manual pages: {error}"));
        if let Some(dir) = self.dir {
            return clap_mangen::generate_to(Cli::command(), dir).map_err(failed);
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
        say(&String::from_utf8_lossy(&page))
    }
}
