//! How many files this process may hold open: connections of clients and peers count, and chunks of the log.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer a node runs out under load: 512 peers' connections, 128 files of the log, and clients.
const OPEN_FILES_LOW: u64 = 4_096;

/// Takes as many as the system grants: what a shell gives unasked is often 1,024, though far more is allowed. Says so
/// where that is few all the same.
pub fn raise() -> Option<String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    low(if raised { maximum } else { current })
}

fn low(files: Option<u64>) -> Option<String> {
    // None is no limit.
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
        assert_eq!((low(None), low(Some(OPEN_FILES_LOW))), (None, None));
        assert!(low(Some(1_024)).is_some_and(|told| told.contains("1024 files") && told.contains("ulimit -n")));
    }
}
