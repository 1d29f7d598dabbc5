//! One end of a simulated connection, as tokio reads and writes it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::net::{Net, ReadOutcome};

/// One end.
pub(super) struct SimStream {
    net: Arc<Mutex<Net>>,
    number: u64,
    end: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    pub(super) fn new(net: Arc<Mutex<Net>>, number: u64, end: usize) -> Self {
        Self { net, number, end, timer: None }
    }

    /// Returns whether this time has come; if not, the task is woken then.
    fn reached(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let (number, end) = (self.number, self.end);
            let room = into.initialize_unfilled();
            let found = self.net.lock().read(number, end, cx, room)?;
            match found {
                ReadOutcome::Bytes(taken) => {
                    into.advance(taken);
                    return Poll::Ready(Ok(()));
                }
                ReadOutcome::End => return Poll::Ready(Ok(())),
                ReadOutcome::Nothing(Some(at)) if self.reached(at, cx) => {}
                ReadOutcome::Nothing(_) => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.net.lock().write(self.number, self.end, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.lock().finish(self.number, self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.lock().close(self.number, self.end);
    }
}
