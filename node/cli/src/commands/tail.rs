//! `evener tail`

use evener_core::id::Position;

use super::{Server, args::Which, block_on, read::Show};
use evener::{client::Line, engine::Consistency, error::ApiError};

/// Follow events as they come, from the head on unless --from says otherwise
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    server: Server,
}

impl Args {
    /// Follows them until it is ended, or --limit events have come, or the position --to is reached.
    pub fn run(self) -> Result<(), ApiError> {
        let client = self.server.client()?;
        let mut read = self.which.read()?;
        let mut show = Show::new(&self.server);
        block_on(async {
            // Where it is only for a note, what the server has is good enough.
            let consistency = if self.which.from.is_some() { Consistency::Local } else { read.consistency };
            let head = client.head(read.context, consistency).await;
            let head = head.map_err(|error| error.doing("failed to find the head"))?;
            read.from = self.which.from.map_or(head, Position);
            self.which.tell_beyond(head);
            let end = read.to;
            let mut tail = client.tail(read);
            while let Some(line) = tail.next().await.map_err(|error| error.doing("failed to follow events"))? {
                let next = match line {
                    Line::Event(position, json) => {
                        show.event(&json)?;
                        position.next()
                    }
                    Line::Progress { next, .. } => next,
                };
                if end.is_some_and(|end| next >= end) {
                    break;
                }
            }
            show.end()
        })
    }
}
