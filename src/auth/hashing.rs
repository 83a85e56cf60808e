//! Threads that compute password hashes, so that no shard waits for one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::password_file::PasswordFile;

/// A few threads with one bounded queue; ends them when dropped.
pub struct HashingPool {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

/// A login that waits for its verdict.
pub(super) struct Job {
    pub(super) users: Arc<PasswordFile>,
    pub(super) user_name: String,
    pub(super) password: Vec<u8>,
    /// Closed by a client that no longer waits.
    pub(super) verdict: oneshot::Sender<bool>,
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

impl HashingPool {
    /// Starts the threads; zero means a quarter of the cores, at least one.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(threads: u16, jobs_max: usize) -> io::Result<Self> {
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
            let thread = thread::Builder::new().name(format!("hashing-{number}"));
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

impl Drop for HashingPool {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.is_closed = true;
        state.jobs.clear();
        drop(state);
        self.queue.has_work.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a hashing thread panicked");
            }
        }
    }
}

impl fmt::Debug for HashingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashingPool({} threads)", self.threads.len())
    }
}

fn work(queue: &Queue) {
    // Clients that are connected come before those that want to be: a flood of logins gets what the
    // shards leave over. Linux keeps a niceness per thread.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "hashing runs at normal priority");
    }
    while let Some(job) = next_job(queue) {
        if !job.verdict.is_closed() {
            let is_right = job.users.has(&job.user_name, &job.password);
            // The client may be gone by now.
            let _ = job.verdict.send(is_right);
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
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    /// A hash of mosquitto_passwd's kind that takes the better part of a second.
    const SLOW: &str = "slow:$7$400000$2bSkxZjOXB7wqEER$8ox8N1ION7JiLBsNQCGt+5jJ2qx9PH3ah3hvSryvX\
                        JsoVf4Ahcuy9wWkbjWBV2+azksyOoyYjrANllfdQN93Sg==";

    fn job(users: &Arc<PasswordFile>) -> (Job, oneshot::Receiver<bool>) {
        let (verdict, receiver) = oneshot::channel();
        let job = Job {
            users: Arc::clone(users),
            user_name: "slow".into(),
            password: b"wrong".into(),
            verdict,
        };
        (job, receiver)
    }

    #[test]
    fn the_queue_is_bounded_and_those_who_gave_up_make_room() {
        let users = PasswordFile::parse(Path::new("users"), SLOW).expect("valid");
        let users = Arc::new(users);
        let pool = HashingPool::start(1, 1).expect("started");
        let (job_at_work, at_work) = job(&users);
        assert!(pool.submit(job_at_work).is_ok());
        while !pool.queue.state.lock().jobs.is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        let (waiting_job, waiting) = job(&users);
        assert!(pool.submit(waiting_job).is_ok());
        let (late_job, late) = job(&users);
        let late_job = pool.submit(late_job).expect_err("full");
        drop(waiting);
        assert!(pool.submit(late_job).is_ok());
        assert_eq!(at_work.blocking_recv(), Ok(false));
        assert_eq!(late.blocking_recv(), Ok(false));
    }
}
