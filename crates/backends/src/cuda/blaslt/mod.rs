//! cuBLASLt: plans of matrix products, made once for each shape and kept.
//!
//! The algorithm is the first that the library's heuristic names, so that a product is the same in every process. What has
//! one shape, one layout and one alignment has one plan.

#![expect(unsafe_code, reason = "calling cuBLASLt")]

mod plan;

use super::device;
use super::fastest::fastest;
use crate::Result;
use crate::algorithms::AlgorithmChoice;
use crate::buffer::ScalarType;
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::cublaslt::result as lt;
use candle_core::cuda_backend::cudarc::cublaslt::result::CublasError;
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DevicePtrMut};
use plan::{Factors, Handle, Plan};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError, Weak};

const OP: &str = "matrix product";
/// Plans of a context; beyond them all are made anew.
const PLANS: usize = 4096;

/// How an operand is stored: each of `count` matrices by rows (or by columns), `pitch` elements from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) by: Order,
    pub(crate) pitch: usize,
    /// From one matrix of a stack to the next.
    pub(crate) step: usize,
    /// What the first element's address is a multiple of.
    pub(crate) aligned: u32,
}

/// What lies one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    Rows,
    Columns,
}

/// What is added to a product before it is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Plus {
    /// A row, to each of its rows.
    pub(crate) row: bool,
    /// A matrix that is stored as the output is, or what the output holds.
    pub(crate) matrix: bool,
}

/// `out = a · b`, `count` times: `(m, k)` by `(k, n)`, the output by rows and without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) of: ScalarType,
    pub(crate) to: ScalarType,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) count: usize,
    pub(crate) a: Stored,
    pub(crate) b: Stored,
    /// As [`Stored::aligned`], of the output and of a matrix that is added.
    pub(crate) aligned: u32,
    pub(crate) plus: Plus,
    /// Whether f32 may be rounded to TF32 first.
    pub(crate) tf32: bool,
    /// Of the algorithm.
    pub(crate) choice: AlgorithmChoice,
}

/// The addresses of one product: `row` and `matrix` are read where [`Plus`] says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) out: u64,
    pub(crate) row: u64,
    pub(crate) matrix: u64,
}

/// Queues the product on the device's stream; `false` where the library has no algorithm for it.
///
/// # Safety
///
/// The addresses must be those of device memory with the elements that `shape` describes, valid until the stream has come to
/// the product.
pub(crate) unsafe fn multiply(gpu: &CudaDevice, shape: &Shape, at: Addresses) -> Result<bool> {
    let stream = gpu.cuda_stream();
    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    let library = Library::of(&mut libraries, stream.context())?;
    let handle = library.handle.raw();
    // SAFETY: the caller's promise.
    let Some(plan) = (unsafe { library.plan(gpu, shape, at) })? else { return Ok(false) };
    // SAFETY: likewise.
    unsafe { run(gpu, handle, plan, shape, at) }?.map_err(device(OP))?;
    Ok(true)
}

/// Queues the product by a plan; what the library says of it.
///
/// # Safety
///
/// As for [`multiply`].
unsafe fn run(
    gpu: &CudaDevice,
    handle: sys::cublasLtHandle_t,
    plan: &Plan,
    shape: &Shape,
    at: Addresses,
) -> Result<std::result::Result<(), CublasError>> {
    let stream = gpu.cuda_stream();
    let mut workspace = match plan.workspace() {
        0 => None,
        // SAFETY: the algorithm writes before it reads.
        bytes => Some(unsafe { gpu.alloc::<u8>(bytes) }.map_err(device(OP))?),
    };
    let used = workspace.as_mut().map(|workspace| workspace.device_ptr_mut(&stream));
    let scratch = used.as_ref().map_or(0, |(address, _)| *address);
    if shape.plus.row {
        plan.read_row_at(at.row)?;
    }
    let factors = Factors::of(shape);
    // SAFETY: the plan's descriptions are alive, factors are of the plan's scale type, and the rest is the caller's promise. The
    // workspace is freed in the order of the stream.
    Ok(unsafe {
        lt::matmul(
            handle,
            plan.description(),
            factors.one(),
            factors.added(),
            at.b as *const c_void,
            plan.first(),
            at.a as *const c_void,
            plan.second(),
            at.matrix as *const c_void,
            plan.out(),
            at.out as *mut c_void,
            plan.out(),
            plan.algorithm(),
            scratch as *mut c_void,
            plan.workspace(),
            stream.cu_stream().cast(),
        )
    })
}

static LIBRARIES: Mutex<Vec<Library>> = Mutex::new(Vec::new());

/// The library in one context, for as long as something else uses that.
struct Library {
    context: Weak<CudaContext>,
    handle: Handle,
    /// None for a shape that the library has no algorithm for.
    plans: HashMap<Shape, Option<Plan>>,
}

impl Library {
    fn of<'a>(all: &'a mut Vec<Self>, context: &Arc<CudaContext>) -> Result<&'a mut Self> {
        let here = Arc::downgrade(context);
        let at = match all.iter().position(|library| library.context.ptr_eq(&here)) {
            Some(at) => at,
            None => {
                all.retain(|library| library.context.strong_count() > 0);
                all.push(Self { context: here, handle: Handle::new(context)?, plans: HashMap::new() });
                all.len() - 1
            }
        };
        Ok(&mut all[at])
    }

    /// # Safety
    ///
    /// As for [`multiply`].
    unsafe fn plan(&mut self, gpu: &CudaDevice, shape: &Shape, at: Addresses) -> Result<Option<&Plan>> {
        if !self.plans.contains_key(shape) {
            if self.plans.len() >= PLANS {
                self.plans.clear();
            }
            let mut plan = Plan::new(&self.handle, shape)?;
            if let Some(plan) = &mut plan
                && shape.choice == AlgorithmChoice::Timed
            {
                // SAFETY: the caller's promise.
                unsafe { self.time(gpu, plan, shape, at) }?;
            }
            self.plans.insert(*shape, plan);
        }
        Ok(self.plans.get(shape).and_then(Option::as_ref))
    }

    /// Gives a plan the fastest of its algorithms, whose products go to memory of their own.
    ///
    /// # Safety
    ///
    /// As for [`multiply`].
    unsafe fn time(&self, gpu: &CudaDevice, plan: &mut Plan, shape: &Shape, at: Addresses) -> Result<()> {
        let algorithms = plan.algorithms(&self.handle, shape)?;
        let bytes = shape.count * shape.m * shape.n * shape.to.bytes();
        let best = fastest(gpu, algorithms.len(), bytes, |way, out| {
            plan.take(algorithms[way]);
            // SAFETY: the caller's promise, and `out` has room for the product. What the library refuses is left out.
            Ok(unsafe { run(gpu, self.handle.raw(), plan, shape, Addresses { out, ..at }) }?.is_ok())
        })?;
        if let Some(&best) = algorithms.get(best) {
            plan.take(best);
        }
        Ok(())
    }
}
