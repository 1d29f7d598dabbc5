//! A node on a leash ends with whoever started it, also where that one was killed and could end nobody: the leash is
//! the node's standard input, whose other end the system closes.

use std::io::{self, Read};

/// What `serve` is told by: it is for nobody else.
pub const FLAG: &str = "--ends-with-stdin";

/// From now on this process ends as soon as the leash is let go: at once, as nobody is left to whom a clean end would
/// matter.
pub fn start() {
    std::thread::spawn(|| {
        wait_for_eof(io::stdin().lock());
        std::process::exit(1);
    });
}

fn wait_for_eof(stdin: impl Read) {
    // What cannot be read any more has no other end either.
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
