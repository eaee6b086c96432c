//! The pool of threads that kernels of a CPU share.

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
