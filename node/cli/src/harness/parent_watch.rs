//! Ends a node when its parent process exits, even if the parent is killed: the parent holds the other end of the
//! node's standard input, which the system closes.

use std::io::{self, Read};

/// The hidden flag of `serve` that enables the watch.
pub(crate) const FLAG: &str = "--ends-with-stdin";

/// Starts the watch: this process exits as soon as standard input ends. It exits without a clean shutdown, as no
/// process is left that would need one.
pub(crate) fn start() {
    std::thread::spawn(|| {
        wait_for_eof(io::stdin().lock());
        std::process::exit(1);
    });
}

fn wait_for_eof(stdin: impl Read) {
    // A read error means that the other end is closed, too.
    let _ = io::copy(&mut { stdin }, &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_waits_until_the_parents_end_is_closed() {
        let (stdin, writer) = io::pipe().unwrap();
        let watcher = std::thread::spawn(|| wait_for_eof(stdin));
        assert!(!watcher.is_finished());
        drop(writer);
        watcher.join().unwrap();
    }
}
