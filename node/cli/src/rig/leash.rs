//! A node on a leash ends with whoever started it, also where that one was killed and could end nobody: the leash is
//! the node's standard input, whose other end the system closes.

use std::io::{self, Read};

/// What `serve` is told by: it is for nobody else.
pub const FLAG: &str = "--ends-with-stdin";

/// From now on this process ends as soon as the leash is let go: at once, as nobody is left to whom a clean end would
/// matter.
pub fn wear() {
    std::thread::spawn(|| {
        until_let_go(io::stdin().lock());
        std::process::exit(1);
    });
}

fn until_let_go(leash: impl Read) {
    // What cannot be read any more has no other end either.
    let _ = io::copy(&mut { leash }, &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leash_holds_until_it_is_let_go() {
        let (leash, held) = io::pipe().unwrap();
        let worn = std::thread::spawn(|| until_let_go(leash));
        assert!(!worn.is_finished());
        drop(held);
        worn.join().unwrap();
    }
}
