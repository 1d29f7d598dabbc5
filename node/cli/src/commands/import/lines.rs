//! The lines of an import's input, read by a thread of their own: so the import learns when the input pauses, and a
//! signal ends it while it waits for input.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

use tokio::sync::mpsc;

/// The longest line that is read.
pub const LINE_BYTES_MAX: u64 = 8 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Blocks of lines that are read ahead.
const AHEAD_MAX: usize = 2;

/// Lines that were complete when the input had nothing more, or a block of a longer input.
type Block = Vec<io::Result<Vec<u8>>>;

/// The lines of a file or a pipe, in order, each with its line end. A line that is too long ends after
/// [`LINE_BYTES_MAX`] and one more byte.
pub struct Lines {
    blocks: mpsc::Receiver<Block>,
    block: VecDeque<io::Result<Vec<u8>>>,
    /// Whether the writer may pause for long. A file ends instead.
    is_pipe: bool,
}

impl Lines {
    /// The lines of a regular file.
    pub fn of_file(file: File) -> io::Result<Self> {
        Self::start(file, false)
    }

    /// The lines of a pipe, a terminal or a socket, whose writer may pause.
    pub fn of_pipe(pipe: impl Read + Send + 'static) -> io::Result<Self> {
        Self::start(pipe, true)
    }

    fn start(source: impl Read + Send + 'static, is_pipe: bool) -> io::Result<Self> {
        let (blocks, receiver) = mpsc::channel(AHEAD_MAX);
        let reader = move || read(BufReader::with_capacity(READ_BYTES, source), &blocks);
        // Nobody joins it: it may wait for input until the process ends.
        std::thread::Builder::new().name("import-input".into()).spawn(reader)?;
        Ok(Self { blocks: receiver, block: VecDeque::new(), is_pipe })
    }

    /// Returns whether the input has no complete line for now, and may not have one for long.
    pub fn pauses(&self) -> bool {
        self.is_pipe && self.block.is_empty() && self.blocks.is_empty()
    }

    /// Returns the next line, or none at the end of the input.
    pub async fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.block.is_empty() {
            self.block = self.blocks.recv().await?.into();
        }
        self.block.pop_front()
    }
}

/// Reads until the end of the input, a failure, or until nobody takes the lines any more.
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
            // To read on might wait for the writer, and what is complete must not wait with it.
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
    async fn what_is_complete_is_handed_over_while_the_pipe_stays_open() {
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
    async fn a_line_without_end_is_cut_where_it_is_too_long() {
        let mut lines = Lines::of_pipe(io::repeat(b'x')).unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().len() as u64, LINE_BYTES_MAX + 1);
    }
}
