//! The part of cuDNN's interface that is used, from a library that is opened at run time, so that a program runs with it
//! or without it.
//!
//! The names and numbers are those of `cudnn_graph.h`, which are the same in all of cuDNN 9.

#![expect(unsafe_code, reason = "opening a library and calling it")]

use libloading::Library;
use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

/// What the loader looks for, in this order.
const NAMES: &[&str] = &["libcudnn.so.9", "libcudnn.so"];
/// The oldest version whose numbers these are.
const OLDEST: usize = 90_000;

/// An object of the library's.
pub(super) type Raw = *mut c_void;
type Status = i32;

/// Kinds of descriptors.
pub(super) mod kind {
    pub(crate) const POINTWISE: i32 = 0;
    pub(crate) const CONVOLUTION: i32 = 1;
    pub(crate) const ENGINE: i32 = 2;
    pub(crate) const ENGINE_CONFIG: i32 = 3;
    pub(crate) const HEURISTIC: i32 = 4;
    pub(crate) const PLAN: i32 = 5;
    pub(crate) const FORWARD: i32 = 10;
    pub(crate) const BACKWARD_FILTER: i32 = 11;
    pub(crate) const BACKWARD_DATA: i32 = 12;
    pub(crate) const POINTWISE_OPERATION: i32 = 13;
    pub(crate) const GRAPH: i32 = 15;
    pub(crate) const VARIANT_PACK: i32 = 16;
    pub(crate) const TENSOR: i32 = 17;
}

/// Attributes of descriptors.
pub(super) mod attribute {
    pub(crate) const POINTWISE_MODE: i32 = 0;
    pub(crate) const POINTWISE_COMPUTES_IN: i32 = 1;
    pub(crate) const CONVOLUTION_COMPUTES_IN: i32 = 100;
    pub(crate) const CONVOLUTION_MODE: i32 = 101;
    pub(crate) const CONVOLUTION_DILATIONS: i32 = 102;
    pub(crate) const CONVOLUTION_STRIDES: i32 = 103;
    pub(crate) const CONVOLUTION_POST_PADDINGS: i32 = 104;
    pub(crate) const CONVOLUTION_PRE_PADDINGS: i32 = 105;
    pub(crate) const CONVOLUTION_SPATIAL_DIMS: i32 = 106;
    pub(crate) const HEURISTIC_MODE: i32 = 200;
    pub(crate) const HEURISTIC_GRAPH: i32 = 201;
    pub(crate) const HEURISTIC_RESULTS: i32 = 202;
    pub(crate) const CONFIG_ENGINE: i32 = 300;
    pub(crate) const PLAN_HANDLE: i32 = 400;
    pub(crate) const PLAN_CONFIG: i32 = 401;
    pub(crate) const PLAN_WORKSPACE: i32 = 402;
    /// The first of the forward operation's: alpha, beta, the convolution, w, x, y.
    pub(crate) const FORWARD: i32 = 700;
    /// The first of the data gradient's: alpha, beta, the convolution, w, dx, dy.
    pub(crate) const BACKWARD_DATA: i32 = 706;
    /// The first of the filter gradient's: alpha, beta, the convolution, dw, x, dy.
    pub(crate) const BACKWARD_FILTER: i32 = 712;
    /// The first of the pointwise operation's: what it does, x, b, y.
    pub(crate) const POINTWISE_OPERATION: i32 = 750;
    pub(crate) const GRAPH_HANDLE: i32 = 800;
    pub(crate) const GRAPH_OPERATIONS: i32 = 801;
    pub(crate) const TENSOR_ALIGNMENT: i32 = 900;
    pub(crate) const TENSOR_TYPE: i32 = 901;
    pub(crate) const TENSOR_DIMENSIONS: i32 = 902;
    pub(crate) const TENSOR_STRIDES: i32 = 903;
    pub(crate) const TENSOR_ID: i32 = 906;
    pub(crate) const TENSOR_IS_VIRTUAL: i32 = 907;
    pub(crate) const PACK_IDS: i32 = 1000;
    pub(crate) const PACK_POINTERS: i32 = 1001;
    pub(crate) const PACK_WORKSPACE: i32 = 1003;
    pub(crate) const ENGINE_NOTES: i32 = 1303;
}

