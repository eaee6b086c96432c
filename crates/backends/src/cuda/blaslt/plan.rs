//! One shape's descriptions and its algorithm.
//!
//! cuBLAS stores by columns. What is stored by rows is the transposed matrix there, so that `out = a · b` is asked for as
//! `outᵀ = bᵀ · aᵀ`, and the library's first operand is our second.

#![expect(unsafe_code, reason = "calling cuBLASLt")]

use super::super::device;
use super::super::fastest::CANDIDATES;
use super::{OP, Order, Shape, Stored};
use crate::Result;
use crate::buffer::ScalarType;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t as Operation;
use candle_core::cuda_backend::cudarc::cublaslt::result as lt;
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::cublaslt::sys::{
    cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Preferred,
    cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cudaDataType as Type,
};
use candle_core::cuda_backend::cudarc::driver::CudaContext;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

/// Memory that an algorithm may ask for: what NVIDIA recommends on Hopper.
const WORKSPACE: usize = 32 << 20;

/// The library's state in one context.
pub(super) struct Handle(sys::cublasLtHandle_t);

// SAFETY: the library's functions may be called from any thread, and here under one lock.
unsafe impl Send for Handle {}

impl Handle {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().map_err(device(OP))?;
        Ok(Self(lt::create_handle().map_err(device(OP))?))
    }

    pub(super) fn raw(&self) -> sys::cublasLtHandle_t {
        self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once. Where the context is gone, so is what the library would free.
        let _ = unsafe { lt::destroy_handle(self.0) };
    }
}

/// How a shape is multiplied.
pub(super) struct Plan {
    of: Described,
    algorithm: Algorithm,
}

/// An algorithm, and the bytes of scratch memory that it takes.
#[derive(Clone, Copy)]
pub(super) struct Algorithm {
    of: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

impl Plan {
    /// With the algorithm that the library's heuristic names first. `None` where the library has none.
    pub(super) fn new(handle: &Handle, shape: &Shape) -> Result<Option<Self>> {
        let Some(of) = Described::new(shape)? else { return Ok(None) };
        let best = of.algorithms(handle, shape, 1)?.first().copied();
        Ok(best.map(|algorithm| Self { of, algorithm }))
    }

    /// What the heuristic names, the best first.
    pub(super) fn algorithms(&self, handle: &Handle, shape: &Shape) -> Result<Vec<Algorithm>> {
        self.of.algorithms(handle, shape, CANDIDATES)
    }

    /// Multiplies by this algorithm from now on.
    pub(super) fn take(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
    }

    /// Has the next product add the row at this address.
    pub(super) fn read_row_at(&self, address: u64) -> Result<()> {
        self.of.description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, address)
    }

    pub(super) fn description(&self) -> sys::cublasLtMatmulDesc_t {
        self.of.description.0
    }

    /// Of our `b`.
    pub(super) fn first(&self) -> sys::cublasLtMatrixLayout_t {
        self.of.first.0
    }

    /// Of our `a`.
    pub(super) fn second(&self) -> sys::cublasLtMatrixLayout_t {
        self.of.second.0
    }

    pub(super) fn out(&self) -> sys::cublasLtMatrixLayout_t {
        self.of.out.0
    }

    pub(super) fn algorithm(&self) -> *const sys::cublasLtMatmulAlgo_t {
        &raw const self.algorithm.of
    }

    /// Bytes of scratch memory.
    pub(super) fn workspace(&self) -> usize {
        self.algorithm.workspace
    }
}

/// A shape as the library sees it.
struct Described {
    description: Description,
    first: Layout,
    second: Layout,
    out: Layout,
}

impl Described {
    /// `None` for types that it does not multiply.
    fn new(shape: &Shape) -> Result<Option<Self>> {
        let &Shape { of, to, m, n, k, count, a, b, .. } = shape;
        let (Some(of), Some(to)) = (data_type(of), data_type(to)) else { return Ok(None) };
        let by_rows = Stored { by: Order::Rows, pitch: n, step: m * n, aligned: shape.aligned };
        Ok(Some(Self {
            description: Description::new(shape)?,
            first: Layout::new(of, (k, n), b, count)?,
            second: Layout::new(of, (m, k), a, count)?,
            out: Layout::new(to, (m, n), by_rows, count)?,
        }))
    }

    /// At most so many, the best first; none where it has none.
    fn algorithms(&self, handle: &Handle, shape: &Shape, most: usize) -> Result<Vec<Algorithm>> {
        let preference = Preference::new([shape.b.aligned, shape.a.aligned, shape.aligned])?;
        let mut results =
            [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit() }; CANDIDATES];
        let mut count = 0;
        // SAFETY: all descriptions are alive, and there is room for the results, of which `count` are written.
        let named = unsafe {
            let status = sys::cublasLtMatmulAlgoGetHeuristic(
                handle.0,
                self.description.0,
                self.first.0,
                self.second.0,
                self.out.0,
                self.out.0,
                preference.0,
                most.min(CANDIDATES) as i32,
                results.as_mut_ptr().cast(),
                &raw mut count,
            );
            let count = status.result().map_or(0, |()| count as usize);
            results[..count.min(CANDIDATES)].iter().map(|result| result.assume_init())
        };
        let usable = named.filter(|result| result.state.result().is_ok());
        Ok(usable.map(|result| Algorithm { of: result.algo, workspace: result.workspaceSize }).collect())
    }
}

