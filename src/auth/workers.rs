//! Threads that check logins, so that no shard waits for one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::credentials::Verdict;

/// A few threads with one bounded queue; ends them when dropped.
pub(super) struct Workers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

/// A login that waits for its verdict.
pub(super) struct Job {
    pub(super) work: Box<dyn FnOnce() -> Verdict + Send>,
    /// Closed by a client that no longer waits.
    pub(super) verdict: oneshot::Sender<Verdict>,
}

struct Queue {
    state: Mutex<State>,
    has_work: Condvar,
    jobs_max: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Workers {
    /// Starts the threads; zero means a quarter of the cores, at least one.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(threads: u16, jobs_max: usize) -> io::Result<Self> {
        let count = match threads {
            0 => thread::available_parallelism()
                .map_or(1, |cores| cores.get() / 4)
                .max(1),
            count => usize::from(count),
        };
        let mut this = Self {
            queue: Arc::new(Queue {
                state: Mutex::default(),
                has_work: Condvar::new(),
                jobs_max,
            }),
            threads: Vec::new(),
        };
        for number in 0..count {
            let queue = Arc::clone(&this.queue);
            let thread = thread::Builder::new().name(format!("login-{number}"));
            this.threads.push(thread.spawn(move || work(&queue))?);
        }
        Ok(this)
    }

    /// Puts a login at the end of the queue; gives it back when that is full.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        let mut state = self.queue.state.lock();
        if state.jobs.len() >= self.queue.jobs_max {
            // Those who gave up make room.
            state.jobs.retain(|job| !job.verdict.is_closed());
        }
        if state.jobs.len() >= self.queue.jobs_max {
            return Err(job);
        }
        state.jobs.push_back(job);
        drop(state);
        self.queue.has_work.notify_one();
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.is_closed = true;
        state.jobs.clear();
        drop(state);
        self.queue.has_work.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that checks logins panicked");
            }
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workers({} threads)", self.threads.len())
    }
}

fn work(queue: &Queue) {
    // Clients that are connected come before those that want to be: a flood of logins gets what the
    // shards leave over. Linux keeps a niceness per thread.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "logins are checked at normal priority");
    }
    while let Some(job) = next_job(queue) {
        if !job.verdict.is_closed() {
            // The client may be gone by now.
            let _ = job.verdict.send((job.work)());
        }
    }
}

fn next_job(queue: &Queue) -> Option<Job> {
    let mut state = queue.state.lock();
    loop {
        if state.is_closed {
            return None;
        }
        if let Some(job) = state.jobs.pop_front() {
            return Some(job);
        }
        queue.has_work.wait(&mut state);
    }
}

const NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Work that lasts until it is told to end, and where to wait for its verdict.
    fn job() -> (Job, mpsc::Sender<()>, oneshot::Receiver<Verdict>) {
        let (end, ended) = mpsc::channel();
        let (verdict, receiver) = oneshot::channel();
        let work = Box::new(move || {
            let _ = ended.recv();
            Verdict::Ignored
        });
        (Job { work, verdict }, end, receiver)
    }

    #[test]
    fn the_queue_is_bounded_and_those_who_gave_up_make_room() {
        let pool = Workers::start(1, 1).expect("started");
        let (job_at_work, end, at_work) = job();
        assert!(pool.submit(job_at_work).is_ok());
        while !pool.queue.state.lock().jobs.is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        let (waiting_job, _, waiting) = job();
        assert!(pool.submit(waiting_job).is_ok());
        let (late_job, end_late, late) = job();
        let late_job = pool.submit(late_job).expect_err("full");
        drop(waiting);
        assert!(pool.submit(late_job).is_ok());
        drop((end, end_late));
        assert!(matches!(at_work.blocking_recv(), Ok(Verdict::Ignored)));
        assert!(matches!(late.blocking_recv(), Ok(Verdict::Ignored)));
    }
}
