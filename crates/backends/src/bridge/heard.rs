//! Which kernels ran: for lists of what an op comes to on a device.

use std::cell::RefCell;

use crate::buffer::Ran;

thread_local! {
    static HEARD: RefCell<Option<Vec<&'static str>>> = const { RefCell::new(None) };
}

/// Runs `f`, and tells which kernels ran in it on this thread, by their ops' names, in the order of their first calls.
pub fn kernels_of<R>(f: impl FnOnce() -> R) -> (R, Vec<&'static str>) {
    let before = HEARD.replace(Some(Vec::new()));
    let result = f();
    (result, HEARD.replace(before).unwrap_or_default())
}

/// Tells of what became of a call.
pub(crate) fn hear(op: &'static str, ran: &Ran) {
    if let Ran::Kernel(_) = ran {
        HEARD.with_borrow_mut(|heard| {
            if let Some(heard) = heard.as_mut().filter(|heard| !heard.contains(&op)) {
                heard.push(op);
            }
        });
    }
}
