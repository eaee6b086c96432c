//! The C library's heap, which gives large buffers back to the system as soon as they are free: the next step of a training
//! run gets fresh pages, and a fault for each. Of glibc alone; others are left as they are.

#![expect(unsafe_code, reason = "settings of the C library's heap")]

/// Has the process keep up to 2 GiB of free memory for its next buffers, those of up to 32 MiB. Only the first call does anything.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::sync::Once;

        /// As large as glibc takes it.
        const LARGE: i32 = 32 << 20;
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let settings = [
                (libc::M_TRIM_THRESHOLD, i32::MAX),
                (libc::M_MMAP_THRESHOLD, LARGE),
                (libc::M_TOP_PAD, 2 * LARGE),
            ];
            for (setting, value) in settings {
                // SAFETY: `mallopt` may be called at any time from any thread, and refuses a value that it does not take.
                unsafe { libc::mallopt(setting, value) };
            }
        });
    }
}

/// Gives the system back what is free in the heap, which [`keep_memory`] has kept.
pub fn release_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
