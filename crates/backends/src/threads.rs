//! The pool of threads that kernels of a CPU share.

use rayon::iter::{ParallelBridge, ParallelIterator};
use std::num::NonZero;
use std::thread;

/// Makes the calling thread one of the pool's, where it is the program's main thread, nobody has used the pool yet and it has more
/// than one thread: what this thread asks for it then begins itself, instead of waking another and waiting. Other threads use the
/// pool as before.
///
/// A thread that ends would leave its place in the pool empty; the main thread ends with the program.
pub fn join_pool() {
    let threads = match std::env::var("RAYON_NUM_THREADS").ok().and_then(|number| number.parse().ok()) {
        Some(number) if number > 0 => number,
        _ => thread::available_parallelism().map_or(1, NonZero::get),
    };
    if thread::current().name() == Some("main") && threads > 1 {
        // An error says that there is a pool already, which serves as well.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global();
    }
}

/// Whether work may use all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The one that calls.
    One,
    /// Those of the pool.
    All,
}

impl Threads {
    /// Does `work` on every task.
    pub(crate) fn share_out<W: Send>(self, tasks: Vec<W>, work: impl Fn(W) + Sync + Send) {
        self.share_out_with(|| (), tasks, |(), task| work(task));
    }

    /// Does `work` on every task, with what a thread makes `new` for all that it takes. With more than one task and thread, a thread takes the
    /// next one whenever it is done with one: in the order that they are in, and none waits for tasks that another has set aside.
    pub(crate) fn share_out_with<M, W: Send>(
        self,
        new: impl Fn() -> M + Sync + Send,
        tasks: Vec<W>,
        work: impl Fn(&mut M, W) + Sync + Send,
    ) {
        if self == Self::All && tasks.len() > 1 {
            tasks.into_iter().par_bridge().for_each_init(new, work);
        } else {
            let mut made = new();
            tasks.into_iter().for_each(|task| work(&mut made, task));
        }
    }
}

/// Does `work` on every task, on all threads.
pub(crate) fn share_out<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    Threads::All.share_out(tasks, work);
}
