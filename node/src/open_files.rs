//! The limit on open files of this process, which include connections of clients and peers, and chunks of the log.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A node may run out of files below this: 512 connections of peers, 128 files of the log, and clients.
const OPEN_FILES_LOW: u64 = 4_096;

/// Raises the soft limit to the hard limit, since the default of a shell is often 1,024. Returns a warning if the
/// result is still low.
pub(crate) fn raise() -> Option<String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    warning_if_low(if raised { maximum } else { current })
}

fn warning_if_low(files: Option<u64>) -> Option<String> {
    // `None` means unlimited.
    let files = files.filter(|files| *files < OPEN_FILES_LOW)?;
    Some(format!(
        "this process may open {files} files, and under load a node needs {OPEN_FILES_LOW} for connections and the \
         log: give it more by LimitNOFILE= of its service, or by `ulimit -n` before its start"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_taken_as_are_granted_and_few_are_told() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!((warning_if_low(None), warning_if_low(Some(OPEN_FILES_LOW))), (None, None));
        assert!(
            warning_if_low(Some(1_024)).is_some_and(|text| text.contains("1024 files") && text.contains("ulimit -n"))
        );
    }
}