fn data_type(of: ScalarType) -> Option<Type> {
    match of {
        ScalarType::F16 => Some(Type::CUDA_R_16F),
        ScalarType::Bf16 => Some(Type::CUDA_R_16BF),
        ScalarType::F32 => Some(Type::CUDA_R_32F),
        ScalarType::F64 => Some(Type::CUDA_R_64F),
        _ => None,
    }
}

/// What is computed, and in what.
struct Description(sys::cublasLtMatmulDesc_t);

// SAFETY: as for `Handle`.
unsafe impl Send for Description {}

impl Description {
    fn new(shape: &Shape) -> Result<Self> {
        let (compute, scale) = match (shape.of, shape.tf32) {
            (ScalarType::F64, _) => (Compute::CUBLAS_COMPUTE_64F, Type::CUDA_R_64F),
            (ScalarType::F32, true) => (Compute::CUBLAS_COMPUTE_32F_FAST_TF32, Type::CUDA_R_32F),
            _ => (Compute::CUBLAS_COMPUTE_32F, Type::CUDA_R_32F),
        };
        let description = Self(lt::create_matmul_desc(compute, scale).map_err(device(OP))?);
        let operation = |stored: Stored| match stored.by {
            Order::Rows => Operation::CUBLAS_OP_N,
            Order::Columns => Operation::CUBLAS_OP_T,
        };
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, operation(shape.b))?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, operation(shape.a))?;
        if shape.plus.row {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, Epilogue::CUBLASLT_EPILOGUE_BIAS)?;
        }
        Ok(description)
    }

    fn set<T>(&self, attribute: Attribute, value: T) -> Result<()> {
        let value = &raw const value;
        // SAFETY: the description is alive, and `value` is read during the call.
        unsafe { lt::set_matmul_desc_attribute(self.0, attribute, value.cast(), size_of::<T>()) }
            .map_err(device(OP))
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once.
        let _ = unsafe { lt::destroy_matmul_desc(self.0) };
    }
}

/// How an operand is stored, as the library sees it.
struct Layout(sys::cublasLtMatrixLayout_t);

// SAFETY: as for `Handle`.
unsafe impl Send for Layout {}

impl Layout {
    fn new(of: Type, (rows, columns): (usize, usize), stored: Stored, count: usize) -> Result<Self> {
        let (runs, run) = match stored.by {
            Order::Rows => (rows, columns),
            Order::Columns => (columns, rows),
        };
        let layout = lt::create_matrix_layout(of, run as u64, runs as u64, stored.pitch as i64);
        let layout = Self(layout.map_err(device(OP))?);
        if count > 1 {
            layout.set(LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count as i32)?;
            let step = LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
            layout.set(step, stored.step as i64)?;
        }
        Ok(layout)
    }

    fn set<T>(&self, attribute: LayoutAttribute, value: T) -> Result<()> {
        let value = &raw const value;
        // SAFETY: the layout is alive, and `value` is read during the call.
        unsafe { lt::set_matrix_layout_attribute(self.0, attribute, value.cast(), size_of::<T>()) }
            .map_err(device(OP))
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once.
        let _ = unsafe { lt::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may use.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    /// For operands and an output whose addresses are multiples of these.
    fn new([a, b, out]: [u32; 3]) -> Result<Self> {
        let preference = Self(lt::create_matmul_pref().map_err(device(OP))?);
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE)?;
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a)?;
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b)?;
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out)?;
        preference.set(Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out)?;
        Ok(preference)
    }

    fn set<T>(&self, attribute: Preferred, value: T) -> Result<()> {
        let value = &raw const value;
        // SAFETY: the preference is alive, and `value` is read during the call.
        unsafe { lt::set_matmul_pref_attribute(self.0, attribute, value.cast(), size_of::<T>()) }
            .map_err(device(OP))
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it was created, and is destroyed once.
        let _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}

/// What the product and what is added to it are multiplied by, in the type that is computed in.
pub(super) struct Factors {
    wide: bool,
    adds: bool,
}

impl Factors {
    pub(super) fn of(shape: &Shape) -> Self {
        Self { wide: shape.of == ScalarType::F64, adds: shape.plus.matrix }
    }

    pub(super) fn one(&self) -> *const c_void {
        if self.wide { ptr::from_ref(&1f64).cast() } else { ptr::from_ref(&1f32).cast() }
    }

    pub(super) fn added(&self) -> *const c_void {
        match (self.adds, self.wide) {
            (true, _) => self.one(),
            (false, true) => ptr::from_ref(&0f64).cast(),
            (false, false) => ptr::from_ref(&0f32).cast(),
        }
    }
}
