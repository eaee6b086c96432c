//! cuDNN: engines for convolutions, chosen once for each shape and kept.
//!
//! The library is opened at run time. The engine is the first that its heuristic names among those that add in f32 (f64 for f64)
//! and always in the same order, so that a convolution is the same in every process; or the fastest of some of them, where that is
//! asked for. What has one shape, one layout and one alignment has one engine.

#![expect(unsafe_code, reason = "calling cuDNN")]

mod descriptor;
mod plan;
mod sys;

use super::device;
use super::fastest::{CANDIDATES, fastest};
use crate::algorithms::AlgorithmChoice;
use crate::buffer::ScalarType;
use crate::{Error, Result};
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DevicePtrMut};
use descriptor::{Descriptor, Refused};
use plan::{Engine, Engines, IDS};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use sys::{Api, Raw, attribute, kind};

const OP: &str = "convolution";
/// Convolutions of a context whose engines are kept; beyond them all are chosen anew.
const PLANS: usize = 4096;
/// The most scratch memory of an engine, in bytes.
pub(super) const WORKSPACE: usize = 256 << 20;

/// The addresses of image, kernel and values, and of the bias where there is one.
pub(crate) type Addresses = [u64; 4];

/// Which of the three operands is computed from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Values,
    Image,
    Kernel,
}

/// An operand of four dimensions, the channels' second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Operand {
    pub(crate) dims: [i64; 4],
    pub(crate) strides: [i64; 4],
    /// What the first element's address is a multiple of.
    pub(crate) aligned: i64,
}

/// A convolution, whose groups are what the kernel's channels are too few by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convolution {
    pub(crate) way: Way,
    pub(crate) of: ScalarType,
    pub(crate) image: Operand,
    pub(crate) kernel: Operand,
    pub(crate) values: Operand,
    pub(crate) padding: [i64; 2],
    pub(crate) stride: [i64; 2],
    pub(crate) dilation: [i64; 2],
    /// Whether f32 may be rounded to TF32 first.
    pub(crate) tf32: bool,
    /// What the address of a bias is a multiple of, where one is added to the values.
    pub(crate) bias: Option<i64>,
    /// Of the engine.
    pub(crate) choice: AlgorithmChoice,
}

impl Convolution {
    /// Bytes from the first to the last element of what is written, whose address is the one of these.
    fn written(&self) -> (usize, usize) {
        let (at, operand) = match self.way {
            Way::Image => (0, &self.image),
            Way::Kernel => (1, &self.kernel),
            Way::Values => (2, &self.values),
        };
        let last: i64 =
            operand.dims.iter().zip(&operand.strides).map(|(&dim, &stride)| (dim - 1) * stride).sum();
        (at, (last.max(0) as usize + 1) * self.of.bytes())
    }
}

/// Queues the convolution on the device's stream; `false` where there is no library, or it has no engine.
///
/// # Safety
///
/// The addresses, of image, kernel, values and bias, must be those of device memory with the elements that `of` describes, valid until
/// the stream has come to the convolution.
pub(crate) unsafe fn convolve(gpu: &CudaDevice, of: &Convolution, at: Addresses) -> Result<bool> {
    let api = match sys::api() {
        Ok(api) => api,
        Err(why) => return Ok(without(why)),
    };
    let stream = gpu.cuda_stream();
    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    let library = Library::of(api, &mut libraries, stream.context())?;
    let handle = library.handle.raw;
    // SAFETY: the caller's promise.
    let Some(engine) = (unsafe { library.engine(gpu, of, at) })? else { return Ok(false) };
    // SAFETY: likewise.
    unsafe { run(gpu, (api, handle), engine, of, at) }?.map_err(device(OP))?;
    Ok(true)
}

