//! `evener tail`

use super::{Server, args::Which, block_on, read::Show};
use crate::{client::Line, engine::Read, error::ApiError};

/// Follow events as they come, from the head on unless --from says otherwise
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Follows them until it is ended, or --limit events have come.
    pub fn run(self) -> Result<(), ApiError> {
        let client = self.server.client()?;
        let mut read = self.which.read()?;
        let mut show = Show::new(&self.server);
        block_on(async {
            if self.which.from.is_none() {
                let nothing = Read { limit: Some(0), context: read.context, ..Read::default() };
                let mut reading = client.read(Read { from: evener_core::id::Position(u64::MAX >> 1), ..nothing });
                while let Some(line) = reading.next().await.map_err(|error| error.doing("failed to find the head"))? {
                    if let Line::Progress { marker, .. } = line {
                        read.from = marker;
                    }
                }
            }
            let mut tail = client.tail(read);
            while let Some(line) = tail.next().await.map_err(|error| error.doing("failed to follow events"))? {
                if let Line::Event(..) = line {
                    show.line(&line)?;
                }
            }
            show.end()
        })
    }
}
