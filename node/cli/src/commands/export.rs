//! `evener export`

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    path::PathBuf,
};

use super::{
    Server,
    args::ReadArgs,
    block_on,
    output::{count, say_json},
};
use evener::{client::Line, codes, error::ApiError};

/// Export events as CloudEvents, one JSON object per line, for `evener import`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this new file instead of stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    read_args: ReadArgs,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Exports the events.
    pub(super) fn run(self) -> Result<(), ApiError> {
        let mut reading = self.server.client()?.read(self.read_args.read()?);
        let mut out = self.file.as_ref().map(create).transpose()?;
        let events = block_on(async {
            let mut events = 0;
            while let Some(line) = reading.next().await.map_err(|error| error.doing("failed to export"))? {
                let json = match line {
                    Line::Event(_, json) => json,
                    Line::Progress { marker, .. } => {
                        self.read_args.note_beyond_head(marker);
                        continue;
                    }
                };
                events += 1;
                match &mut out {
                    Some(file) => writeln!(file, "{json}").map_err(|error| unwritten(&error))?,
                    None => say_json(&json)?,
                }
            }
            Ok::<u64, ApiError>(events)
        })?;
        if let Some(mut file) = out {
            file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|error| unwritten(&error))?;
        }
        eprintln!("{} events exported", count(events));
        Ok(())
    }
}

fn create(path: &PathBuf) -> Result<BufWriter<File>, ApiError> {
    let file = File::create_new(path).map_err(|error| {
        let failed = ApiError::new(&codes::FILE, format!("failed to create {}: {error}", path.display()));
        match error.kind() {
            ErrorKind::AlreadyExists => failed.hint("choose another name: an export does not replace files"),
            ErrorKind::NotFound => failed.hint("create the directory first, or choose another"),
            _ => failed,
        }
    })?;
    Ok(BufWriter::new(file))
}

fn unwritten(error: &std::io::Error) -> ApiError {
    ApiError::new(&codes::FILE, format!("failed to write the export: {error}"))
}
