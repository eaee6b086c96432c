//! The kernels' machine code, loaded once in each of the driver's contexts.

use super::device;
use crate::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

/// One compiled `.cu` file: made by [`module!`].
#[derive(Clone, Copy)]
pub(crate) struct Module {
    /// The file's name, of which there is one among all kernels.
    pub(crate) name: &'static str,
    /// Machine code and PTX, of which the driver takes what fits the GPU.
    pub(crate) fatbin: &'static [u8],
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Module").field(&self.name).finish()
    }
}

/// What `build.rs` made of the `.cu` file of this name.
macro_rules! module {
    ($name:literal) => {
        $crate::cuda::Module {
            name: $name,
            fatbin: include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin")),
        }
    };
}
pub(crate) use module;

static LOADED: RwLock<Vec<Loaded>> = RwLock::new(Vec::new());

/// What is loaded in one context.
struct Loaded {
    context: Arc<CudaContext>,
    modules: HashMap<&'static str, Functions>,
}

/// A module and what has been asked of it.
struct Functions {
    module: Arc<CudaModule>,
    by_name: HashMap<String, CudaFunction>,
}

/// A kernel in a context. Where it is the first of its module there, the module is loaded, and those in contexts that
/// nothing else uses any more are unloaded.
pub(super) fn function(context: &Arc<CudaContext>, module: Module, name: &str) -> Result<CudaFunction> {
    // A panic leaves nothing half done: what is added is whole.
    let loaded = LOADED.read().unwrap_or_else(PoisonError::into_inner);
    let here = loaded.iter().find(|loaded| Arc::ptr_eq(&loaded.context, context));
    let functions = here.and_then(|loaded| loaded.modules.get(module.name));
    if let Some(function) = functions.and_then(|functions| functions.by_name.get(name)) {
        return Ok(function.clone());
    }
    drop(loaded);
    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    loaded.retain(Loaded::is_used);
    let here = match loaded.iter().position(|loaded| Arc::ptr_eq(&loaded.context, context)) {
        Some(at) => at,
        None => {
            loaded.push(Loaded { context: context.clone(), modules: HashMap::new() });
            loaded.len() - 1
        }
    };
    loaded[here].function(module, name)
}

impl Loaded {
    /// Whether anything holds the context beside this and its modules, each of which holds it once.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.context) > 1 + self.modules.len()
    }

    fn function(&mut self, module: Module, name: &str) -> Result<CudaFunction> {
        let functions = match self.modules.entry(module.name) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(free) => {
                let fatbin = Ptx::from_binary(module.fatbin.to_vec());
                let module = self.context.load_module(fatbin).map_err(device(name))?;
                free.insert(Functions { module, by_name: HashMap::new() })
            }
        };
        if let Some(function) = functions.by_name.get(name) {
            return Ok(function.clone());
        }
        let function = functions.module.load_function(name).map_err(device(name))?;
        functions.by_name.insert(name.to_string(), function.clone());
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use candle_core::CudaDevice;
    use candle_core::backend::BackendDevice;

    const MODULE: Module = module!("dropout");

    fn gpu() -> Option<CudaDevice> {
        match CudaDevice::new(0) {
            Ok(gpu) => Some(gpu),
            Err(error) => {
                let required = std::env::var("REQUIRE").unwrap_or_default();
                assert!(!required.split(',').any(|what| what == "cuda"), "cuda is required: {error}");
                println!("\nSKIPPED cuda: no GPU here");
                None
            }
        }
    }

    #[test]
    fn a_function_is_loaded_once_in_a_context() {
        let Some(gpu) = gpu() else { return };
        let stream = gpu.cuda_stream();
        let load = || function(stream.context(), MODULE, "dropout").unwrap().cu_function();
        let handles: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load() as usize)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(handles.iter().all(|&handle| handle == load() as usize), "{handles:?}");
    }

    #[test]
    fn what_fails_names_the_kernel() {
        let Some(gpu) = gpu() else { return };
        let stream = gpu.cuda_stream();
        let none = Module { name: "none", fatbin: b"no fatbin, and no PTX either\0" };
        for (module, name) in [(MODULE, "no_such_kernel"), (none, "of_no_module")] {
            let error = function(stream.context(), module, name).unwrap_err();
            assert!(matches!(&error, Error::Device { op, .. } if op == name), "{error}");
        }
    }

    #[test]
    fn a_context_that_nothing_uses_is_let_go() {
        let Some(gpu) = gpu() else { return };
        let context = Arc::downgrade(gpu.cuda_stream().context());
        let kernel = function(gpu.cuda_stream().context(), MODULE, "dropout").unwrap();
        drop((gpu, kernel));
        let Some(other) = self::gpu() else { return };
        function(other.cuda_stream().context(), MODULE, "dropout").unwrap();
        assert!(context.upgrade().is_none());
    }
}
