//! Memory of the host: buffers for results, and the settings of the C library's heap, which gives large buffers back to the system as
//! soon as they are free: the next step of a training run gets fresh pages, and a fault for each. The settings are glibc's alone; others
//! are left as they are.

#![expect(unsafe_code, reason = "memory that nobody has written, and settings of the C library's heap")]

use half::{bf16, f16};

/// A type of which every pattern of bits is a number.
pub trait Number: Copy {
    /// What a result that was not written looks like: every bit set, which is NaN in a float.
    const UNWRITTEN: Self;
}

macro_rules! numbers {
    ($($type:ident: $value:expr),*) => {$(
        impl Number for $type {
            const UNWRITTEN: Self = $value;
        }
    )*};
}
numbers!(f16: f16::from_bits(!0), bf16: bf16::from_bits(!0), u8: !0, u16: !0, u32: !0, i64: !0, f32: f32::from_bits(!0), f64: f64::from_bits(!0));

/// Bytes of a large page.
#[cfg(target_os = "linux")]
const LARGE_PAGE: usize = 2 << 20;

/// An empty buffer with room for `len` elements. The system is asked for large pages where there is room for some: a fault for each
/// page and a place for each in the processor's table are a tenth of a training step.
pub(crate) fn with_room<T>(len: usize) -> Vec<T> {
    let room: Vec<T> = Vec::with_capacity(len);
    #[cfg(target_os = "linux")]
    if len * size_of::<T>() >= LARGE_PAGE {
        let start = room.as_ptr().addr();
        // From a page's start on: those of 64 KiB are the largest that a system counts in.
        let (first, end) = (start.next_multiple_of(1 << 16), start + len * size_of::<T>());
        let whole = end.saturating_sub(first) >> 16 << 16;
        let at: *mut T = room.as_ptr().cast_mut();
        // SAFETY: the call changes how the system keeps these pages, and nothing that they hold.
        unsafe { libc::madvise(at.byte_add(first - start).cast(), whole, libc::MADV_HUGEPAGE) };
    }
    room
}

/// A buffer of `len` numbers for a kernel that writes each of them: what it holds means nothing. A debug build fills it with
/// [`Number::UNWRITTEN`], so that a test sees what a kernel has left out.
pub(crate) fn fresh<T: Number>(len: usize) -> Vec<T> {
    #[cfg(all(not(debug_assertions), any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let mut numbers = with_room(len);
        let start: *mut T = numbers.as_mut_ptr();
        // SAFETY: `len` numbers are allocated from `start` on. The empty assembly is given their address and may write to memory, so that
        // to the compiler they are numbers from there on, any of them, since each pattern of bits is one; glibc, musl and the
        // system hand out pages that hold still.
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags));
            numbers.set_len(len);
        }
        numbers
    }
    #[cfg(not(all(not(debug_assertions), any(target_arch = "x86_64", target_arch = "aarch64"))))]
    vec![T::UNWRITTEN; len]
}

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