/// Queues the convolution by an engine; what the library says of it.
///
/// # Safety
///
/// As for [`convolve`].
unsafe fn run(
    gpu: &CudaDevice,
    (api, handle): (&'static Api, Raw),
    engine: &Engine,
    of: &Convolution,
    at: Addresses,
) -> Result<std::result::Result<(), Refused>> {
    let stream = gpu.cuda_stream();
    let mut workspace = match engine.workspace {
        0 => None,
        // SAFETY: the engine writes before it reads.
        bytes => Some(unsafe { gpu.alloc::<u8>(bytes) }.map_err(|error| no_memory(of, bytes, &error))?),
    };
    let used = workspace.as_mut().map(|workspace| workspace.device_ptr_mut(&stream));
    let scratch = used.as_ref().map_or(0, |(address, _)| *address);
    let operands = if of.bias.is_some() { &at[..] } else { &at[..3] };
    let pack = packed(api, operands, scratch).map_err(device(OP))?;
    // SAFETY: handle, engine and pack are alive, and the stream is the context's; the rest is the caller's promise. The workspace is
    // freed in the order of the stream.
    Ok(unsafe {
        api.check((api.set_stream)(handle, stream.cu_stream().cast()))
            .and_then(|()| api.check((api.execute)(handle, engine.plan.raw(), pack.raw())))
    })
}

fn no_memory(of: &Convolution, bytes: usize, error: &dyn std::fmt::Display) -> Error {
    let message =
        format!("no {bytes} bytes of scratch memory for {:?} of {:?}: {error}", of.way, of.image.dims);
    Error::Device { op: OP.into(), message }
}

/// Says once that convolutions are composed, and why.
fn without(why: &str) -> bool {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        eprintln!(
            "warning: convolutions are composed of other ops, which is slower: cuDNN 9 cannot be opened ({why}). Name the \
             folder of libcudnn.so.9 in LD_LIBRARY_PATH"
        );
    });
    false
}

fn packed(api: &'static Api, at: &[u64], scratch: u64) -> std::result::Result<Descriptor, Refused> {
    let pack = Descriptor::new(api, kind::VARIANT_PACK)?;
    let addresses: Vec<_> = at.iter().map(|&address| address as *mut c_void).collect();
    pack.set(attribute::PACK_IDS, &IDS[..at.len()])?;
    pack.set(attribute::PACK_POINTERS, &addresses)?;
    pack.set(attribute::PACK_WORKSPACE, &[scratch as *mut c_void])?;
    pack.finalize()
}

static LIBRARIES: Mutex<Vec<Library>> = Mutex::new(Vec::new());

/// The library's state in one context.
struct Handle {
    raw: Raw,
    api: &'static Api,
}

// SAFETY: the library's functions may be called from any thread, and here under one lock.
unsafe impl Send for Handle {}

impl Handle {
    fn new(api: &'static Api, context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().map_err(device(OP))?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: `raw` is written during the call.
        api.check(unsafe { (api.create)(&raw mut raw) }).map_err(device(OP))?;
        Ok(Self { raw, api })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once. Where the context is gone, so is what the library would free.
        let _ = unsafe { (self.api.destroy)(self.raw) };
    }
}

/// The library in one context, for as long as something else uses that.
struct Library {
    api: &'static Api,
    context: Weak<CudaContext>,
    /// One for each convolution, none where the library has none. Before the handle, which they were made with.
    engines: HashMap<Convolution, Engines>,
    handle: Handle,
}

impl Library {
    fn of<'a>(api: &'static Api, all: &'a mut Vec<Self>, context: &Arc<CudaContext>) -> Result<&'a mut Self> {
        let here = Arc::downgrade(context);
        let at = match all.iter().position(|library| library.context.ptr_eq(&here)) {
            Some(at) => at,
            None => {
                all.retain(|library| library.context.strong_count() > 0);
                let handle = Handle::new(api, context)?;
                all.push(Self { api, context: here, engines: HashMap::new(), handle });
                all.len() - 1
            }
        };
        Ok(&mut all[at])
    }

    /// # Safety
    ///
    /// As for [`convolve`].
    unsafe fn engine(
        &mut self,
        gpu: &CudaDevice,
        of: &Convolution,
        at: Addresses,
    ) -> Result<Option<&Engine>> {
        if !self.engines.contains_key(of) {
            if self.engines.len() >= PLANS {
                self.engines.clear();
            }
            let most = if of.choice == AlgorithmChoice::Timed { CANDIDATES } else { 1 };
            let mut engines = Engines::new(self.api, self.handle.raw, of, most).map_err(device(OP))?;
            // SAFETY: the caller's promise.
            let best = unsafe { self.fastest(gpu, &engines.all, of, at) }?;
            engines.keep(best);
            self.engines.insert(*of, engines);
        }
        Ok(self.engines.get(of).and_then(|engines| engines.all.first()))
    }

    /// The place of the fastest engine, whose results go to memory of their own; of the first where none can be timed.
    ///
    /// # Safety
    ///
    /// As for [`convolve`].
    unsafe fn fastest(
        &self,
        gpu: &CudaDevice,
        engines: &[Engine],
        of: &Convolution,
        at: Addresses,
    ) -> Result<usize> {
        let (written, bytes) = of.written();
        fastest(gpu, engines.len(), bytes, |way, out| {
            let mut at = at;
            at[written] = out;
            // SAFETY: the caller's promise, and `out` has room for what is written. What the library refuses is left out.
            Ok(unsafe { run(gpu, (self.api, self.handle.raw), &engines[way], of, at) }?.is_ok())
        })
    }
}
