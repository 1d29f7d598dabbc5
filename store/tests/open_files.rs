//! A process at its limit of open files does not lose its log: writes wait.
#![allow(clippy::unwrap_used, reason = "the panic of a test is its report")]

use std::{fs::File, sync::mpsc::channel, time::Duration};

use evener_store::{Disk, FileDisk, disk::Op};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The only test of its process, because the limit applies to the process.
#[test]
fn p10_a_write_waits_while_no_file_can_be_opened() {
    let home = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(home.path()).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.len() > 10);

    let (done, results) = channel();
    let ops = vec![
        Op::Create { file: "chunks/a".into(), preallocate: 0 },
        Op::SyncData { file: "chunks/a".into() },
        Op::SyncDir { dir: "chunks".into() },
    ];
    disk.submit(ops, Box::new(move |result| done.send(result).unwrap()));
    assert!(results.recv_timeout(Duration::from_millis(500)).is_err(), "it waits");
    taken.clear();
    results.recv().unwrap().unwrap();
    assert_eq!(disk.list("chunks").unwrap(), ["a"]);
}
