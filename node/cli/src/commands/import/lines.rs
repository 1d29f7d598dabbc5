//! Reads the lines of an import's input in a thread of its own, so that the import notices when the input pauses and a
//! signal can end it while it waits for input.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

use tokio::sync::mpsc;

/// The maximum length of a line.
pub(super) const LINE_BYTES_MAX: u64 = 8 << 20;
/// The size of the read buffer.
const READ_BYTES: usize = 1 << 20;
/// The most blocks of lines that are read ahead.
const AHEAD_MAX: usize = 2;

/// The complete lines of one filled buffer, or those available when the input paused.
type Block = Vec<io::Result<Vec<u8>>>;

/// The lines of a file or a pipe, in order, each with its line end. A line that is too long is cut after
/// [`LINE_BYTES_MAX`] and one more byte.
pub(super) struct Lines {
    blocks: mpsc::Receiver<Block>,
    block: VecDeque<io::Result<Vec<u8>>>,
    /// Whether the input may pause. A file ends instead.
    is_pipe: bool,
}

impl Lines {
    /// Reads the lines of a regular file.
    pub(super) fn of_file(file: File) -> io::Result<Self> {
        Self::start(file, false)
    }

    /// Reads the lines of a pipe, a terminal or a socket, whose writer may pause.
    pub(super) fn of_pipe(pipe: impl Read + Send + 'static) -> io::Result<Self> {
        Self::start(pipe, true)
    }

    fn start(source: impl Read + Send + 'static, is_pipe: bool) -> io::Result<Self> {
        let (blocks, receiver) = mpsc::channel(AHEAD_MAX);
        let reader = move || read(BufReader::with_capacity(READ_BYTES, source), &blocks);
        // Never joined: it may block on input until the process exits.
        std::thread::Builder::new().name("import-input".into()).spawn(reader)?;
        Ok(Self { blocks: receiver, block: VecDeque::new(), is_pipe })
    }

    /// Returns whether the input has no complete line for now, and may not have one for long.
    pub(super) fn pauses(&self) -> bool {
        self.is_pipe && self.block.is_empty() && self.blocks.is_empty()
    }

    /// Returns the next line, or none at the end of the input.
    pub(super) async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.block.is_empty() {
            self.block = self.blocks.recv().await?.into();
        }
        self.block.pop_front()
    }
}

/// Reads until the end of the input, an error, or until the receiver is dropped.
fn read(mut source: BufReader<impl Read>, blocks: &mpsc::Sender<Block>) {
    loop {
        let mut block = Block::new();
        let more = loop {
            let mut line = Vec::new();
            let read = source.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line);
            match read {
                Ok(0) => break false,
                Ok(_) => block.push(Ok(line)),
                Err(error) => {
                    block.push(Err(error));
                    break false;
                }
            }
            // Reading on could block, and complete lines must not wait for that.
            if !source.buffer().contains(&b'\n') {
                break true;
            }
        };
        if blocks.blocking_send(block).is_err() || !more {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn complete_lines_are_returned_while_the_pipe_stays_open() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::of_pipe(reader).unwrap();
        assert!(lines.pauses(), "nothing was written yet");
        writer.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), b"one\n");
        assert_eq!(lines.next().await.unwrap().unwrap(), b"two\n");
        assert!(lines.pauses(), "the third line is not complete");
        writer.write_all(b"ee").unwrap();
        drop(writer);
        assert_eq!(lines.next().await.unwrap().unwrap(), b"three");
        assert!(lines.next().await.is_none());
    }

    #[tokio::test]
    async fn a_file_never_pauses() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\n").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut lines = Lines::of_file(file).unwrap();
        assert!(!lines.pauses());
        assert_eq!(lines.next().await.unwrap().unwrap(), b"one\n");
        assert!(!lines.pauses());
        assert!(lines.next().await.is_none());
    }

    #[tokio::test]
    async fn an_endless_line_is_cut_at_the_limit() {
        let mut lines = Lines::of_pipe(io::repeat(b'x')).unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().len() as u64, LINE_BYTES_MAX + 1);
    }
}
