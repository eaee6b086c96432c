//! A descriptor: an object of cuDNN's that has attributes, and is of use once it is finalized.

#![expect(unsafe_code, reason = "calling cuDNN")]

use super::sys::{Api, Raw, value};
use std::ffi::c_void;
use std::ptr;

/// What the library does not do, in its words.
pub(super) type Refused = String;

/// A descriptor that is destroyed with this.
pub(super) struct Descriptor {
    raw: Raw,
    api: &'static Api,
}

// SAFETY: the library's objects belong to no thread, and are used under one lock.
unsafe impl Send for Descriptor {}

impl Descriptor {
    pub(super) fn new(api: &'static Api, kind: i32) -> Result<Self, Refused> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is written during the call.
        api.check(unsafe { (api.create_descriptor)(kind, &raw mut raw) })?;
        Ok(Self { raw, api })
    }

    pub(super) fn raw(&self) -> Raw {
        self.raw
    }

    /// Sets an attribute to values of the type that `T` is.
    pub(super) fn set<T: Attribute>(&self, name: i32, values: &[T]) -> Result<(), Refused> {
        self.set_as(name, T::TYPE, values)
    }

    /// Sets an attribute of an enumeration's type.
    pub(super) fn set_word(&self, name: i32, kind: i32, word: i32) -> Result<(), Refused> {
        self.set_as(name, kind, &[word])
    }

    /// Sets an attribute to descriptors, which the library copies from.
    pub(super) fn set_parts(&self, name: i32, parts: &[&Self]) -> Result<(), Refused> {
        let raws: Vec<Raw> = parts.iter().map(|part| part.raw).collect();
        self.set_as(name, value::DESCRIPTOR, &raws)
    }

    /// Sets the library's handle.
    pub(super) fn set_handle(&self, name: i32, handle: Raw) -> Result<(), Refused> {
        self.set_as(name, value::HANDLE, &[handle])
    }

    fn set_as<T>(&self, name: i32, kind: i32, values: &[T]) -> Result<(), Refused> {
        let (count, first) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: the descriptor is alive, and `count` values are read during the call. A type of another size is refused
        // by the library, which knows the attribute's.
        self.api.check(unsafe { (self.api.set)(self.raw, name, kind, count, first) })
    }

    pub(super) fn finalize(self) -> Result<Self, Refused> {
        // SAFETY: the descriptor is alive.
        self.api.check(unsafe { (self.api.finalize)(self.raw) })?;
        Ok(self)
    }

    /// How many values an attribute has.
    pub(super) fn count(&self, name: i32, kind: i32) -> Result<usize, Refused> {
        let mut count = 0i64;
        // SAFETY: nothing but `count` is written where none is asked for.
        let status = unsafe { (self.api.get)(self.raw, name, kind, 0, &raw mut count, ptr::null_mut()) };
        self.api.check(status)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Reads as many values as there are room for, and tells how many that were.
    pub(super) fn read<T: Copy>(&self, name: i32, kind: i32, into: &mut [T]) -> Result<usize, Refused> {
        let (mut count, room) = (0i64, into.len() as i64);
        let first = into.as_mut_ptr().cast::<c_void>();
        // SAFETY: at most `room` values are written, of the type that the caller names.
        let status = unsafe { (self.api.get)(self.raw, name, kind, room, &raw mut count, first) };
        self.api.check(status)?;
        Ok(usize::try_from(count).unwrap_or(0).min(into.len()))
    }

    /// Descriptors of this kind that are an attribute's values.
    pub(super) fn parts(&self, name: i32, kind: i32, most: usize) -> Result<Vec<Self>, Refused> {
        let mut parts = (0..most).map(|_| Self::new(self.api, kind)).collect::<Result<Vec<_>, _>>()?;
        // The library fills in those that it is shown.
        let mut raws: Vec<Raw> = parts.iter().map(|part| part.raw).collect();
        let filled = self.read(name, value::DESCRIPTOR, &mut raws)?;
        parts.truncate(filled);
        Ok(parts)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once.
        let _ = unsafe { (self.api.destroy_descriptor)(self.raw) };
    }
}

/// A type of attributes.
pub(super) trait Attribute {
    const TYPE: i32;
}

impl Attribute for bool {
    const TYPE: i32 = value::BOOLEAN;
}

impl Attribute for i64 {
    const TYPE: i32 = value::INT64;
}

impl Attribute for f32 {
    const TYPE: i32 = value::FLOAT;
}

impl Attribute for f64 {
    const TYPE: i32 = value::DOUBLE;
}

impl Attribute for Raw {
    const TYPE: i32 = value::POINTER;
}