/// Types of attributes.
pub(super) mod value {
    pub(crate) const HANDLE: i32 = 0;
    pub(crate) const DATA_TYPE: i32 = 1;
    pub(crate) const BOOLEAN: i32 = 2;
    pub(crate) const INT64: i32 = 3;
    pub(crate) const FLOAT: i32 = 4;
    pub(crate) const DOUBLE: i32 = 5;
    pub(crate) const POINTER: i32 = 6;
    pub(crate) const CONVOLUTION_MODE: i32 = 7;
    pub(crate) const HEURISTIC_MODE: i32 = 8;
    pub(crate) const NUMERICAL_NOTE: i32 = 11;
    pub(crate) const POINTWISE_MODE: i32 = 14;
    pub(crate) const DESCRIPTOR: i32 = 15;
}

/// What an engine's sums are like.
pub(super) mod note {
    pub(crate) const TENSOR_CORE: i32 = 0;
    pub(crate) const DOWN_CONVERTS: i32 = 1;
    pub(crate) const NARROW_SUMS: i32 = 2;
    pub(crate) const FFT: i32 = 3;
    pub(crate) const NONDETERMINISTIC: i32 = 4;
    pub(crate) const WINOGRAD: i32 = 5;
    pub(crate) const WINOGRAD_13X13: i32 = 8;
}

/// The library's functions.
pub(super) struct Api {
    pub(super) create: unsafe extern "C" fn(*mut Raw) -> Status,
    pub(super) destroy: unsafe extern "C" fn(Raw) -> Status,
    pub(super) set_stream: unsafe extern "C" fn(Raw, Raw) -> Status,
    pub(super) create_descriptor: unsafe extern "C" fn(i32, *mut Raw) -> Status,
    pub(super) destroy_descriptor: unsafe extern "C" fn(Raw) -> Status,
    pub(super) set: unsafe extern "C" fn(Raw, i32, i32, i64, *const c_void) -> Status,
    pub(super) get: unsafe extern "C" fn(Raw, i32, i32, i64, *mut i64, *mut c_void) -> Status,
    pub(super) finalize: unsafe extern "C" fn(Raw) -> Status,
    pub(super) execute: unsafe extern "C" fn(Raw, Raw, Raw) -> Status,
    error: unsafe extern "C" fn(Status) -> *const c_char,
    _library: Library,
}

/// The library, opened at the first call; else why it cannot be.
pub(super) fn api() -> Result<&'static Api, &'static str> {
    static API: OnceLock<Result<Api, String>> = OnceLock::new();
    API.get_or_init(Api::open).as_ref().map_err(String::as_str)
}

impl Api {
    fn open() -> Result<Self, String> {
        // SAFETY: cuDNN's initialisers may run at any time.
        let opened = NAMES.iter().map(|&name| unsafe { Library::new(name) });
        let library = opened.reduce(Result::or).ok_or("no name")?.map_err(|error| error.to_string())?;
        // SAFETY: the types are those of `cudnn.h`, whose names these are.
        unsafe {
            let version: unsafe extern "C" fn() -> usize = symbol(&library, "cudnnGetVersion")?;
            let version = version();
            if version < OLDEST {
                return Err(format!("it is version {version}, and {OLDEST} is the oldest that is known"));
            }
            Ok(Self {
                create: symbol(&library, "cudnnCreate")?,
                destroy: symbol(&library, "cudnnDestroy")?,
                set_stream: symbol(&library, "cudnnSetStream")?,
                create_descriptor: symbol(&library, "cudnnBackendCreateDescriptor")?,
                destroy_descriptor: symbol(&library, "cudnnBackendDestroyDescriptor")?,
                set: symbol(&library, "cudnnBackendSetAttribute")?,
                get: symbol(&library, "cudnnBackendGetAttribute")?,
                finalize: symbol(&library, "cudnnBackendFinalize")?,
                execute: symbol(&library, "cudnnBackendExecute")?,
                error: symbol(&library, "cudnnGetErrorString")?,
                _library: library,
            })
        }
    }

    /// Nothing, or the library's words.
    pub(super) fn check(&self, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the library returns a string that lives as long as it does, for any status.
        let words = unsafe { (self.error)(status) };
        if words.is_null() {
            return Err(format!("cuDNN status {status}"));
        }
        // SAFETY: as above.
        Err(unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned())
    }
}

/// # Safety
///
/// `T` must be the type of the function of this name.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: the caller's promise.
    unsafe { library.get::<T>(name.as_bytes()) }.map(|symbol| *symbol).map_err(|error| error.to_string())
}
