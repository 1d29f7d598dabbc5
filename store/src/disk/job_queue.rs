//! One thread that runs jobs in order.

use std::{
    sync::{
        Mutex,
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after the other. Dropping it waits for the last one.
pub(super) struct JobQueue {
    jobs: Option<Mutex<Sender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl JobQueue {
    pub(super) fn start(name: &str) -> std::io::Result<Self> {
        let (jobs, inbox) = channel::<Job>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                job();
            }
        })?;
        Ok(Self { jobs: Some(Mutex::new(jobs)), thread: Some(thread) })
    }

    pub(super) fn run(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("only `drop` takes the sender");
        // If the thread has panicked, the job is dropped, which its waiters notice.
        let _ = jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send(job);
    }
}

impl Drop for JobQueue {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.take().expect("taken only here");
        // The last handle may be dropped by a job.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}
